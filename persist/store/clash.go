package store

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"sluice/engine/order"
)

// The slow path of Record: some orders of a piece are stored already, or another order holds their key.

// errRaced says that somebody stored an order of this piece, or one with the same key, since it was looked up.
var errRaced = errors.New("another process records the same orders")

// owner is the order that holds a key.
type owner struct {
	id          order.ID
	fingerprint uint64
}

// known is what is stored about the ids and keys of a piece.
type known struct {
	batches map[order.ID]order.BatchID
	owners  map[KeyRef]owner
}

// decide settles entries one by one against what is stored: repeats are dropped, second orders of a key become rejected,
// second claims are given back; what is left is stored.
func (r *recording) decide(list []*entry) error {
	k, err := r.lookUp(list)
	if err != nil {
		return err
	}
	var fresh, alarms []*entry
	for _, e := range list {
		switch batch, stored := k.batches[e.id()]; {
		case stored && batch == e.row.Batch: // recorded before
		case stored:
			alarms = append(alarms, e)
		default:
			k.batches[e.id()] = e.row.Batch
			k.claimKey(e)
			fresh = append(fresh, e)
		}
	}
	clashed, err := r.insertList(fresh)
	if err != nil {
		return err
	}
	if len(clashed) > 0 {
		return fmt.Errorf("order %d: %w", clashed[0].id(), errRaced)
	}
	if err := r.giveBackSeconds(fresh); err != nil {
		return err
	}
	for _, e := range alarms {
		if err := r.alarm(e); err != nil {
			return err
		}
	}
	return nil
}

// giveBackSeconds makes the give-backs of second orders of a key due.
func (r *recording) giveBackSeconds(fresh []*entry) error {
	var events []any
	for _, e := range fresh {
		if e.duplicateOf != 0 && !e.poison {
			r.out.Duplicates++
			events = append(events, orderEvent{id: e.id(), n: 1, at: r.now, kind: eventDuplicate, actor: actorRecord, due: true}.row()...)
		}
	}
	return r.t.insertEvents(events)
}

// claimKey gives the entry's key to it, or makes it a rejected second order of the one that holds the key.
func (k *known) claimKey(e *entry) {
	if !e.keyed() {
		return
	}
	ref := KeyRef{User: e.row.Record.User, Key: e.hash}
	first, taken := k.owners[ref]
	if !taken {
		k.owners[ref] = owner{e.id(), e.row.Record.Fingerprint}
		return
	}
	e.status, e.reason, e.duplicateOf = order.Rejected, order.ReasonDuplicate, first.id
	if first.fingerprint != e.row.Record.Fingerprint {
		e.reason = order.ReasonKeyReused
	}
}

// lookUp reads what is stored under the ids and keys of entries.
func (r *recording) lookUp(list []*entry) (*known, error) {
	k := &known{batches: make(map[order.ID]order.BatchID), owners: make(map[KeyRef]owner)}
	ids := make([]order.ID, len(list))
	var refs []KeyRef
	for i, e := range list {
		ids[i] = e.id()
		e.looked = true
		if e.keyed() {
			refs = append(refs, KeyRef{User: e.row.Record.User, Key: e.hash})
		}
	}
	err := in(ids, func(marks string, args []any) error {
		return r.t.query("SELECT order_id, batch_id FROM orders WHERE order_id IN "+marks, func(rows *sql.Rows) error {
			var id order.ID
			var batch order.BatchID
			err := rows.Scan(&id, &batch)
			k.batches[id] = batch
			return err
		}, args...)
	})
	if err != nil {
		return nil, err
	}
	err = r.t.shard.ofKeys(r.t.d, refs, func(where string, args []any) error {
		query := "SELECT order_id, user_id, key_hash, fingerprint FROM orders WHERE " + where
		return r.t.query(query, func(rows *sql.Rows) error {
			var o owner
			var user, key, fingerprint int64
			err := rows.Scan(&o.id, &user, &key, &fingerprint)
			o.fingerprint = uint64(fingerprint)
			k.owners[KeyRef{order.UserID(user), uint64(key)}] = o
			return err
		}, args...)
	})
	return k, err
}

// alarm notes that an order is claimed in another batch than the one it is stored with. If that claim was accepted it is
// to be given back, once.
func (r *recording) alarm(e *entry) error {
	r.out.Alarms++
	if e.row.Status != order.AwaitingPayment {
		return nil
	}
	claim := claimData{Batch: e.row.Batch, Partition: e.row.Partition, User: e.row.Record.User, Lines: linesOf(e.row.Record.Items)}
	data := claim.encode()
	seen, last := false, int64(0)
	err := r.t.query("SELECT n, type, data FROM order_event WHERE order_id = ?", func(rows *sql.Rows) error {
		var n int64
		var kind string
		var stored []byte
		err := rows.Scan(&n, &kind, &stored)
		seen = seen || (kind == eventSecondClaim && slices.Equal(stored, data))
		last = max(last, n)
		return err
	}, e.id())
	if err != nil || seen {
		return err
	}
	return r.t.insertEvents(orderEvent{id: e.id(), n: last + 1, at: r.now, kind: eventSecondClaim, actor: actorRecord, data: data, due: true}.row())
}
