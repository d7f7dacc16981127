package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/engine"
	"sluice/engine/order"
)

func item(id order.OfferID, n int) string {
	return fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":%d}]}`, id, n)
}

func TestPlacePendingThenStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	body := fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":2}],"details":%s}`, id, fullDetails)
	a := w.place(42, body).is(202, "")
	for field, want := range map[string]any{"user_id": "42", "shop_id": "5", "kind": "normal", "status": "pending",
		"goods_amount": 3998.0, "discount": 0.0, "freight": 0.0, "amount": 3998.0, "currency": "CNY"} {
		if a.body[field] != want {
			t.Errorf("%s is %v, want %v", field, a.body[field], want)
		}
	}
	if !strings.Contains(a.raw, `"details":`+fullDetails) || !strings.Contains(a.raw, `"sku":"sku-1","quantity":2,"unit_price":1999`) {
		t.Errorf("got %s", a.raw)
	}
	orderID, ok := order.ParseID(a.text("id"))
	if !ok || order.ID(orderID).VirtualShard() != order.VirtualShard(42) {
		t.Errorf("id %q", a.text("id"))
	}
	if a.header.Get("Location") != "/v1/orders/"+a.text("id") || a.header.Get("Retry-After") == "" {
		t.Errorf("header %v", a.header)
	}
	for _, part := range []string{"queue;dur=", "reserve;dur=", "publish;dur="} {
		if !strings.Contains(a.header.Get("Server-Timing"), part) {
			t.Errorf("Server-Timing %q", a.header.Get("Server-Timing"))
		}
	}
	stored := w.get(42, a.header.Get("Location")+"?wait=10").is(200, "")
	if stored.text("status") != "awaiting_payment" || stored.text("expires_at") == "" || stored.text("id") != a.text("id") ||
		!strings.Contains(stored.raw, `"details":`+fullDetails) || stored.text("created_at") != a.text("created_at") {
		t.Errorf("got %s", stored.raw)
	}
}

func TestPlaceWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	a := w.do(request{method: "POST", path: "/v1/orders?wait=10", user: 42, body: item(id, 1)}).is(201, "")
	if a.text("status") != "awaiting_payment" || a.header.Get("Location") != "/v1/orders/"+a.text("id") {
		t.Errorf("got %s", a.raw)
	}
	w.stopPersist()
	began := time.Now()
	a = w.do(request{method: "POST", path: "/v1/orders?wait=1", user: 42, body: item(id, 1)}).is(202, "")
	if a.text("status") != "pending" || time.Since(began) < time.Second {
		t.Errorf("after %v: %s", time.Since(began), a.raw)
	}
}

// An accepted order that turns out rejected while its client waits is 200, not a refusal.
func TestPlaceRejectedWhileWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	rejected := storedOrder()
	rejected.ID = order.MakeID(order.MilliOf(time.Now()), 1, order.VirtualShard(42), 1)
	f := func(tk *engine.Ticket) {
		tk.Record = order.Record{ID: rejected.ID, User: 42, Shop: 5, Currency: "CNY", Items: []order.Item{{Line: order.Line{Offer: id, Quantity: 1}}}}
		tk.Answer = engine.Answer{Verdict: engine.Placed, Order: rejected.ID}
		w.orders.put(rejected)
	}
	w.placer.instead.Store(&f)
	a := w.do(request{method: "POST", path: "/v1/orders?wait=10", user: 42, body: item(id, 1)}).is(200, "")
	if a.text("status") != "rejected" || a.text("reason") != "sold_out" {
		t.Errorf("got %s", a.raw)
	}
}

func TestPlaceAgainWithKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer(func(o *order.Offer) { o.Total = 1 })
	first := w.placeKey(42, "k-1", item(id, 1)).is(202, "")
	if first.header.Get("Idempotent-Replayed") != "" {
		t.Error("the first call is no replay")
	}
	await(t, "the record", func() bool { return w.get(42, first.header.Get("Location")).text("status") == "awaiting_payment" })
	again := w.placeKey(42, "k-1", item(id, 1)).is(200, "")
	if again.text("id") != first.text("id") || again.header.Get("Idempotent-Replayed") != "true" ||
		again.text("status") != "awaiting_payment" || again.header.Get("Location") != first.header.Get("Location") {
		t.Errorf("got %v %s", again.header, again.raw)
	}
	// The offer is sold out by now: the key still finds its order, another key does not, another body is another order.
	await(t, "sold out", func() bool { return w.engine.Offer(id).SoldOut() })
	if a := w.placeKey(42, "k-1", item(id, 1)).is(200, ""); a.text("id") != first.text("id") {
		t.Errorf("got %s", a.raw)
	}
	w.placeKey(42, "k-1", item(id, 2)).is(422, "idempotency_key_reused")
	w.placeKey(42, "k-2", item(id, 1)).is(409, "sold_out")
	w.placeKey(43, "k-1", item(id, 1)).is(409, "sold_out")
}

// A storm of repeats is answered with the order, however few may read at once.
func TestPlaceAgainInAStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Tuning.ReadsMax = 1; o.Tuning.ReadDeadline = 10 * time.Second })
	id := w.offer()
	first := w.placeKey(42, "k", item(id, 1)).is(202, "")
	await(t, "the record", func() bool { return w.get(42, first.header.Get("Location")).text("status") == "awaiting_payment" })
	block := make(chan struct{})
	w.orders.hang.Store(&block)
	slow := make(chan answer)
	go func() { slow <- w.get(42, first.header.Get("Location")) }()
	await(t, "the only slot taken", func() bool { return w.gateway.reads[w.store.UserShard(42)].taken.Load() == 1 })
	w.orders.hang.Store(nil)
	if again := w.placeKey(42, "k", item(id, 1)).is(200, ""); again.text("id") != first.text("id") {
		t.Errorf("got %s", again.raw)
	}
	close(block)
	(<-slow).is(200, "")
}

func TestPlaceAgainWhilePending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	w.stopPersist()
	first := w.placeKey(42, "k", item(id, 1)).is(202, "")
	again := w.placeKey(42, "k", item(id, 1)).is(202, "")
	if again.text("id") != first.text("id") || again.header.Get("Idempotent-Replayed") != "true" || len(again.body) != 3 ||
		again.text("status") != "pending" || again.text("created_at") != first.text("created_at") {
		t.Errorf("got %v %s", again.header, again.raw)
	}
	// The earlier order cannot be read: it must not look as if there were none.
	w.orders.fail.Store(true)
	w.placeKey(42, "k", item(id, 1)).is(504, "outcome_unknown")
	w.orders.fail.Store(false)
	w.startPersist()
	stored := w.do(request{method: "POST", path: "/v1/orders?wait=10", user: 42, body: item(id, 1), header: map[string]string{"Idempotency-Key": "k"}}).is(200, "")
	if stored.text("id") != first.text("id") || stored.text("status") != "awaiting_payment" {
		t.Errorf("got %s", stored.raw)
	}
}

func TestPlaceRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := order.MilliOf(time.Now())
	open := w.offer()
	flash := w.offer(func(o *order.Offer) { o.Kind = order.Flash })
	euro := w.offer(func(o *order.Offer) { o.Currency = "EUR" })
	limited := w.offer(func(o *order.Offer) { o.Limit = 2 })
	future := w.offer(func(o *order.Offer) { o.Opens = now + 3_600_000 })
	past := w.offer(func(o *order.Offer) { o.Opens, o.Closes = 1, now-1000 })
	empty := w.offer(func(o *order.Offer) { o.Total = 0 })
	two := func(a, b order.OfferID) string {
		return fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1},{"offer_id":"%d","quantity":1}]}`, a, b)
	}
	for name, c := range map[string]struct {
		body    string
		status  int
		code    string
		pointer string
	}{
		"unknown offer":    {item(999_999, 1), 404, "offer_not_found", "/items/0/offer_id"},
		"second unknown":   {two(open, 999_999), 404, "offer_not_found", "/items/1/offer_id"},
		"normal and flash": {two(open, flash), 422, "mixed_groups", "/items/1/offer_id"},
		"two currencies":   {two(open, euro), 422, "mixed_groups", "/items/1/offer_id"},
		"offer twice":      {two(open, open), 422, "duplicate_item", "/items/1/offer_id"},
		"over limit":       {item(limited, 3), 409, "over_limit", "/items/0/quantity"},
		"not open":         {item(future, 1), 409, "not_open", "/items/0"},
		"closed":           {item(past, 1), 409, "closed", "/items/0"},
		"sold out":         {item(empty, 1), 409, "sold_out", "/items/0"},
		"too many":         {item(open, 101), 409, "sold_out", "/items/0"},
		"second sold out":  {two(open, empty), 409, "sold_out", "/items/1"},
		"quantity":         {item(open, 0), 422, "quantity_invalid", "/items/0/quantity"},
	} {
		a := w.place(42, c.body).is(c.status, c.code)
		errs, _ := a.body["errors"].([]any)
		if len(errs) == 0 || errs[0].(map[string]any)["pointer"] != c.pointer {
			t.Errorf("%s: %s", name, a.raw)
		}
		if c.code == "not_open" {
			opens, err := time.Parse(time.RFC3339, a.text("opens_at"))
			if _, err2 := time.Parse(time.RFC3339, a.text("server_time")); err != nil || err2 != nil || order.MilliOf(opens) != now+3_600_000 {
				t.Errorf("%s: %s", name, a.raw)
			}
		}
	}
	w.place(42, item(limited, 2)).is(202, "")
	w.place(42, item(limited, 1)).is(409, "over_limit")
	w.place(43, item(limited, 1)).is(202, "")
	if left := w.engine.Offer(open).Left(); left != 100 {
		t.Errorf("refused orders took %d units", 100-left)
	}
}

// The short cut must refuse exactly what the engine would refuse as sold out, and nothing that it would not.
func TestSoldOutShortCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := order.MilliOf(time.Now())
	out := w.offer(func(o *order.Offer) { o.Total = 1 })
	other := w.offer()
	soldFuture := w.offer(func(o *order.Offer) { o.Total, o.Opens = 0, now+3_600_000 })
	w.place(1, item(out, 1)).is(202, "")
	await(t, "sold out", func() bool { return w.engine.Offer(out).SoldOut() })
	before := w.gateway.Stats().ShortCuts
	for _, body := range []string{item(out, 1), item(out, 9999), fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1}],"details":%s}`, out, fullDetails)} {
		w.place(42, body).is(409, "sold_out")
	}
	if got := w.gateway.Stats().ShortCuts - before; got != 3 {
		t.Fatalf("%d of 3 took the short cut", got)
	}
	before = w.gateway.Stats().ShortCuts
	w.place(42, item(other, 1)).is(202, "")
	w.place(42, item(out, 0)).is(422, "quantity_invalid")
	w.place(42, item(out, 10_001)).is(422, "quantity_invalid")
	w.place(42, item(soldFuture, 1)).is(409, "not_open")
	w.place(42, fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1.5}]}`, out)).is(422, "quantity_invalid")
	w.place(42, fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1},{"offer_id":"%d","quantity":1}]}`, out, out)).is(422, "duplicate_item")
	w.place(42, fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1}]`, out)).is(400, "invalid_request")
	w.place(42, fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1}]]}`, out)).is(400, "invalid_request")
	w.placeKey(42, "k", item(out, 1)).is(409, "sold_out")
	w.do(request{method: "POST", path: "/v1/orders", body: item(out, 1)}).is(401, "unauthenticated")
	if got := w.gateway.Stats().ShortCuts - before; got != 0 {
		t.Errorf("%d took the short cut that should not", got)
	}
}

func TestPlaceVerdicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	for _, c := range []struct {
		verdict engine.Verdict
		status  int
		code    string
	}{
		{engine.Overloaded, 503, "overloaded"},
		{engine.NotReady, 503, "not_ready"},
		{engine.Unknown, 504, "outcome_unknown"},
		{0, 504, "outcome_unknown"}, // a fault of the engine: nobody knows what it did
	} {
		f := func(t *engine.Ticket) { t.Answer.Verdict = c.verdict }
		w.placer.instead.Store(&f)
		w.place(42, item(id, 1)).is(c.status, c.code)
	}
	if !strings.Contains(w.logs.String(), "a request has failed") {
		t.Error("the fault is not in the log")
	}
}
