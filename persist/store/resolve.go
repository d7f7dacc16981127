package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"sluice/engine/order"
)

// What a person does about a parked order: list, read, replay, reject.
//
// # States and crash points
//
// A poison order is live and pending, and holds its units, until its row is on its user shard:
//
//	parked          on the home shard, with the error; no row. Nothing was decided
//	parked, stored  the row is there, as it was recorded or as rejected; what the home shard has counts no more
//	stored          the parked row is gone
//
// From the first to the second leads one transaction on the user shard. Its primary key is the decision: a replay, a
// reject, the sweep, and a flush whose message came again all insert the row of this id, and whoever is first has
// decided; the others find the row and change nothing. A reject stores the order as rejected together with the event
// that makes its give-back due: from there the units go the way of every give-back (home shard, under the event's cause,
// in one transaction with the stock log), once, whoever repeats what.
//
// From the second to the third leads one transaction on the home shard, which anybody may repeat: the call itself when it
// is repeated, or the sweep when a process starts (UnparkStored). A process that dies before the first transaction has
// done nothing; between the two it leaves a parked row that reads as the order that is stored; after them all is done. A
// sweep that was refused the row before, and is slow, may park it again: then the second transaction is repeated.

// ParkedRef names a parked order. One that was claimed in two batches may be parked for each of them.
type ParkedRef struct {
	Batch order.BatchID
	Order order.ID
}

// ParkedFilter narrows a list of parked orders.
type ParkedFilter struct {
	Shard  int // only of this user shard; below zero: of all
	Poison bool
	After  ParkedRef // only those behind it: the last of the page before
	Limit  int
}

const selectParked = "SELECT order_id, batch_id, shard, p, epoch, status, reason, error, bytes FROM parked"

func scanParked(r *sql.Rows) (o ParkedOrder, err error) {
	err = r.Scan(&o.Order, &o.Batch, &o.Shard, &o.Partition, &o.Epoch, &o.Status, &o.Reason, &o.Error, &o.Bytes)
	return o, err
}

// Ref is the name of the order.
func (o *ParkedOrder) Ref() ParkedRef { return ParkedRef{o.Batch, o.Order} }

// Row is the order as it is to be recorded. An error says that its bytes are damaged.
func (o *ParkedOrder) Row() (Row, error) {
	r := new(order.Record)
	if _, err := order.DecodeRecord(o.Bytes, r); err != nil {
		return Row{}, fmt.Errorf("parked order %s: %w", o.Order, err)
	}
	return Row{Record: r, Batch: o.Batch, Epoch: o.Epoch, Partition: o.Partition, Status: o.Status, Reason: o.Reason}, nil
}

// ListParked reads parked orders of all home shards, by order and batch.
func (s *Store) ListParked(ctx context.Context, f ParkedFilter) ([]ParkedOrder, error) {
	query := selectParked + " WHERE order_id >= ? AND (order_id > ? OR batch_id > ?)"
	args := []any{f.After.Order, f.After.Order, f.After.Batch}
	if f.Shard >= 0 {
		query += " AND shard = ?"
		args = append(args, f.Shard)
	}
	if f.Poison {
		query += " AND error <> ''"
	}
	args = append(args, f.Limit)
	var all []ParkedOrder
	for home := range s.shards {
		err := s.query(ctx, home, query+" ORDER BY order_id, batch_id LIMIT ?", func(r *sql.Rows) error {
			o, err := scanParked(r)
			all = append(all, o)
			return err
		}, args...)
		if err != nil {
			return nil, onShard(err, "list parked orders", home)
		}
	}
	slices.SortFunc(all, compareParked)
	return all[:min(len(all), f.Limit)], nil
}

// FindParked reads one parked order; nil if it is not parked.
func (s *Store) FindParked(ctx context.Context, ref ParkedRef) (found *ParkedOrder, err error) {
	for home := range s.shards {
		err := s.query(ctx, home, selectParked+" WHERE order_id = ? AND batch_id = ?", func(r *sql.Rows) error {
			o, err := scanParked(r)
			found = &o
			return err
		}, ref.Order, ref.Batch)
		if err != nil {
			return nil, onShard(err, "read a parked order", home)
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, nil
}

// Verdicts on a replay or a reject.
const (
	ResolvedStored     = "stored"       // the order is stored as Resolution.Order says, and no longer parked
	ResolvedRefused    = "refused"      // its user shard refuses the row, as Resolution.Error says; it stays parked
	ResolvedNotPoison  = "not_poison"   // not rejected: it waits for its user shard, which has not refused it
	ResolvedNotParked  = "not_parked"   // there is no such parked order, and none that was
	ResolvedStoredLive = "stored_alive" // not rejected: it has been stored and is live; no longer parked
)

// Resolution is what became of a replay or a reject.
type Resolution struct {
	Verdict  string
	Order    *order.Order // as it is stored, if it is
	Error    string
	Rejected bool     // this call made a live order rejected; may be false if the answer to its COMMIT was lost
	Recorded Recorded // what a replay recorded
}

// ReplayParked records a parked order now, poison or not. Of orders that hold the same key the first that is stored
// stays; a poison order that comes second is stored as its rejected duplicate. An error means that nothing is known:
// replay it again.
func (s *Store) ReplayParked(ctx context.Context, ref ParkedRef, o RecordOptions) (Resolution, error) {
	parked, row, err := s.parkedRow(ctx, ref)
	if err != nil || parked == nil {
		return s.unparked(ctx, ref, err)
	}
	o.Kind = s.opts.Partitions.Kind(parked.Partition)
	out := Resolution{Verdict: ResolvedStored}
	if out.Recorded, err = s.Record(ctx, parked.Shard, []Row{row}, o); err != nil {
		return out, err
	}
	if poison := out.Recorded.Poison; len(poison) > 0 {
		out.Verdict, out.Error = ResolvedRefused, poison[0].Err
		return out, s.setParkedError(ctx, parked, out.Error)
	}
	return s.resolved(ctx, parked, out)
}

// RejectParked stores a poison order as rejected and makes its units come back. Where the user shard refuses the whole
// row, a bare one is stored: id, batch, user and reason, without goods. An error means that nothing is known: reject it
// again.
func (s *Store) RejectParked(ctx context.Context, ref ParkedRef) (Resolution, error) {
	parked, row, err := s.parkedRow(ctx, ref)
	switch {
	case err != nil || parked == nil:
		out, err := s.unparked(ctx, ref, err)
		if out.Order != nil && out.Order.Status.Live() {
			out.Verdict = ResolvedStoredLive
		}
		return out, err
	case parked.Error == "":
		return Resolution{Verdict: ResolvedNotPoison}, nil
	}
	out := Resolution{Verdict: ResolvedStored}
	for races := 0; ; races++ {
		err = s.update(ctx, parked.Shard, s.opts.Partitions.Kind(parked.Partition), func(t *tx) error {
			r := &refusal{recording: recording{t: t}, row: row}
			err := r.run()
			out.Rejected, out.Error = r.rejected, r.why
			return err
		})
		if !errors.Is(err, errRaced) || races == racesMax {
			break
		}
	}
	if err != nil {
		return Resolution{}, onShard(err, fmt.Sprintf("reject order %s", ref.Order), parked.Shard)
	}
	if out.Error != "" {
		out.Verdict = ResolvedRefused
		return out, nil
	}
	if s.dialect.name == SQLite {
		s.shards[parked.Shard].keys.added()
	}
	if out, err = s.resolved(ctx, parked, out); err == nil && out.Order != nil && out.Order.Batch == ref.Batch && out.Order.Status.Live() {
		out.Verdict = ResolvedStoredLive
	}
	return out, err
}

func (s *Store) parkedRow(ctx context.Context, ref ParkedRef) (*ParkedOrder, Row, error) {
	parked, err := s.FindParked(ctx, ref)
	if err != nil || parked == nil {
		return nil, Row{}, err
	}
	row, err := parked.Row()
	return parked, row, err
}

// unparked answers for an order that is not parked: an earlier call may have resolved it.
func (s *Store) unparked(ctx context.Context, ref ParkedRef, err error) (Resolution, error) {
	if err != nil {
		return Resolution{}, err
	}
	o, err := s.Order(ctx, ref.Order)
	if err != nil || o == nil || o.Batch != ref.Batch {
		return Resolution{Verdict: ResolvedNotParked}, err
	}
	return Resolution{Verdict: ResolvedStored, Order: o}, nil
}

// resolved ends a call whose row is stored: the parked one goes, and the order is read as it is.
func (s *Store) resolved(ctx context.Context, parked *ParkedOrder, out Resolution) (Resolution, error) {
	err := s.unpark(ctx, s.Home(parked.Partition), []ParkedOrder{*parked}, "")
	if err == nil {
		out.Order, err = s.Order(ctx, parked.Order)
	}
	return out, err
}

func (s *Store) setParkedError(ctx context.Context, o *ParkedOrder, text string) error {
	return s.onPart(ctx, o.Partition, "note why an order is refused", func(t *tx, _ *Part, _ order.Milli) error {
		_, err := t.exec("UPDATE parked SET error = ? WHERE order_id = ? AND batch_id = ?", errorText(text), o.Order, o.Batch)
		return err
	})
}

// UnparkStored deletes from a home shard the poison orders of a user shard that are stored there: a replay or a reject
// was not finished. It looks at poisonMax of them.
func (s *Store) UnparkStored(ctx context.Context, home, shard int) error {
	var poison []ParkedOrder
	err := s.query(ctx, home, selectParked+" WHERE shard = ? AND error <> '' ORDER BY order_id LIMIT ?", func(r *sql.Rows) error {
		o, err := scanParked(r)
		poison = append(poison, o)
		return err
	}, shard, poisonMax)
	if err != nil || len(poison) == 0 {
		return onShard(err, "read poison", home)
	}
	ids := make([]order.ID, len(poison))
	for i := range poison {
		ids[i] = poison[i].Order
	}
	orders, err := s.OrdersByID(ctx, shard, ids)
	if err != nil {
		return err
	}
	var stored []ParkedOrder
	for i, o := range orders {
		if o != nil && o.Batch == poison[i].Batch {
			stored = append(stored, poison[i])
		}
	}
	return s.unpark(ctx, home, stored, "")
}

// refusal is one transaction of a reject.
type refusal struct {
	recording
	row      Row
	rejected bool   // a live order was stored as rejected
	why      string // the shard refuses even the bare row
}

// run stores the order as rejected unless its id is there.
func (r *refusal) run() error {
	now, err := r.t.now()
	if err != nil {
		return err
	}
	r.now = now
	batch, stored, err := r.storedBatch()
	switch {
	case err != nil || stored && batch == r.row.Batch:
		return err
	case stored: // the claim of another batch is stored: this one is given back
		return r.alarm(&entry{row: &r.row})
	}
	e := r.entry(r.row)
	clashed, err := r.insertList([]*entry{e})
	if e.poison {
		record := r.row.Record
		bare := r.row
		bare.Record = &order.Record{ID: record.ID, User: record.User, Currency: bareCurrency}
		e = r.entry(bare)
		clashed, err = r.insertList([]*entry{e})
	}
	switch {
	case err != nil:
		return err
	case len(clashed) > 0:
		return errRaced
	case e.poison:
		r.why = r.out.Poison[len(r.out.Poison)-1].Err
		return nil
	}
	if len(r.keys) > 0 {
		if err := r.t.writeRun(r.keys); err != nil {
			return err
		}
	}
	r.rejected = r.row.Status == order.AwaitingPayment
	return r.t.insertEvents(append(flushEvents([]order.ID{e.id()}, r.now), r.event()...))
}

// bareCurrency is ISO 4217 for none.
const bareCurrency = "XXX"

// entry is a row as a reject stores it. An order that its claim rejected keeps that reason.
func (r *refusal) entry(row Row) *entry {
	if row.Status == order.AwaitingPayment {
		row.Status, row.Reason = order.Rejected, order.ReasonRefused
	}
	e := &entry{row: &row}
	e.begin(r.t.store.opts.Partitions)
	return e
}

// event says what was claimed, since the row may be bare, and makes it due if units are held.
func (r *refusal) event() []any {
	record := r.row.Record
	claim := claimData{Batch: r.row.Batch, Partition: r.row.Partition, User: record.User, Lines: linesOf(record.Items)}
	return orderEvent{id: record.ID, n: 1, at: r.now, kind: eventRefused, actor: actorOps, data: claim.encode(),
		due: r.row.Status == order.AwaitingPayment}.row()
}

func (r *refusal) storedBatch() (batch order.BatchID, stored bool, err error) {
	err = r.t.row("SELECT batch_id FROM orders WHERE order_id = ?", r.row.Record.ID).Scan(&batch)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return batch, err == nil, err
}
