package engine

import (
	"context"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock/memstock"
	"sluice/persist/store"
)

// forgetKeys loses fast stock and waits until looks before a refusal can be answered.
func (w *world) forgetKeys() {
	w.t.Helper()
	w.mem.Lose(w.flash(), memstock.All)
	w.await("the loss is healed", func() bool { s := w.part().session.Load(); return s != nil && s.keysSince.Logged > 0 })
	w.await("the rows of before are recorded", func() bool {
		s, part := w.part().session.Load(), w.part().part.Load()
		return s != nil && part.Recorded >= s.keysSince.Epoch
	})
}

// soldOutWithoutKeys is a world with an offer that is sold out and older than the loss of the keys.
func soldOutWithoutKeys(t *testing.T) (*world, *Offer) {
	t.Helper()
	w := newWorld(t)
	o := w.offer(1, 0)
	first := w.place(o, 1, "a")
	w.wantVerdict(first, Placed)
	w.stored(first.Answer.Order)
	w.forgetKeys()
	return w, o
}

// An order that its user shard refuses lives, with its key, on the home shard: its buyer is not told that there is none.
func TestLookFindsPoison(t *testing.T) {
	t.Parallel()
	w, o := soldOutWithoutKeys(t)
	park := func(user order.UserID, fingerprint uint64, status order.Status) order.ID {
		id, err := w.ids.Next(user)
		check(t, err)
		r := order.Record{ID: id, User: user, Shop: 1, Currency: "CNY", Key: "b", Fingerprint: fingerprint, Group: o.Group,
			Items: []order.Item{{Line: order.Line{Offer: o.ID, Quantity: 1}, UnitPrice: 990, PriceVersion: 1, SKU: "sku"}}}
		check(t, w.store.Park(t.Context(), w.store.Home(w.flash()), []store.ParkedOrder{{Order: id, Batch: order.BatchID(id),
			Shard: w.store.UserShard(user), Partition: w.flash(), Epoch: 1, Status: status, Error: "refused",
			Bytes: order.AppendRecord(nil, &r)}}))
		return id
	}
	id := park(2, 7, order.AwaitingPayment)
	park(3, 8, order.AwaitingPayment)
	park(4, 7, order.Rejected)
	got := w.place(o, 2, "b")
	w.wantVerdict(got, Replayed)
	if got.Answer.Order != id {
		t.Errorf("found order %s, want %s", got.Answer.Order, id)
	}
	for user, want := range map[order.UserID]order.Code{3: order.KeyReused, 4: order.SoldOut, 5: order.SoldOut} {
		if got := w.place(o, user, "b"); got.Answer.Verdict != Refused || got.Answer.Code != want {
			t.Errorf("user %d: %s %s, want %s", user, got.Answer.Verdict, got.Answer.Code, want)
		}
	}
}

// A user shard that hangs delays no look on another one, and its own looks end in time, all of them, as unknown.
func TestLooksOnAShardThatHangs(t *testing.T) {
	t.Parallel()
	w, o := soldOutWithoutKeys(t)
	tuned := *w.engine.tuning()
	tuned.RequestDeadline = 500 * time.Millisecond
	check(t, w.engine.Tune(tuned))
	hanging, hangs := w.store.UserShard(2), make(chan struct{}, 10)
	w.engine.ordersOfKeys = func(ctx context.Context, shard int, keys []store.KeyRef) ([]*order.Order, error) {
		if shard != hanging {
			return w.store.OrdersOfKeys(ctx, shard, keys)
		}
		hangs <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	well := order.UserID(3)
	for w.store.UserShard(well) == hanging {
		well++
	}
	began := time.Now()
	first := w.placeLater(o, 2, "b")
	<-hangs
	second := w.placeLater(o, 2, "c")
	if got := w.place(o, well, "b"); got.Answer.Verdict != Refused || got.Answer.Code != order.SoldOut {
		t.Errorf("on the other shard: %s %s", got.Answer.Verdict, got.Answer.Code)
	}
	if took := time.Since(began); took > deadline {
		t.Errorf("the other shard's look took %s", took)
	}
	w.wantVerdict(<-first, Unknown)
	w.wantVerdict(<-second, Unknown)
	if took := time.Since(began); took > deadline+1500*time.Millisecond {
		t.Errorf("the looks of the shard that hangs took %s", took)
	}
}
