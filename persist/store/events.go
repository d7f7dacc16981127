package store

import (
	"encoding/json"

	"sluice/engine/order"
)

// The types of events besides the statuses: a change of a stored order is named after the status that it leads to.
const (
	eventRecorded    = "recorded"     // new orders: one event per flush (flushEvents), under its first order, number 0
	eventDuplicate   = "duplicate"    // the order's key is another's; its units are given back
	eventSecondClaim = "second_claim" // the order was claimed in a second batch; that claim is given back
	eventRefused     = "refused"      // an operator rejected a poison order; its data is the claim that is given back
)

// Who made a change.
const (
	actorRecord = "record"
	actorUser   = "user"
	actorExpiry = "expiry"
	actorOps    = "operator"
)

// orderEvent is a row of order_event. Events of one order are numbered from 1; due ones have units to give back.
type orderEvent struct {
	id    order.ID
	n     int64
	at    order.Milli
	kind  string
	actor string
	data  []byte
	due   bool
}

// row is the event as values of eventColumns.
func (e orderEvent) row() []any {
	var data, due any
	if e.data != nil {
		data = e.data
	}
	if e.due {
		due = int64(e.at)
	}
	return []any{int64(e.id), e.n, int64(e.at), e.kind, e.actor, data, due}
}

const eventColumns = "(order_id, n, at, type, actor, data, due)"

// insertEvents inserts events, given as rows that follow one another.
func (t *tx) insertEvents(rows []any) error {
	if len(rows) == 0 {
		return nil
	}
	return t.insertRows(insert{"order_event " + eventColumns, 7, ""}, rows)
}

// claimData says what is to be given back of a claim whose items need not be those of the stored order.
type claimData struct {
	Batch     order.BatchID   `json:"batch_id"`
	Partition order.Partition `json:"partition"`
	User      order.UserID    `json:"user_id"`
	Lines     []order.Line    `json:"lines"`
}

func (c *claimData) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("BUG: a claim does not encode: " + err.Error())
	}
	return b
}
