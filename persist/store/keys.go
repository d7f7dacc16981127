package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/bits-and-blooms/bloom/v3"

	"sluice/engine/order"
)

// How a SQLite shard finds orders by user and by key. As an index of the table of orders, where every random key dirties
// a page, that was more than half of the cost of recording. A SQLite file has one process and one writer, so
// the index is a log-structured merge tree (O'Neil et al., 1996) of two levels instead:
//
//	order_key_run  what is not merged yet: one row per recording transaction with the entries of its orders
//	keyIndex       the same in memory, and a Bloom filter of the keys in order_key
//	order_key      what is merged, by user, key and order id
//
// An entry is a hint and the row of its order decides: a transaction that was rolled back leaves entries in
// memory, which name orders that are not stored, and a merge may bring them into order_key. The other way round
// must hold at all times: a stored order has its entry in a run or in order_key, because its transaction writes the run,
// and a run in memory, because it is entered there before that transaction commits and read again at start.
//
// A merge moves what is in memory in pieces, a transaction each, and deletes the runs with the last one. After a crash
// before that the runs are read again, and merged again over what was done.

// entryBytes is the size of an entry in a run: user, key and order id, big-endian.
const entryBytes = 24

// A merge is due when this many entries or runs wait for it: many at once come to lie on the same pages, and few at once
// are quickly read at a start.
const (
	mergeEntries = 100_000
	mergeRuns    = 1_000
)

// The filter takes 16 MiB per file. Of 10 million keys it takes one strange key in 500 for known, of 20 million one in
// 20, and then recording looks it up.
const (
	filterBits   = 1 << 27
	filterHashes = 6
)

// keyEntry says that an order is the user's and holds a key; Key is 0 if it holds none.
type keyEntry struct {
	KeyRef
	id order.ID
}

func newKeyEntry(e *entry) keyEntry {
	k := keyEntry{KeyRef{User: e.row.Record.User}, e.id()}
	if e.keyed() {
		k.Key = indexed(e.hash)
	}
	return k
}

// indexed is a key's hash as the index holds it: 0 is taken. As with any other hint the order's row decides.
func indexed(hash uint64) uint64 { return max(hash, 1) }

// keyIndex is the part of the index that is in memory. It is safe for concurrent use.
type keyIndex struct {
	mu       sync.RWMutex
	fresh    *unmerged
	merging  *unmerged // being merged; else nil
	merged   *bloom.BloomFilter
	complete bool          // merged has all that is in order_key
	lastRun  int64         // that merging covers; the merging goroutine's
	due      chan struct{} // wakes the merge
}

// unmerged are the entries of some runs.
type unmerged struct {
	runs    int
	entries []keyEntry
	before  []int32          // of an entry: the same user's entry before it, or -1
	last    map[KeyRef]int32 // the last entry of a key and, under key 0, of a user
}

func newUnmerged() *unmerged { return &unmerged{last: make(map[KeyRef]int32)} }

func newKeyIndex() *keyIndex {
	return &keyIndex{fresh: newUnmerged(), merged: bloom.New(filterBits, filterHashes), due: make(chan struct{}, 1)}
}

func (x *keyIndex) add(e keyEntry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	u, n := x.fresh, int32(len(x.fresh.entries))
	user := KeyRef{User: e.User}
	before, ok := u.last[user]
	if !ok {
		before = -1
	}
	u.entries, u.before = append(u.entries, e), append(u.before, before)
	u.last[user] = n
	if e.Key != 0 {
		u.last[e.KeyRef] = n
	}
}

// added counts a run whose entries were added, and wakes the merge when it is due.
func (x *keyIndex) added() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh.runs++
	if len(x.fresh.entries) >= mergeEntries || x.fresh.runs >= mergeRuns {
		select {
		case x.due <- struct{}{}:
		default: // it is awake
		}
	}
}

// mayHold tells whether a stored order may hold the key. False is certain to whoever has the shard's turn.
func (x *keyIndex) mayHold(user order.UserID, hash uint64) bool {
	ref := KeyRef{user, indexed(hash)}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, u := range [...]*unmerged{x.fresh, x.merging} {
		if u != nil {
			if _, ok := u.last[ref]; ok {
				return true
			}
		}
	}
	return !x.complete || x.merged.Test(filterKey(ref))
}

func filterKey(ref KeyRef) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(ref.User))
	return binary.BigEndian.AppendUint64(b, ref.Key)
}

// ofKeys are the orders in memory that may hold one of keys, as a JSON list.
func (x *keyIndex) ofKeys(keys []KeyRef) string {
	ids := []order.ID{}
	x.mu.RLock()
	for _, u := range [...]*unmerged{x.fresh, x.merging} {
		for i := 0; u != nil && i < len(keys); i++ {
			if n, ok := u.last[KeyRef{keys[i].User, indexed(keys[i].Key)}]; ok {
				ids = append(ids, u.entries[n].id)
			}
		}
	}
	x.mu.RUnlock()
	return listOf(ids)
}

// ofUser are the orders in memory that may be the user's, as a JSON list.
func (x *keyIndex) ofUser(user order.UserID) string {
	ids := []order.ID{}
	x.mu.RLock()
	for _, u := range [...]*unmerged{x.fresh, x.merging} {
		if u == nil {
			continue
		}
		for n, ok := u.last[KeyRef{User: user}]; ok && n >= 0; n = u.before[n] {
			ids = append(ids, u.entries[n].id)
		}
	}
	x.mu.RUnlock()
	return listOf(ids)
}

func listOf(ids []order.ID) string {
	numbers := make([]int64, len(ids)) // an order id would become a text
	for i, id := range ids {
		numbers[i] = int64(id)
	}
	list, err := json.Marshal(numbers)
	if err != nil {
		panic("BUG: numbers do not become JSON: " + err.Error())
	}
	return string(list)
}

// ofUser is a condition on orders, that they are the user's, and its arguments.
func (sh *shard) ofUser(u order.UserID) (where string, args []any) {
	if sh.keys == nil {
		return "user_id = ?", []any{u}
	}
	inMemory := sh.keys.ofUser(u) // before the statement runs: what leaves memory is in the table by then
	return "user_id = ? AND order_id IN (SELECT order_id FROM order_key WHERE user_id = ? UNION ALL SELECT value FROM json_each(?))",
		[]any{u, u, inMemory}
}

// ofKeys calls f with conditions on orders, that they hold one of some keys, and their arguments, until all keys had
// their turn. On SQLite other orders may be found too: their own key tells.
func (sh *shard) ofKeys(d *dialect, keys []KeyRef, f func(where string, args []any) error) error {
	if sh.keys == nil {
		return d.inPairs(keyPairs(keys), func(pairs string, args []any) error {
			return f("(user_id, key_hash) IN "+pairs, args)
		})
	}
	for len(keys) > 0 {
		n := min(len(keys), listMax/2)
		some := make([]pair, n)
		for i, k := range keys[:n] {
			some[i] = pair{int64(k.User), int64(indexed(k.Key))}
		}
		inMemory := sh.keys.ofKeys(keys[:n]) // before the statement runs, as above
		err := d.inPairs(some, func(pairs string, args []any) error {
			return f("key_hash IS NOT NULL AND order_id IN (SELECT order_id FROM order_key WHERE (user_id, key_hash) IN "+pairs+
				" UNION ALL SELECT value FROM json_each(?))", append(args, inMemory))
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// writeRun stores the entries of this transaction's orders.
func (t *tx) writeRun(entries []keyEntry) error {
	b := make([]byte, 0, entryBytes*len(entries))
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, uint64(e.User))
		b = binary.BigEndian.AppendUint64(b, e.Key)
		b = binary.BigEndian.AppendUint64(b, uint64(e.id))
	}
	_, err := t.exec("INSERT INTO order_key_run (entries) VALUES (?)", b)
	return err
}

// readRuns brings what is not merged into memory.
func (sh *shard) readRuns(ctx context.Context) error {
	rows, err := sh.read.QueryContext(ctx, "SELECT n, entries FROM order_key_run ORDER BY n")
	return each(rows, err, func(r *sql.Rows) error {
		var n int64
		var b sql.RawBytes
		if err := r.Scan(&n, &b); err != nil {
			return err
		}
		if len(b)%entryBytes != 0 {
			return fmt.Errorf("run %d of keys has %d bytes", n, len(b))
		}
		for ; len(b) > 0; b = b[entryBytes:] {
			sh.keys.add(keyEntry{KeyRef{order.UserID(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:])},
				order.ID(binary.BigEndian.Uint64(b[16:]))})
		}
		sh.keys.added()
		return nil
	})
}
