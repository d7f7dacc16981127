package gateway

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/engine"
	"sluice/engine/order"
	"sluice/gateway/limit"
)

// tune changes the tuning of the running gateway.
func (w *world) tune(change func(*Tuning)) {
	w.t.Helper()
	t := *w.gateway.tuned.Load()
	change(&t)
	must(w.t, w.gateway.Tune(t))
}

// sold waits until fast stock knows the offer too.
func (w *world) sold(id order.OfferID) {
	w.t.Helper()
	await(w.t, "the sale", func() bool { return w.place(1<<40, item(id, 1)).status == 202 })
}

// TestEverySettingIsHot sees every setting of Tuning take effect on a gateway that runs.
func TestEverySettingIsHot(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T){
		"WaitMax": waitMaxFollows, "ReadDeadline": readDeadlineFollows, "ReadsMax": readsMaxFollows,
		"BatchesMax": batchesMaxFollows, "WaitersMax": waitersMaxFollows,
	}
	// Each of the limits, with a request that it counts; user is another one each time.
	for name, counted := range map[string]func(w *world, offer order.OfferID, user order.UserID) answer{
		"Global": func(w *world, _ order.OfferID, _ order.UserID) answer { return w.get(0, "/v1/offers") },
		"IP":     func(w *world, _ order.OfferID, _ order.UserID) answer { return w.get(0, "/v1/offers") },
		"User":   func(w *world, _ order.OfferID, _ order.UserID) answer { return w.get(1, "/v1/orders") },
		"Offer":  func(w *world, o order.OfferID, u order.UserID) answer { return w.place(u, item(o, 1)) },
	} {
		tests["Limits."+name] = func(t *testing.T) { limitFollows(t, name, counted) }
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Tuning]()) {
		names := []string{f.Name}
		if f.Type.Kind() == reflect.Struct {
			names = nil
			for _, part := range reflect.VisibleFields(f.Type) {
				names = append(names, f.Name+"."+part.Name)
			}
		}
		for _, name := range names {
			if tests[name] == nil {
				t.Errorf("nothing shows that %s is hot", name)
			}
		}
	}
	for name, test := range tests {
		t.Run(name, test)
	}
}

// limitFollows changes rate and burst of one limit.
func limitFollows(t *testing.T, name string, counted func(*world, order.OfferID, order.UserID) answer) {
	t.Parallel()
	w := newWorld(t)
	offer, user := w.offer(), order.UserID(0)
	w.sold(offer)
	through := func() bool {
		t.Helper()
		user++
		a := counted(w, offer, user)
		if a.status != 429 && a.status >= 300 {
			t.Fatalf("%d %s", a.status, a.raw)
		}
		return a.status != 429
	}
	lets := func(n int) {
		t.Helper()
		for i := range n + 1 {
			if got := through(); got != (i < n) {
				t.Errorf("request %d went through: %v; the limit lets %d", i+1, got, n)
			}
		}
	}
	set := func(rate float64, burst int) {
		t.Helper()
		w.tune(func(t *Tuning) {
			reflect.ValueOf(&t.Limits).Elem().FieldByName(name).Set(reflect.ValueOf(limit.Limit{Rate: rate, Burst: burst}))
		})
	}
	set(limit.RateMin, 1)
	lets(1)
	set(limit.RateMin, 3)
	lets(2) // and the one before
	set(100, 3)
	await(t, "a rate of 100", through)
	set(0, 3)
	for range 20 {
		if !through() {
			t.Fatal("a limit that is off refuses")
		}
	}
}

func waitMaxFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	w.sold(id)
	w.stopPersist() // nothing is stored
	for user, most := range []time.Duration{time.Second, 0, 300 * time.Millisecond} {
		w.tune(func(t *Tuning) { t.WaitMax = most })
		began := time.Now()
		w.do(request{method: "POST", path: "/v1/orders?wait=60", user: order.UserID(user + 1), body: item(id, 1)}).is(202, "")
		if took := time.Since(began); took < most || took > most+5*time.Second {
			t.Errorf("with a wait_max of %v the answer came after %v", most, took)
		}
	}
}

func readDeadlineFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	block := make(chan struct{})
	w.orders.hang.Store(&block)
	for _, d := range []time.Duration{time.Second, 20 * time.Millisecond} {
		w.tune(func(t *Tuning) { t.ReadDeadline = d })
		began := time.Now()
		w.get(42, "/v1/orders").is(503, "not_ready")
		if took := time.Since(began); took < d || took > d+900*time.Millisecond {
			t.Errorf("with a deadline of %v the answer came after %v", d, took)
		}
	}
	close(block)
}

func readsMaxFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	block := make(chan struct{})
	w.orders.hang.Store(&block)
	read := &w.gateway.reads[w.store.UserShard(42)]
	var slow []chan answer
	for n := 1; n <= 3; n++ {
		w.tune(func(t *Tuning) { t.ReadsMax, t.ReadDeadline = n, time.Minute })
		c := make(chan answer, 1)
		go func() { c <- w.get(42, "/v1/orders") }()
		slow = append(slow, c)
		await(t, "a read under way", func() bool { return read.taken.Load() == int64(n) })
		w.get(42, "/v1/orders").is(503, "overloaded")
	}
	w.tune(func(t *Tuning) { t.ReadsMax = 1 }) // those under way go on
	close(block)
	for _, c := range slow {
		(<-c).is(200, "")
	}
	w.get(42, "/v1/orders").is(200, "")
}

func batchesMaxFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	leave := make(chan struct{})
	f := func(tk *engine.Ticket) {
		<-leave
		tk.Answer.Verdict = engine.NotReady
	}
	w.placer.instead.Store(&f)
	done := make(chan []batchAnswer, 3)
	for n := 1; n <= 3; n++ {
		w.tune(func(t *Tuning) { t.BatchesMax = n })
		go func() { done <- w.batch(line(n, "a", id)) }()
		await(t, "a batch under way", func() bool { return w.gateway.batches.taken.Load() == int64(n) })
		w.sendBatch(line(9, "a", id), nil).is(503, "overloaded")
	}
	close(leave)
	for range 3 {
		wantLines(t, <-done, "1 503 not_ready")
	}
}

func waitersMaxFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, user := w.offer(), order.UserID(0)
	w.sold(id)
	w.stopPersist()
	place := func() answer {
		user++
		return w.do(request{method: "POST", path: "/v1/orders?wait=3", user: user, body: item(id, 1)})
	}
	for _, c := range []struct {
		most  int
		waits bool
	}{{0, false}, {1, true}, {0, false}} {
		w.tune(func(t *Tuning) { t.WaitersMax = c.most })
		began := time.Now()
		place().is(202, "")
		if waited := time.Since(began) >= 3*time.Second; waited != c.waits {
			t.Errorf("with %d waiters at most: waited %v", c.most, waited)
		}
	}
}

// What is not sold says so: the kind that is switched off, and the kind that this process does not sell at all.
func TestNotSold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Kinds = []order.Kind{order.Normal} })
	id := w.offer()
	w.sold(id)
	first := w.placeKey(1, "k", item(id, 1)).is(202, "")
	tuning := engine.DefaultOptions().Tuning
	tuning.Selling = []order.Kind{order.Flash}
	must(t, w.engine.Tune(tuning))
	a := w.placeKey(2, "k", item(id, 1)).is(503, "not_ready")
	if a.text("detail") != "Offers of the kind normal are not sold at the moment: the shop has switched them off. Nothing was ordered; try again later." {
		t.Errorf("%s", a.raw)
	}
	again := w.placeKey(1, "k", item(id, 1))
	if again.text("id") != first.text("id") || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the repeat of an accepted order: %d %s", again.status, again.raw)
	}
	w.get(1, fmt.Sprint("/v1/offers/", id)).is(200, "")
	if got := w.batch(line(3, "k", id), line(1, "k", id)); got[0].short() != "1 503 not_ready" || !got[1].Replayed {
		t.Errorf("in a batch: %+v", got)
	}
	for _, unknown := range []answer{w.place(1, item(99, 1)), w.get(1, "/v1/offers/99")} {
		unknown.is(404, "offer_not_found")
		if !strings.Contains(unknown.text("detail"), "or of another kind: this server sells normal offers only") {
			t.Errorf("%s", unknown.raw)
		}
	}
}
