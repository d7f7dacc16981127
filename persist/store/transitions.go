package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"sluice/engine/order"
)

// Cancel cancels an order that awaits payment, and makes its give-back due, in one transaction. o is the order as it
// then is; nil if it is not stored or not this user's. changed is false if it was in another status, which it kept; it
// may also be false when this call changed it but the answer to its COMMIT was lost.
func (s *Store) Cancel(ctx context.Context, id order.ID, u order.UserID) (o *order.Order, changed bool, err error) {
	shard := s.OrderShard(id)
	err = s.update(ctx, shard, 0, func(t *tx) error {
		o, changed = nil, false
		now, err := t.now()
		if err != nil {
			return err
		}
		set := transition(order.AwaitingPayment, order.Cancelled)
		n, err := t.exec("UPDATE orders SET "+set.assign+" WHERE order_id = ? AND user_id = ? AND "+set.guard, now, id, u)
		if err != nil {
			return err
		}
		if changed = n == 1; changed {
			if err := t.changedEvents([]order.ID{id}, orderEvent{at: now, kind: string(order.Cancelled), actor: actorUser}); err != nil {
				return err
			}
		}
		rows, err := t.tx.QueryContext(t.ctx, selectOrder+" WHERE order_id = ? AND user_id = ?", id, u)
		o, err = scanOne(rows, err)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("cancel order %s: %w", id, err)
	}
	return o, changed, nil
}

// ExpireDue expires at most limit orders of one user shard whose time to pay is over by the database's clock, and makes
// their give-backs due, in one transaction. It returns their number: limit means that there may be more. Several
// callers do not wait for one another.
func (s *Store) ExpireDue(ctx context.Context, shard int, limit int) (n int, err error) {
	err = s.update(ctx, shard, 0, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		ids, err := t.unpaidSince(now, limit)
		if n = len(ids); err != nil || n == 0 {
			return err
		}
		set := transition(order.AwaitingPayment, order.Expired)
		err = in(ids, func(marks string, args []any) error {
			changed, err := t.exec("UPDATE orders SET "+set.assign+" WHERE order_id IN "+marks+" AND "+set.guard, append([]any{now}, args...)...)
			if err == nil && changed != int64(len(args)) {
				err = fmt.Errorf("%d of %d orders that may be unpaid were not awaiting payment", int64(len(args))-changed, len(args))
			}
			return err
		})
		if err != nil {
			return err
		}
		return t.changedEvents(ids, orderEvent{at: now, kind: string(order.Expired), actor: actorExpiry})
	})
	if err != nil {
		return 0, onShard(err, "expire orders", shard)
	}
	return n, nil
}

// unpaidSince locks orders whose time to pay ended at now or earlier, in ascending order of id. An order that another
// transaction is changing is left to it.
func (t *tx) unpaidSince(now order.Milli, limit int) ([]order.ID, error) {
	lock := t.d.forUpdate
	if lock != "" {
		lock += " SKIP LOCKED"
	}
	var ids []order.ID
	err := t.query("SELECT order_id FROM orders WHERE unpaid_until <= ? ORDER BY unpaid_until LIMIT ?"+lock, func(r *sql.Rows) error {
		var id order.ID
		err := r.Scan(&id)
		ids = append(ids, id)
		return err
	}, now, limit)
	slices.Sort(ids)
	return ids, err
}

// change is a compare-and-set of an order's status: assign takes the time of the change.
type change struct{ assign, guard string }

// transition is the change from one status to another. Only orders that await payment have a time to pay.
func transition(from, to order.Status) change {
	if !from.CanBecome(to) {
		panic(fmt.Sprintf("BUG: an order cannot go from %s to %s", from, to))
	}
	return change{
		assign: "status = '" + string(to) + "', unpaid_until = NULL, updated_at = ?",
		guard:  "status = '" + string(from) + "'",
	}
}

// changedEvents writes one event per order, with the order's next number, and makes its give-back due.
func (t *tx) changedEvents(ids []order.ID, e orderEvent) error {
	return in(ids, func(marks string, args []any) error {
		query := "INSERT INTO order_event " + eventColumns +
			" SELECT o.order_id, COALESCE(MAX(e.n), 0) + 1, ?, ?, ?, NULL, ? FROM orders o" +
			" LEFT JOIN order_event e ON e.order_id = o.order_id WHERE o.order_id IN " + marks + " GROUP BY o.order_id"
		_, err := t.exec(query, append([]any{e.at, e.kind, e.actor, e.at}, args...)...)
		return err
	})
}
