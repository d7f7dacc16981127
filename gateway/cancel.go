package gateway

import (
	"context"
	"errors"

	"sluice/engine/order"
)

// Canceller cancels orders.
type Canceller interface {
	// Cancel cancels the order if it can be cancelled, and returns it as it then is; nil if this user has no such order
	// stored. An error means that nothing is known.
	Cancel(ctx context.Context, u order.UserID, id order.ID) (o *order.Order, changed bool, err error)
}

// cancelOrder is POST /v1/orders/{id}/cancel.
func (c *call) cancelOrder(path []byte) {
	user, ok := c.user()
	if !ok {
		return
	}
	id, ok := c.ownID(path, user)
	if !ok {
		return
	}
	o, err := c.cancel(user, id)
	stored := o != nil
	if err == nil && o == nil {
		o, err = c.g.storedOrder(id)
		stored, o = o != nil, nil // another user's
	}
	switch {
	case errors.Is(err, errBusy):
		c.unreadable(err)
	case err != nil:
		c.g.warn("cancel an order", err)
		c.refuse(&problem{code: codeOutcomeUnknown, detail: "The order may be cancelled or not. Send the same request again."})
	case !stored && c.g.maybePending(id, user, c.ctx.Time()):
		c.refuse(&problem{code: codeStillPending, detail: "The order is not stored yet. Try again in a second."})
	case o == nil:
		c.noOrder()
	case o.Status == order.Cancelled:
		c.answerOrder(o)
	default:
		c.refuse(&problem{code: codeNotCancellable, detail: "Only an order that awaits payment can be cancelled; this one is " +
			string(o.Status) + "."})
	}
}

// cancel cancels an order, or, if it turned out to be the second one of its key, the first: that is the one that its
// owner sees.
func (c *call) cancel(user order.UserID, id order.ID) (o *order.Order, err error) {
	err = c.g.read(c.g.deps.Orders.OrderShard(id), func(ctx context.Context) error {
		if o, _, err = c.g.deps.Canceller.Cancel(ctx, user, id); err != nil || o == nil {
			return err
		}
		if o.Reason == order.ReasonDuplicate && o.DuplicateOf != 0 {
			o, _, err = c.g.deps.Canceller.Cancel(ctx, user, o.DuplicateOf)
		}
		return err
	})
	return o, err
}
