package store

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

func idsOf(orders []*order.Order) []order.ID {
	ids := []order.ID{}
	for _, o := range orders {
		if o == nil {
			ids = append(ids, 0)
		} else {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

func TestReadOrders(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := newDesk(t, dialect, [2]int64{100, 0})
		a, b, c, x := d.order(1, "a", 0, 1), d.order(1, "b", 0, 1), d.order(1, "", 0, 1), d.order(2, "a", 0, 1)
		again := d.order(1, "a", 0, 1)
		d.place(a, b, c, x, again)
		_, _, err := d.Cancel(ctx, b.ID, 1)
		noError(t, err)
		expect := func(what string, got []*order.Order, err error, want ...order.ID) {
			t.Helper()
			noError(t, err)
			if diff := cmp.Diff(append([]order.ID{}, want...), idsOf(got)); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		shard := d.UserShard(1)
		unknown := d.order(1, "", 0, 1).ID
		got, err := d.OrdersByID(ctx, shard, []order.ID{c.ID, unknown, a.ID, again.ID})
		expect("by id", got, err, c.ID, 0, a.ID, again.ID)
		none, err := d.Order(ctx, unknown)
		if none != nil || err != nil {
			t.Errorf("an order that is not stored: %v %v", none, err)
		}
		lists := map[string]struct {
			filter ListFilter
			want   []order.ID
		}{
			"all, newest first":   {ListFilter{Limit: 10}, []order.ID{c.ID, b.ID, a.ID}},
			"a page":              {ListFilter{Limit: 2}, []order.ID{c.ID, b.ID}},
			"the next page":       {ListFilter{Limit: 2, Before: b.ID}, []order.ID{a.ID}},
			"by status":           {ListFilter{Limit: 10, Status: order.Cancelled}, []order.ID{b.ID}},
			"from, inclusive":     {ListFilter{Limit: 10, From: b.ID.Time()}, []order.ID{c.ID, b.ID}},
			"to, exclusive":       {ListFilter{Limit: 10, To: b.ID.Time()}, []order.ID{a.ID}},
			"nothing of that day": {ListFilter{Limit: 10, From: again.ID.Time() + 1}, nil},
		}
		for what, l := range lists {
			got, err := d.List(ctx, 1, l.filter)
			expect(what, got, err, l.want...)
		}
		got, err = d.OrdersByKey(ctx, 1, "a")
		expect("by key", got, err, a.ID)
		got, err = d.OrdersByKey(ctx, 2, "b")
		expect("by another user's key", got, err)
		if d.UserShard(2) != shard {
			t.Fatal("the test needs two users of one shard")
		}
		key := func(u order.UserID, k string) KeyRef { return KeyRef{u, order.KeyHash("g", k)} }
		got, err = d.OrdersOfKeys(ctx, shard, []KeyRef{key(2, "b"), key(2, "a"), key(1, "b"), key(1, "a"), key(1, "")})
		expect("of keys", got, err, 0, x.ID, b.ID, a.ID, 0)
	})
}

// TestOrdersOfManyKeys asks for more than one statement takes.
func TestOrdersOfManyKeys(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{10_000, 0})
		const n = 2*listMax + 3
		var records []*order.Record
		var refs []KeyRef
		var ids []order.ID
		for range n {
			r := d.order(1, time.Now().String(), 0, 1)
			records, refs, ids = append(records, r), append(refs, KeyRef{1, r.KeyHash()}), append(ids, r.ID)
		}
		d.place(records...)
		byKey, err := d.OrdersOfKeys(context.Background(), d.UserShard(1), refs)
		noError(t, err)
		byID, err := d.OrdersByID(context.Background(), d.UserShard(1), ids)
		noError(t, err)
		if diff := cmp.Diff(ids, idsOf(byKey)); diff != "" {
			t.Errorf("by key: %s", diff)
		}
		if diff := cmp.Diff(ids, idsOf(byID)); diff != "" {
			t.Errorf("by id: %s", diff)
		}
	})
}
