package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"sluice/engine/order"
)

// event is one row of order_event that belongs to one order.
type event struct {
	order order.ID
	n     int64
	typ   string
	due   bool
	claim *claim // of a second claim
	lost  *claim // of an order that an operator rejected: what it had
}

// claim is the data of two kinds of events: an order was claimed twice, and the second claim is to be given back, which
// cannot happen by the protocol, and the books are kept all the same; an operator rejected an order that the database
// refused, and its row may be bare.
type claim struct {
	Batch order.BatchID `json:"batch_id"`
	User  order.UserID  `json:"user_id"`
	Lines []order.Line  `json:"lines"`
}

const (
	secondClaimEvent = "second_claim"
	refusedEvent     = "refused"
)

// recordedEvent is the one row that a flush writes for all of its new orders, under the id of the first.
const recordedEvent = "recorded"

func (s *shard) readEvents(ctx context.Context) error {
	names := map[string]string{}
	return s.each(ctx, "SELECT order_id, n, type, data, due FROM order_event ORDER BY order_id, n", func(rows *sql.Rows) error {
		var id, n int64
		var typ string
		var data []byte
		var due sql.NullInt64
		if err := rows.Scan(&id, &n, &typ, &data, &due); err != nil {
			return err
		}
		if typ == recordedEvent {
			var flush struct {
				Count int64 `json:"count"`
			}
			if err := json.Unmarshal(data, &flush); err != nil {
				return fmt.Errorf("event of the flush that begins with order %d: %w", id, err)
			}
			s.recorded += flush.Count
			return nil
		}
		if names[typ] == "" {
			names[typ] = typ
		}
		e := event{order: order.ID(id), n: n, typ: names[typ], due: due.Valid}
		if typ == secondClaimEvent || typ == refusedEvent {
			c := &claim{}
			if err := json.Unmarshal(data, c); err != nil {
				return fmt.Errorf("event %d of order %d: %w", n, id, err)
			}
			if e.lost = c; typ == secondClaimEvent {
				e.claim, e.lost = c, nil
			}
		}
		s.events = append(s.events, e)
		return nil
	})
}

// count is the number of events at the front that belong to id.
func count(events []event, id order.ID) int {
	n := 0
	for n < len(events) && events[n].order == id {
		n++
	}
	return n
}

func skip(events []event, id order.ID) []event { return events[count(events, id):] }

// wrongState says what is wrong with an order's status, reason or events, or "". Events tell the changes after the
// order was recorded; each is named after the status that it leads to.
func wrongState(r *row, events []event) string {
	status := order.Status(r.status)
	if !status.Known() || status == order.Pending {
		return fmt.Sprintf("status %q is none that an order is stored in", r.status)
	}
	if (status == order.Rejected) != (r.reason != "") {
		return fmt.Sprintf("status %s with reason %q", r.status, r.reason)
	}
	second := r.reason == string(order.ReasonDuplicate) || r.reason == string(order.ReasonKeyReused)
	if second != (r.duplicateOf != 0) {
		return fmt.Sprintf("reason %q with duplicate_of %d", r.reason, r.duplicateOf)
	}
	if r.reason == string(order.ReasonRefused) && refused(events) == nil {
		return "refused, but no operator rejected it"
	}
	if (status == order.AwaitingPayment) != r.unpaid {
		return fmt.Sprintf("status %s, and it is %v that it expires", r.status, r.unpaid)
	}
	for i, e := range events {
		if e.n != int64(i)+1 {
			return fmt.Sprintf("event %d has the number %d", i+1, e.n)
		}
	}
	if status == order.Rejected {
		return ""
	}
	at := order.AwaitingPayment
	for _, e := range events {
		next := order.Status(e.typ)
		if !next.Known() {
			continue
		}
		if !at.CanBecome(next) {
			return fmt.Sprintf("its events lead from %s to %s", at, next)
		}
		at = next
	}
	if at != status {
		return fmt.Sprintf("status %s, but its events lead to %s", status, at)
	}
	return ""
}

// refused is what an order had that an operator rejected; nil if nobody did.
func refused(events []event) *claim {
	for _, e := range events {
		if e.lost != nil {
			return e.lost
		}
	}
	return nil
}
