package gateway

import (
	"context"
	"errors"

	"sluice/engine/order"
	"sluice/lifecycle"
)

// Canceller cancels orders. *lifecycle.Lifecycle is one.
type Canceller interface {
	// Cancel cancels a stored order of a user that awaits payment, or says why not. It returns the order as it then is,
	// nil if NotFound. An error means unknown.
	Cancel(ctx context.Context, user order.UserID, id order.ID) (*order.Order, lifecycle.CancelResult, error)
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
	var o *order.Order
	var result lifecycle.CancelResult
	err := c.g.read(c.g.deps.Orders.OrderShard(id), func(ctx context.Context) (err error) {
		o, result, err = c.g.deps.Canceller.Cancel(ctx, user, id)
		return err
	})
	switch {
	case errors.Is(err, errBusy):
		c.unreadable(err)
	case err != nil:
		c.g.warn("cancel an order", err)
		c.refuse(&problem{code: codeOutcomeUnknown, detail: "The order may be cancelled or not. Send the same request again."})
	case result == lifecycle.Cancelled || result == lifecycle.AlreadyCancelled:
		c.answerOrder(o)
	case result == lifecycle.NotCancellable:
		c.refuse(&problem{code: codeNotCancellable, detail: "Only an order that awaits payment can be cancelled; this one is " +
			string(o.Status) + "."})
	default:
		c.nothingToCancel(user, id)
	}
}

// nothingToCancel tells a pending order of the user from none, and from another user's.
func (c *call) nothingToCancel(user order.UserID, id order.ID) {
	if c.g.maybePending(id, user, c.now) {
		o, err := c.g.storedOrder(id)
		if err != nil {
			c.unreadable(err)
			return
		}
		if o == nil || o.User == user { // stored meanwhile: the next try will find it
			c.refuse(&problem{code: codeStillPending, detail: "The order is not stored yet. Try again in a second."})
			return
		}
	}
	c.noOrder()
}
