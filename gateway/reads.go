package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sluice/engine/order"
)

// errBusy says that as many requests as are allowed read this shard already.
var errBusy = errors.New("too many reads of one shard at once")

// slots counts what is under way, of a number that may change.
type slots struct{ taken atomic.Int64 }

// take takes a slot, if fewer than max are taken. Who took one gives it back.
func (s *slots) take(max int) (ok bool) {
	for n := s.taken.Load(); n < int64(max); n = s.taken.Load() {
		if s.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

func (s *slots) give() { s.taken.Add(-1) }

// read runs f with one of the shard's slots and the deadline of reads. A shard that hangs holds its own slots only.
func (g *Gateway) read(shard int, f func(context.Context) error) error {
	tuning, taken := g.tuned.Load(), &g.reads[shard]
	if !taken.take(tuning.ReadsMax) {
		return errBusy
	}
	defer taken.give()
	ctx, cancel := context.WithTimeout(context.Background(), tuning.ReadDeadline)
	defer cancel()
	return f(ctx)
}

// storedOrder is the order of an id, or nil if none is stored. An order that turned out to be the second one of its
// key is answered by the first: who owns an order is never told that he has none.
func (g *Gateway) storedOrder(id order.ID) (o *order.Order, err error) {
	err = g.read(g.deps.Orders.OrderShard(id), func(ctx context.Context) (err error) {
		if o, err = g.deps.Orders.Order(ctx, id); err != nil || o == nil {
			return err
		}
		if o.Reason != order.ReasonDuplicate || o.DuplicateOf == 0 {
			return nil
		}
		first, err := g.deps.Orders.Order(ctx, o.DuplicateOf)
		if first != nil {
			o = first
		}
		return err
	})
	return o, err
}

// awaitRecord waits until the order is stored, and returns it, or nil when d has passed.
func (c *call) awaitRecord(id order.ID, d time.Duration) *order.Order {
	if d <= 0 {
		return nil
	}
	o := c.g.hub.await(id, d)
	if o == nil || o.Reason != order.ReasonDuplicate {
		return o
	}
	if first, err := c.g.storedOrder(id); err == nil && first != nil {
		return first
	}
	return o
}

// maybePending tells whether an id that is not stored may be that of an accepted order of u.
func (g *Gateway) maybePending(id order.ID, u order.UserID, now time.Time) bool {
	if id.VirtualShard() != order.VirtualShard(u) || id.Time() > order.MilliOf(now.Add(clockSkew)) {
		return false
	}
	return g.parked.Load() || id.Time() > order.MilliOf(now.Add(-g.opts.MaxQueueAge))
}

// clockSkew is how far the clocks of two processes may differ, and ids may run ahead of theirs.
const clockSkew = 10 * time.Second

// unreadable answers a request whose shard could not be read. Nothing was changed.
func (c *call) unreadable(err error) {
	if errors.Is(err, errBusy) {
		c.refuse(&problem{code: codeOverloaded, detail: "Too many requests read orders. Nothing was changed; try again."})
		return
	}
	c.g.warn("read orders", err)
	c.refuse(&problem{code: codeNotReady, detail: "Your orders cannot be read at the moment. Nothing was changed; try again."})
}
