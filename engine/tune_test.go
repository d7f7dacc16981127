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
	w.tune(func(t *Tuning) { t.Selling = []order.Kind{order.Normal} })
	w.wantVerdict(w.place(o, 2, "k"), NotReady)
	w.wantVerdict(w.place(o, 2, ""), NotReady)
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
