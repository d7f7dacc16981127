package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"

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
// An entry is a hint and the row of its order decides: while a transaction runs, its entries in memory name orders that are
// not stored, and they may stay if nobody knows what became of its COMMIT. The other way round must hold at all times: a stored order has its entry in a run or in order_key, because its transaction writes the run,
// and a run in memory, because it is entered there before that transaction commits and read again at start.
//
// A merge moves what is in memory in pieces, a transaction each, and deletes the runs with the last one. After a crash
// before that the runs are read again, and merged again over what was done.

// A file has one writer, and the index one owner: a second Store on the same file would neither see nor be seen by it. The
// file is therefore locked (open.go). A merge that fails is tried every second; meanwhile the index is right, and grows
// in memory and in order_key_run (Stats).

// entryBytes is the size of an entry in a run: user, key and order id, big-endian.
const entryBytes = 24

// A merge is due when this many entries or runs wait for it, or when nothing was recorded for a second and enough
// wait to be worth it. Many at once come to lie on the same pages, a sale shorter than that leaves its merge to the
// rest after it, and all are read again within a tenth of a second at a start.
const (
	mergeEntries = 500_000
	mergeRuns    = 1_000
	mergeAtRest  = 10_000
)

// The filter takes 16 MiB per file. Of 10 million keys it takes one strange key in 220 for known, of 20 million one in
// 24, and then recording looks it up.
const (
	filterBits   = 1 << 27
	filterHashes = 4
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
	due      chan struct{} // wakes the merge

	run     int64 // the last number given to a run, never given again; belongs to whoever has the shard's turn
	lastRun int64 // that merging covers; the merging goroutine's

	failures atomic.Int64 // merges and fills of the filter that failed
	// When a merge is due; a test may have others.
	mergeEntries, mergeRuns, mergeAtRest int
}

// unmerged are the entries of some runs, hashed by user and by key. Number n is entries[n-1]; 0 ends a list.
type unmerged struct {
	runs    int
	entries []listed
	users   [unmergedLists]int32 // number of the last entry of each list
	keys    [unmergedLists]int32
}

// listed is an entry and the numbers of those before it in its two lists.
type listed struct {
	keyEntry
	user, key int32
}

// unmergedLists is a power of two, about the entries of a merge that is due.
const unmergedLists = 1 << 18

var listSeed = maphash.MakeSeed()

func listOf(ref KeyRef) uint64 { return maphash.Comparable(listSeed, ref) % unmergedLists }

func (u *unmerged) add(e keyEntry) {
	user, key := &u.users[listOf(KeyRef{User: e.User})], &u.keys[listOf(e.KeyRef)]
	u.entries = append(u.entries, listed{e, *user, *key})
	n := int32(len(u.entries))
	*user = n
	if e.Key != 0 {
		*key = n
	}
}

// cut forgets all entries but the first n.
func (u *unmerged) cut(n int) {
	for i := len(u.entries) - 1; i >= n; i-- {
		e := &u.entries[i]
		u.users[listOf(KeyRef{User: e.User})] = e.user
		if e.Key != 0 {
			u.keys[listOf(e.KeyRef)] = e.key
		}
	}
	u.entries = u.entries[:n]
}

// ofKey appends the orders that may hold a key.
func (u *unmerged) ofKey(ids []order.ID, ref KeyRef) []order.ID {
	for n := u.keys[listOf(ref)]; n > 0; n = u.entries[n-1].key {
		if e := &u.entries[n-1]; e.KeyRef == ref {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// ofUser appends the orders that may be a user's.
func (u *unmerged) ofUser(ids []order.ID, user order.UserID) []order.ID {
	for n := u.users[listOf(KeyRef{User: user})]; n > 0; n = u.entries[n-1].user {
		if e := &u.entries[n-1]; e.User == user {
			ids = append(ids, e.id)
		}
	}
	return ids
}

func (u *unmerged) holds(ref KeyRef) bool {
	for n := u.keys[listOf(ref)]; n > 0; n = u.entries[n-1].key {
		if u.entries[n-1].KeyRef == ref {
			return true
		}
	}
	return false
}

func newKeyIndex() *keyIndex {
	return &keyIndex{fresh: new(unmerged), merged: bloom.New(filterBits, filterHashes), due: make(chan struct{}, 1),
		mergeEntries: mergeEntries, mergeRuns: mergeRuns, mergeAtRest: mergeAtRest}
}

// generations are the two that may hold unmerged entries; x.mu is held.
func (x *keyIndex) generations() []*unmerged {
	if x.merging == nil {
		return []*unmerged{x.fresh}
	}
	return []*unmerged{x.fresh, x.merging}
}

func (x *keyIndex) add(e keyEntry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh.add(e)
}

// waiting is the number of entries that are not merged.
func (x *keyIndex) waiting() (n int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, u := range x.generations() {
		n += len(u.entries)
	}
	return n
}

// mark is the place to which undo goes back. Both belong to whoever has the shard's turn.
func (x *keyIndex) mark() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.fresh.entries)
}

// undo forgets what was added since mark: its transaction was rolled back.
func (x *keyIndex) undo(mark int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh.cut(mark)
}

// added counts a run whose entries were added, and wakes the merge when it is due.
func (x *keyIndex) added() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh.runs++
	if len(x.fresh.entries) >= x.mergeEntries || x.fresh.runs >= x.mergeRuns {
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
	if x.fresh.holds(ref) || x.merging != nil && x.merging.holds(ref) {
		return true
	}
	return !x.complete || x.merged.Test(filterKey(ref))
}

func filterKey(ref KeyRef) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(ref.User))
	return binary.BigEndian.AppendUint64(b, ref.Key)
}

// ofKeys are the orders in memory that may hold one of keys, as a JSON list.
func (x *keyIndex) ofKeys(keys []KeyRef) string {
	var ids []order.ID
	x.mu.RLock()
	for _, u := range x.generations() {
		for _, k := range keys {
			ids = u.ofKey(ids, KeyRef{k.User, indexed(k.Key)})
		}
	}
	x.mu.RUnlock()
	return jsonList(ids)
}

// ofUser are the orders in memory that may be the user's, as a JSON list.
func (x *keyIndex) ofUser(user order.UserID) string {
	var ids []order.ID
	x.mu.RLock()
	for _, u := range x.generations() {
		ids = u.ofUser(ids, user)
	}
	x.mu.RUnlock()
	return jsonList(ids)
}

func jsonList(ids []order.ID) string {
	b := []byte{'['}
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	return string(append(b, ']'))
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
	t.shard.keys.run++
	_, err := t.exec("INSERT INTO order_key_run (n, entries) VALUES (?, ?)", t.shard.keys.run, b)
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
		sh.keys.run = n
		for ; len(b) > 0; b = b[entryBytes:] {
			sh.keys.add(keyEntry{KeyRef{order.UserID(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:])},
				order.ID(binary.BigEndian.Uint64(b[16:]))})
		}
		sh.keys.added()
		return nil
	})
}
