package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/engine/order"
)

// Row is one order to record, as its claim decided it.
type Row struct {
	Record    *order.Record
	Batch     order.BatchID
	Epoch     order.Epoch
	Partition order.Partition
	Status    order.Status // AwaitingPayment or Rejected
	Reason    order.Reason // why it is Rejected
}

// RecordOptions apply to all rows of a flush.
type RecordOptions struct {
	Kind   order.Kind    // whose turn it is on SQLite; rows may be of either kind
	Unpaid time.Duration // after which an unpaid order expires, from the moment of recording
}

// Recorded says what became of a flush.
type Recorded struct {
	// Stored counts the live orders that were not stored before.
	Stored int
	// Duplicates counts the orders stored as rejected because another order holds their key.
	Duplicates int
	// Alarms counts the orders that were claimed in two batches. It cannot happen by the protocol; the second claim is
	// given back.
	Alarms int
	// Poison are the rows that the database refuses by themselves. They are not stored; all others are.
	Poison []Poison
}

// Poison is a row that the database refuses.
type Poison struct {
	Index int // in the rows given to Record
	Err   string
}

// Record stores orders on one user shard, in primary-key order, usually in one transaction; a flash flush that holds a
// SQLite file for long goes on in another. Every order is stored once, however often it is recorded:
//
// The same order id with the same batch again changes nothing. With another batch it is an alarm, and the second claim
// is given back. A second order id for the key of a stored order is stored as rejected (duplicate, or key_reused if
// its fingerprint differs), without a key, and its units are given back. Rejected orders hold no key.
//
// An error means that nothing is known, or that some rows are stored and others not: record all of them again.
func (s *Store) Record(ctx context.Context, shard int, rows []Row, o RecordOptions) (Recorded, error) {
	var out Recorded
	entries := sortedEntries(rows)
	for races := 0; len(entries) > 0; {
		var r *recording
		err := s.update(ctx, shard, o.Kind, func(t *tx) error {
			r = &recording{t: t, o: o, stored: make([]order.ID, 0, len(entries))}
			if index := t.shard.keys; index != nil {
				mark := index.mark()
				t.undo = func() { index.undo(mark) }
			}
			return r.run(entries)
		})
		if errors.Is(err, errRaced) && races < racesMax {
			races++
			continue
		}
		if err != nil {
			return out, onShard(err, fmt.Sprintf("record %d orders", len(rows)), shard)
		}
		if len(r.keys) > 0 {
			s.shards[shard].keys.added()
		}
		out.Stored += r.out.Stored
		out.Duplicates += r.out.Duplicates
		out.Alarms += r.out.Alarms
		out.Poison = append(out.Poison, r.out.Poison...)
		entries = entries[r.done:]
	}
	return out, nil
}

// racesMax bounds how often a flush is begun again because others store the same orders.
const racesMax = 5

// entry is a row on its way into the table; status, reason and duplicateOf are as it will be stored.
type entry struct {
	row         *Row
	index       int // in the rows given to Record
	kind        order.Kind
	status      order.Status
	reason      order.Reason
	duplicateOf order.ID
	hash        uint64 // of the client's key, if it has one
	looked      bool   // what is stored under its id and its key was looked up
	poison      bool
}

func sortedEntries(rows []Row) []entry {
	entries := make([]entry, len(rows))
	for i := range rows {
		entries[i] = entry{row: &rows[i], index: i}
	}
	compare := func(a, b entry) int {
		switch x, y := a.row.Record.ID, b.row.Record.ID; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(entries, compare) {
		slices.SortStableFunc(entries, compare)
	}
	return entries
}

func (e *entry) id() order.ID { return e.row.Record.ID }

// begin sets the entry to what its claim decided: a transaction may run again.
func (e *entry) begin(ps order.Partitions) {
	if e.row.Status != order.AwaitingPayment && e.row.Status != order.Rejected {
		panic(fmt.Sprintf("BUG: order %d is to be recorded as %q", e.id(), e.row.Status))
	}
	*e = entry{row: e.row, index: e.index, kind: ps.Kind(e.row.Partition), status: e.row.Status, reason: e.row.Reason}
	if e.keyed() {
		e.hash = e.row.Record.KeyHash()
	}
}

// keyed tells whether the order will hold a client's key.
func (e *entry) keyed() bool { return e.status == order.AwaitingPayment && e.row.Record.Key != "" }

// recording is one transaction of a Record.
type recording struct {
	t      *tx
	o      RecordOptions
	now    order.Milli
	unpaid order.Milli // until when
	out    Recorded
	done   int        // entries from the front that this transaction stored
	stored []order.ID // that were not there before
	keys   []keyEntry // of what was stored (SQLite)
	text   []byte
	args   []driver.NamedValue
	cells  cells
}

// pieceRows bounds the rows between two looks at the clock, and the rows of one statement on MySQL, where
// statementBytes bounds it too.
const pieceRows = 500

func (r *recording) run(entries []entry) error {
	now, err := r.t.now()
	if err != nil {
		return err
	}
	r.now, r.unpaid = now, now+order.Milli(r.o.Unpaid.Milliseconds())
	for r.done < len(entries) {
		piece := entries[r.done:]
		piece = piece[:pieceLen(piece)]
		for i := range piece {
			piece[i].begin(r.t.store.opts.Partitions)
		}
		clashed, err := r.insert(piece)
		if err != nil {
			return err
		}
		if len(clashed) > 0 {
			if err := r.decide(clashed); err != nil {
				return err
			}
		}
		r.done += len(piece)
		if r.t.spent() {
			break
		}
	}
	if len(r.keys) > 0 {
		if err := r.t.writeRun(r.keys); err != nil {
			return err
		}
	}
	return r.t.insertEvents(flushEvents(r.stored, now))
}

// pieceLen is the number of entries from the front that one piece takes, at least one.
func pieceLen(entries []entry) int {
	bytes := 0
	for i := range entries {
		if i == pieceRows || (i > 0 && bytes > statementBytes) {
			return i
		}
		r := entries[i].row.Record
		bytes += 300 + 2*len(r.Details) + 300*len(r.Items)
	}
	return len(entries)
}

// insert stores entries as they are. What clashes with a stored order, by id or by key, comes back, in order; so does,
// on MySQL, everything that was in the same statement. Rows that the database refuses become poison.
func (r *recording) insert(entries []entry) (clashed []*entry, err error) {
	list := make([]*entry, len(entries))
	for i := range entries {
		list[i] = &entries[i]
	}
	return r.insertList(list)
}

func (r *recording) insertList(list []*entry) (clashed []*entry, err error) {
	if r.t.d.name == SQLite {
		return r.insertBound(list)
	}
	return r.insertMySQL(list)
}

// refuse makes an entry poison.
func (r *recording) refuse(e *entry, err error) {
	e.poison = true
	r.out.Poison = append(r.out.Poison, Poison{Index: e.index, Err: err.Error()})
}

// count takes an order that was not there before into the event of this flush.
func (r *recording) count(e *entry) {
	if e.status == order.AwaitingPayment {
		r.out.Stored++
	}
	r.stored = append(r.stored, e.id())
}
