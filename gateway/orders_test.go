package gateway

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
)

// twin is another user with the same shard bits.
func twin(u order.UserID) order.UserID {
	for v := u + 1; ; v++ {
		if order.VirtualShard(v) == order.VirtualShard(u) {
			return v
		}
	}
}

func idAt(at time.Time, u order.UserID, sequence uint8) order.ID {
	return order.MakeID(order.MilliOf(at), 1, order.VirtualShard(u), sequence)
}

func (w *world) stored(u order.UserID, body string) string {
	w.t.Helper()
	return w.do(request{method: "POST", path: "/v1/orders?wait=10", user: u, body: body}).is(201, "").text("id")
}

func TestReadOrderNotStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Now()
	path := func(id order.ID) string { return "/v1/orders/" + id.String() }
	young, old := idAt(now.Add(-time.Hour), 42, 7), idAt(now.Add(-3*time.Hour), 42, 7)

	a := w.get(42, path(young)).is(200, "")
	if a.text("status") != "pending" || len(a.body) != 3 || a.text("id") != young.String() || a.header.Get("Retry-After") == "" {
		t.Errorf("got %s", a.raw)
	}
	w.get(42, path(old)).is(404, "order_not_found")
	w.get(42, path(idAt(now.Add(time.Hour), 42, 7))).is(404, "order_not_found")
	w.get(43, path(young)).is(404, "order_not_found") // not this user's shard bits
	for _, bad := range []string{"0", "007", "x", "-1", "9223372036854775808", "%31%00", "1.0", strings.Repeat("9", 100)} {
		w.get(42, "/v1/orders/"+bad).is(404, "order_not_found")
	}
	// While anything is parked an accepted order may be of any age.
	w.orders.parked.Store(true)
	await(t, "the look for parked orders", func() bool { return w.gateway.parked.Load() })
	w.get(42, path(old)).is(200, "")
	w.get(43, path(old)).is(404, "order_not_found")
}

func TestForeignOrderReadsAsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.stored(42, item(w.offer(), 1))
	other := twin(42)
	w.get(42, "/v1/orders/"+id).is(200, "")
	foreign := w.get(other, "/v1/orders/"+id+"?wait=1").is(404, "order_not_found")
	none := w.get(other, "/v1/orders/"+idAt(time.Now().Add(-5*time.Hour), other, 1).String()).is(404, "order_not_found")
	if foreign.text("detail") != none.text("detail") {
		t.Errorf("%q and %q can be told apart", foreign.raw, none.raw)
	}
	w.do(request{method: "POST", path: "/v1/orders/" + id + "/cancel", user: other}).is(404, "order_not_found")
	if a := w.get(42, "/v1/orders/"+id); a.text("status") != "awaiting_payment" {
		t.Errorf("got %s", a.raw)
	}
}

// The second order of one key reads as the first.
func TestDuplicateReadsAsFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.stored(42, item(w.offer(), 1))
	number, _ := order.ParseID(first)
	second := storedOrder()
	second.ID, second.User = idAt(time.Now(), 42, 9), 42
	second.Reason, second.DuplicateOf = order.ReasonDuplicate, order.ID(number)
	w.orders.put(second)
	if a := w.get(42, "/v1/orders/"+second.ID.String()).is(200, ""); a.text("id") != first || a.text("status") != "awaiting_payment" {
		t.Errorf("got %s", a.raw)
	}
}

func TestReadOrderWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	w.stopPersist()
	placed := w.place(42, item(id, 1)).is(202, "")
	done := make(chan answer)
	for range 20 {
		go func() { done <- w.get(42, "/v1/orders/"+placed.text("id")+"?wait=10") }()
	}
	await(t, "a few looks", func() bool { return w.orders.selects.Load() > 2 })
	w.startPersist()
	for range 20 {
		if a := (<-done).is(200, ""); a.text("status") != "awaiting_payment" {
			t.Errorf("got %s", a.raw)
		}
	}
	if n := w.orders.most.Load(); n != 1 {
		t.Errorf("%d SELECTs at once for one shard", n)
	}
	for _, bad := range []string{"x", "-1", "1.5", "1e1", "99999999999999999999"} {
		w.get(42, "/v1/orders/"+placed.text("id")+"?wait="+bad).is(400, "invalid_request")
	}
}

func TestReadsFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Tuning.ReadsMax = 1; o.Tuning.ReadDeadline = 10 * time.Second })
	id := w.stored(42, item(w.offer(), 1))
	w.orders.fail.Store(true)
	for _, path := range []string{"/v1/orders/" + id, "/v1/orders", "/v1/orders/" + idAt(time.Now(), 42, 1).String()} {
		w.get(42, path).is(503, "not_ready")
	}
	w.orders.fail.Store(false)

	// A shard that hangs holds its own slots and no other's.
	block := make(chan struct{})
	w.orders.hang.Store(&block)
	slow := make(chan answer)
	go func() { slow <- w.get(42, "/v1/orders/"+id) }()
	shard := w.store.UserShard(42)
	await(t, "a read under way", func() bool { return w.gateway.reads[shard].taken.Load() == 1 })
	w.get(42, "/v1/orders").is(503, "overloaded")
	other := order.UserID(43)
	for w.store.UserShard(other) == shard {
		other++
	}
	quick := make(chan answer)
	go func() { quick <- w.get(other, "/v1/orders") }()
	await(t, "a read of the other shard", func() bool { return w.gateway.reads[1-shard].taken.Load() == 1 })
	close(block)
	(<-slow).is(200, "")
	(<-quick).is(200, "")
}

func TestReadDeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tune(func(t *Tuning) { t.ReadDeadline = 20 * time.Millisecond })
	block := make(chan struct{})
	w.orders.hang.Store(&block)
	w.get(42, "/v1/orders").is(503, "not_ready")
	if w.gateway.Tune(Tuning{}) == nil {
		t.Error("a tuning out of bounds was taken")
	}
}

func TestListOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	offer := w.offer()
	var ids []string
	for i := range 5 {
		a := w.do(request{method: "POST", path: "/v1/orders?wait=10", user: 42, body: item(offer, 1),
			header: map[string]string{"Idempotency-Key": fmt.Sprint("key-", i)}}).is(201, "")
		ids = append([]string{a.text("id")}, ids...)
	}
	w.stored(twin(42), item(offer, 1)) // never in this user's lists
	list := func(query string) (got []string, next string) {
		t.Helper()
		a := w.get(42, "/v1/orders?"+query).is(200, "")
		for _, o := range a.body["data"].([]any) {
			got = append(got, o.(map[string]any)["id"].(string))
		}
		next, _ = a.body["next_cursor"].(string)
		return got, next
	}
	check := func(query string, want []string) {
		t.Helper()
		if got, next := list(query); !slices.Equal(got, want) || next != "" {
			t.Errorf("%s: got %v, %q, want %v", query, got, next, want)
		}
	}
	check("", ids)
	check("limit=5", ids)
	check("status=awaiting_payment", ids)
	check("status=paid", nil)
	check("idempotency_key=key-1", ids[3:4])
	check("idempotency_key=key-9", nil)
	check("created_from=2100-01-01T00:00:00Z", nil)
	check("created_to=2100-01-01T00:00:00%2B08:00&created_from=2020-01-01T00:00:00Z", ids)
	check("created_from=1969-01-01T00:00:00Z", ids)
	check("created_to=1969-01-01T00:00:00Z", nil)
	page, next := list("limit=2")
	rest, last := list("limit=3&cursor=" + next)
	if !slices.Equal(append(page, rest...), ids) || last != "" {
		t.Errorf("pages %v %v, want %v", page, rest, ids)
	}
	for _, bad := range []string{"limit=0", "limit=101", "limit=x", "cursor=x", "cursor=-1", "status=pending", "status=PAID",
		"created_from=yesterday", "limit=", "limit=%2B5", "cursor=", "status=", "created_from=", "idempotency_key=", "idempotency_key=" + strings.Repeat("k", 65),
		"idempotency_key=" + url.QueryEscape("a b")} {
		w.get(42, "/v1/orders?"+bad).is(400, "invalid_request")
	}
	w.get(0, "/v1/orders").is(401, "unauthenticated")
}

func TestCancelOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	offer := w.offer()
	cancel := func(u order.UserID, id string) answer {
		t.Helper()
		return w.do(request{method: "POST", path: "/v1/orders/" + id + "/cancel", user: u})
	}
	id := w.stored(42, item(offer, 1))
	for range 2 {
		if a := cancel(42, id).is(200, ""); a.text("status") != "cancelled" || a.text("id") != id {
			t.Errorf("got %s", a.raw)
		}
	}
	await(t, "the unit to come back", func() bool { return w.engine.Offer(offer).Left() == 100 })
	cancel(0, id).is(401, "unauthenticated")
	cancel(42, "x").is(404, "order_not_found")
	cancel(42, idAt(time.Now().Add(-5*time.Hour), 42, 1).String()).is(404, "order_not_found")
	w.stopPersist()
	pending := w.place(42, item(offer, 1)).is(202, "")
	cancel(42, pending.text("id")).is(409, "still_pending")
	w.unpaid = time.Second
	w.startPersist()
	await(t, "the record", func() bool {
		return w.get(42, pending.header.Get("Location")).text("status") == "awaiting_payment"
	})
	await(t, "the time to pay to end", func() bool {
		return w.get(42, pending.header.Get("Location")).text("status") == "expired"
	})
	cancel(42, pending.text("id")).is(409, "not_cancellable")
}
