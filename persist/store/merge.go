package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"sluice/engine/order"
)

// mergePiece is the number of entries of one transaction of a merge: it holds the file for some 10 ms.
const mergePiece = 2_000

// filterPage is the number of keys that are read into the filter at a time.
const filterPage = 10_000

// mergeLook is the time between two looks whether anything is recorded.
const mergeLook = time.Second

// mergeRetry is the pause after a merge that failed.
const mergeRetry = time.Second

// keepKeysMerged fills the filter and then merges whenever it is due, or at rest, until ctx ends. What fails is tried again.
func (s *Store) keepKeysMerged(ctx context.Context, sh *shard) {
	if !sh.keys.retry(ctx, func() error { return s.fillFilter(ctx, sh) }) {
		return
	}
	look := time.NewTicker(mergeLook)
	defer look.Stop()
	for before := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-sh.keys.due:
		case <-look.C:
			now := sh.keys.waiting()
			rest := now == before && now >= sh.keys.mergeAtRest
			if before = now; !rest {
				continue
			}
		}
		if !sh.keys.retry(ctx, func() error { return s.mergeKeys(ctx, sh) }) {
			return
		}
	}
}

// retry calls f until it succeeds; false if ctx ended before.
func (x *keyIndex) retry(ctx context.Context, f func() error) bool {
	for f() != nil {
		if ctx.Err() == nil {
			x.failures.Add(1)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(mergeRetry):
		}
	}
	return true
}

// fillFilter reads order_key into the filter, page by page: a long read would keep the write-ahead log from starting
// anew. What is merged meanwhile is added by its merge.
func (s *Store) fillFilter(ctx context.Context, sh *shard) error {
	const query = "SELECT user_id, key_hash, order_id FROM order_key WHERE (user_id, key_hash, order_id) > (?, ?, ?)" +
		" ORDER BY user_id, key_hash, order_id LIMIT ?"
	last := [3]int64{-1 << 63, -1 << 63, -1 << 63}
	for n := filterPage; n == filterPage; {
		var page []KeyRef
		n = 0
		err := s.query(ctx, sh.number, query, func(r *sql.Rows) error {
			n++
			err := r.Scan(&last[0], &last[1], &last[2])
			page = append(page, KeyRef{order.UserID(last[0]), uint64(last[1])})
			return err
		}, last[0], last[1], last[2], filterPage)
		if err != nil {
			return err
		}
		sh.keys.filter(page)
	}
	sh.keys.mu.Lock()
	defer sh.keys.mu.Unlock()
	sh.keys.complete = true
	return nil
}

// filter adds keys to the filter.
func (x *keyIndex) filter(keys []KeyRef) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, k := range keys {
		if k.Key != 0 {
			x.merged.Add(filterKey(k))
		}
	}
}

// mergeKeys moves what is in memory and in runs into order_key. An error leaves the rest of it to the next call.
func (s *Store) mergeKeys(ctx context.Context, sh *shard) error {
	runs, err := s.beginMerge(ctx, sh)
	if err != nil {
		return err
	}
	entries := slices.Clone(sh.keys.merging.entries) // only this goroutine ends a merge
	slices.SortFunc(entries, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(int64(a.Key), int64(b.Key)), cmp.Compare(a.id, b.id))
	})
	into := insert{into: "order_key (user_id, key_hash, order_id)", columns: 3, tail: s.dialect.upsert("user_id, key_hash, order_id", "")}
	for len(entries) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := entries[:min(len(entries), mergePiece)]
		entries = entries[len(piece):]
		values := make([]any, 0, into.columns*len(piece))
		keys := make([]KeyRef, len(piece))
		for i, e := range piece {
			values = append(values, int64(e.User), int64(e.Key), int64(e.id))
			keys[i] = e.KeyRef
		}
		// In the line of the sale, whose doing this is: others wait for one piece at most.
		err := s.update(ctx, sh.number, order.Flash, func(t *tx) error { return t.insertRows(into, values) })
		if err != nil {
			return err
		}
		sh.keys.filter(keys)
	}
	err = s.update(ctx, sh.number, order.Flash, func(t *tx) error {
		_, err := t.exec("DELETE FROM order_key_run WHERE n <= ?", runs)
		return err
	})
	if err != nil {
		return err
	}
	sh.keys.mu.Lock()
	defer sh.keys.mu.Unlock()
	sh.keys.merging = nil
	return nil
}

// beginMerge sets what is in memory aside, unless an earlier merge failed and is to be ended first, and returns the last
// run that it covers. It has the turn: no transaction is between entries in memory and its run.
func (s *Store) beginMerge(ctx context.Context, sh *shard) (runs int64, err error) {
	if err := sh.turn.take(ctx, order.Flash); err != nil {
		return 0, err
	}
	defer sh.turn.give()
	x := sh.keys
	if x.merging == nil {
		x.lastRun = x.run
		x.mu.Lock()
		defer x.mu.Unlock()
		x.merging, x.fresh = x.fresh, new(unmerged)
	}
	return x.lastRun, nil
}
