package gateway

import (
	"context"
	"strconv"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

const (
	pageDefault = 20
	pageMax     = 100
)

// readOrder is GET /v1/orders/{id}.
func (c *call) readOrder(path []byte) {
	user, ok := c.user()
	if !ok {
		return
	}
	wait, ok := c.wait()
	if !ok {
		return
	}
	id, ok := c.ownID(path, user)
	if !ok {
		return
	}
	o, err := c.g.storedOrder(id)
	if err != nil {
		c.unreadable(err)
		return
	}
	pending := o == nil && c.g.maybePending(id, user, c.now)
	if pending {
		o = c.awaitRecord(id, wait)
	}
	switch {
	case o != nil && o.User == user:
		c.answerOrder(o)
	case o == nil && pending:
		c.noStore()
		c.buf = appendPending(c.buf[:0], id)
		c.sendPending(200)
	default:
		c.noOrder()
	}
}

// ownID is the order id of a path, if it can be one of this user; otherwise the request is refused.
func (c *call) ownID(path []byte, user order.UserID) (order.ID, bool) {
	n, ok := parseID(path)
	if id := order.ID(n); ok && id.VirtualShard() == order.VirtualShard(user) {
		return id, true
	}
	c.noOrder()
	return 0, false
}

func (c *call) noOrder() {
	c.refuse(&problem{code: codeOrderNotFound, detail: "You have no order with this id."})
}

func (c *call) answerOrder(o *order.Order) {
	c.noStore()
	c.buf = appendOrder(c.buf[:0], o)
	c.send(200)
}

// noStore keeps personal answers out of caches.
func (c *call) noStore() { c.ctx.Response.Header.SetCanonical(headCache, valueStore) }

// listOrders is GET /v1/orders.
func (c *call) listOrders([]byte) {
	user, ok := c.user()
	if !ok {
		return
	}
	args := c.ctx.QueryArgs()
	limit, ok := c.limit()
	if !ok {
		return
	}
	f := store.ListFilter{Limit: limit + 1, Status: order.Status(args.Peek("status"))}
	if args.Has("status") && (!f.Status.Known() || f.Status == order.Pending) {
		c.invalid("?status", "must be a status of a stored order, such as awaiting_payment")
		return
	}
	before, ok := c.cursor()
	if !ok || !c.moment("created_from", &f.From) || !c.moment("created_to", &f.To) {
		return
	}
	if args.Has("idempotency_key") {
		c.listByKey(user, string(args.Peek("idempotency_key")))
		return
	}
	f.Before = order.ID(before)
	var list []*order.Order
	err := c.g.read(c.g.deps.Orders.UserShard(user), func(ctx context.Context) (err error) {
		list, err = c.g.deps.Orders.List(ctx, user, f)
		return err
	})
	if err != nil {
		c.unreadable(err)
		return
	}
	c.answerOrders(list, limit)
}

func (c *call) listByKey(user order.UserID, key string) {
	if !order.ValidKey(key) {
		c.invalid("?idempotency_key", keyRule)
		return
	}
	var list []*order.Order
	err := c.g.read(c.g.deps.Orders.UserShard(user), func(ctx context.Context) (err error) {
		list, err = c.g.deps.Orders.OrdersByKey(ctx, user, key)
		return err
	})
	if err != nil {
		c.unreadable(err)
		return
	}
	c.answerOrders(list, len(list))
}

// answerOrders answers with at most limit orders; one more in list says that there is a next page.
func (c *call) answerOrders(list []*order.Order, limit int) {
	more := len(list) > limit
	if more {
		list = list[:limit]
	}
	c.noStore()
	c.buf = append(c.buf[:0], `{"data":[`...)
	for i, o := range list {
		if i > 0 {
			c.buf = append(c.buf, ',')
		}
		c.buf = appendOrder(c.buf, o)
	}
	c.buf = append(c.buf, `],"next_cursor":`...)
	if more {
		c.buf = appendID(append(c.buf, '"'), uint64(list[limit-1].ID))
	} else {
		c.buf = append(c.buf, "null"...)
	}
	c.buf = append(c.buf, '}')
	c.send(200)
}

// limit is the size of a page. ok is false if the request was refused.
func (c *call) limit() (n int, ok bool) {
	args := c.ctx.QueryArgs()
	if !args.Has("limit") {
		return pageDefault, true
	}
	given, err := strconv.ParseUint(string(args.Peek("limit")), 10, 16)
	if err != nil || given < 1 || given > pageMax {
		c.invalid("?limit", "must be a whole number from 1 to "+strconv.Itoa(pageMax))
		return 0, false
	}
	return int(given), true
}

// cursor is where the page begins: the id of the last thing on the page before. 0: at the beginning.
func (c *call) cursor() (id uint64, ok bool) {
	args := c.ctx.QueryArgs()
	if !args.Has("cursor") {
		return 0, true
	}
	if id, ok = parseID(args.Peek("cursor")); !ok {
		c.invalid("?cursor", "must be a next_cursor of this list")
	}
	return id, ok
}

// moment reads a time from the query. One before 1970 is as good as the first one after. ok is false if the request was
// refused.
func (c *call) moment(name string, into *order.Milli) (ok bool) {
	args := c.ctx.QueryArgs()
	if !args.Has(name) {
		return true
	}
	t, err := time.Parse(time.RFC3339, string(args.Peek(name)))
	if err != nil {
		c.invalid("?"+name, "must be a time such as 2026-01-31T08:00:00Z")
		return false
	}
	*into = max(1, order.MilliOf(t))
	return true
}
