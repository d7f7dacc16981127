package engine

import (
	"testing"
	"time"

	"sluice/engine/order"
)

// tune changes the tuning of the running engine.
func (w *world) tune(change func(*Tuning)) {
	w.t.Helper()
	t := *w.engine.tuning()
	change(&t)
	check(w.t, w.engine.Tune(t))
}

// A kind that is switched off takes no new order, and still gives the earlier one to whoever repeats its key.
func TestSellingIsSwitchedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(10, 0)
	first := w.place(o, 1, "k")
	w.wantVerdict(first, Placed)
	w.await("an empty outbox", func() bool {
		snap, _, err := w.engine.Snapshot(t.Context(), w.flash())
		return err == nil && snap.Batches == 0
	})
	w.tune(func(t *Tuning) { t.Selling = []order.Kind{order.Normal} })
	w.wantVerdict(w.place(o, 2, "k"), NotSold)
	w.wantVerdict(w.place(o, 2, ""), NotSold)
	again := w.place(o, 1, "k")
	w.wantVerdict(again, Replayed)
	if again.Answer.Order != first.Answer.Order {
		t.Errorf("the repeat got order %d, not %d", again.Answer.Order, first.Answer.Order)
	}
	w.tune(func(t *Tuning) { t.Selling = order.Kinds[:] })
	w.wantVerdict(w.place(o, 2, "k"), Placed)
	w.agree(o, 2)
}

// Flights are started and ended as the tuning says, and none of them leaves a ticket behind.
func TestInFlightFollowsTheTuning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(100, 0)
	user := order.UserID(0)
	underWay := func() int {
		entered, leave := make(chan struct{}, 8), make(chan struct{})
		w.queue.onPublish(func(*order.Message) error {
			entered <- struct{}{}
			<-leave
			return nil
		})
		var later []<-chan Ticket
		for range 4 {
			user++
			later = append(later, w.placeLater(o, user, ""))
			<-time.After(50 * time.Millisecond)
		}
		n := len(entered)
		w.queue.onPublish(nil)
		close(leave)
		for _, c := range later {
			w.wantVerdict(<-c, Placed)
		}
		return n
	}
	for _, want := range []int{1, 3, 2, 1, 2} {
		w.tune(func(t *Tuning) { t.InFlight = want })
		if want < 3 {
			user++
			w.wantVerdict(w.place(o, user, ""), Placed) // who is one too many ends when it is woken
		}
		if got := underWay(); got != want {
			t.Errorf("%d batches under way, want %d", got, want)
		}
	}
	w.agree(o, int64(user))
}

// A batch takes as many orders as the tuning says.
func TestBatchesFollowTheTuning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(1000, 0)
	for _, c := range []struct{ most, batches int64 }{{1000, 1}, {10, 10}} {
		w.tune(func(t *Tuning) { t.BatchOrdersMax = int(c.most) })
		before := w.engine.Stats().Batches
		w.placeAll(100, func(_ int, t *Ticket) { buy(t, o.ID) })
		if got := w.engine.Stats().Batches - before; got != c.batches {
			t.Errorf("100 orders went in %d batches of at most %d", got, c.most)
		}
	}
}

// What was not confirmed is published again when it is as old as the tuning says.
func TestRelayFollowsTheTuning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(10, 0)
	w.tune(func(t *Tuning) { t.RelayAfter = time.Hour })
	w.queue.onPublish(func(*order.Message) error { return errPlanted })
	w.wantVerdict(w.place(o, 1, "a"), Unknown)
	w.queue.onPublish(nil)
	<-time.After(1500 * time.Millisecond)
	if n := w.engine.Stats().Relayed; n != 0 {
		t.Fatalf("%d batches relayed within seconds, not after an hour", n)
	}
	w.tune(func(t *Tuning) { t.RelayAfter = time.Second })
	w.await("the relay", func() bool { return w.engine.Stats().Relayed == 1 })
	w.agree(o, 1)
}

// Fast stock is counted anew at the age that the tuning says.
func TestRebuildFollowsTheTuning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(10, 0)
	w.wantVerdict(w.place(o, 1, "a"), Placed)
	before := w.part().session.Load().epoch
	tuning := *w.engine.tuning()
	tuning.RebuildEvery = time.Millisecond // less than whoever loads a configuration allows
	w.engine.tuned.Store(&tuning)
	w.await("a rebuild", func() bool { s := w.part().session.Load(); return s != nil && s.epoch > before })
	w.tune(func(t *Tuning) { t.RebuildEvery = time.Hour })
	w.awaitOpen()
	w.agree(o, 1)
}
