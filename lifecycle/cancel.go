package lifecycle

import (
	"context"

	"sluice/engine/order"
)

// CancelResult is what became of a wish to cancel.
type CancelResult uint8

// The results. The zero CancelResult is none.
const (
	Cancelled        CancelResult = iota + 1 // by this call
	AlreadyCancelled                         // nothing changed; for the buyer the same as Cancelled
	NotCancellable                           // the order is past it: paid, expired, rejected, ...
	NotFound                                 // not stored, or another user's; an order that is still pending is not stored
)

// Cancel cancels a stored order of a user that awaits payment. It returns the order as it then is; nil if NotFound. An
// order that repeats an earlier one of its key reads as that one, so it is that one which is cancelled and returned. An
// error means unknown: the order may be cancelled.
func (l *Lifecycle) Cancel(ctx context.Context, user order.UserID, id order.ID) (*order.Order, CancelResult, error) {
	o, changed, err := l.store.Cancel(ctx, id, user)
	if err == nil && o != nil && o.Reason == order.ReasonDuplicate {
		o, changed, err = l.store.Cancel(ctx, o.DuplicateOf, user)
	}
	switch {
	case err != nil:
		return nil, 0, err
	case o == nil:
		l.count.notFound.Add(1)
		return nil, NotFound, nil
	case changed:
		l.count.cancelled.Add(1)
		l.kick(l.store.OrderShard(o.ID))
		return o, Cancelled, nil
	case o.Status == order.Cancelled:
		l.count.alreadyCancelled.Add(1)
		return o, AlreadyCancelled, nil
	}
	l.count.notCancellable.Add(1)
	return o, NotCancellable, nil
}
