package engine

import (
	"context"
	"strconv"
	"testing"

	"sluice/engine/order"
)

// placeAll buys one unit each, all at once, and returns the answers by the tickets' fingerprints, which count from 0.
func (w *world) placeAll(n int, fill func(i int, t *Ticket)) []Answer {
	w.t.Helper()
	tickets := make([]*Ticket, n)
	for i := range tickets {
		tickets[i] = NewTicket()
		tickets[i].User, tickets[i].Fingerprint = order.UserID(i+1), uint64(i)
		fill(i, tickets[i])
	}
	w.engine.PlaceAll(context.Background(), tickets)
	answers := make([]Answer, n)
	for _, t := range tickets {
		if answers[t.Fingerprint].Verdict != 0 {
			w.t.Fatalf("ticket %d is there twice", t.Fingerprint)
		}
		answers[t.Fingerprint] = t.Answer
		t.Free()
	}
	return answers
}

func buy(t *Ticket, id order.OfferID) {
	t.Lines = append(t.Lines, order.Line{Offer: id, Quantity: 1})
}

// Tickets that are placed together are answered each for itself, and travel in one batch.
func TestPlaceAllAnswersEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o, few := w.offer(1000, 1), w.offer(3, 0)
	before := w.engine.Stats()
	answers := w.placeAll(400, func(i int, t *Ticket) {
		switch {
		case i%4 == 0:
			buy(t, few.ID)
		case i%4 == 1:
			buy(t, 999_999)
		case i%4 == 2:
			t.User = 1 // one user, who may have one
			buy(t, o.ID)
		default:
			buy(t, o.ID)
		}
	})
	count := map[string]int{}
	for i, a := range answers {
		count[strconv.Itoa(i%4)+" "+a.Verdict.String()+" "+a.Code.String()]++
	}
	for want, n := range map[string]int{"0 placed none": 3, "0 refused sold_out": 97, "1 offer_not_found none": 100,
		"2 placed none": 1, "2 refused over_limit": 99, "3 placed none": 100} {
		if count[want] != n {
			t.Errorf("%d answers %q, want %d: %v", count[want], want, n, count)
		}
	}
	after := w.engine.Stats()
	if in := after.In - before.In; in != 400 || after.Verdicts["placed"]-before.Verdicts["placed"] != 104 {
		t.Errorf("counted %d in, %d placed", in, after.Verdicts["placed"]-before.Verdicts["placed"])
	}
	if batches := after.Batches - before.Batches; batches != 1 {
		t.Errorf("they went in %d batches, not in one", batches)
	}
	w.agree(o, 101)
	w.agree(few, 3)
}

// A known-sold-out offer refuses at once those who have nothing, and gives the others the order of their key.
func TestPlaceAllOfSoldOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	first := w.placeAll(5, func(i int, t *Ticket) { t.Key = "k"; buy(t, o.ID) })
	w.await("the flag", func() bool { return w.engine.Offer(o.ID).SoldOut() })
	batches := w.engine.Stats().Batches
	again := w.placeAll(20, func(i int, t *Ticket) {
		if i%2 == 0 {
			t.Key = "k"
		}
		buy(t, o.ID)
	})
	for i, a := range again {
		want := Refused
		if i < 5 && i%2 == 0 {
			want = Replayed
		}
		if a.Verdict != want || want == Replayed && a.Order != first[i].Order || want == Refused && a.Code != order.SoldOut {
			t.Errorf("ticket %d: %s %s, order %d of %d", i, a.Verdict, a.Code, a.Order, first[i].Order)
		}
	}
	if got := w.engine.Stats().Batches; got != batches {
		t.Errorf("%d batches were made for refusals", got-batches)
	}
}

// Of more tickets than may wait, those that fit are placed and the others are told so.
func TestPlaceAllBeyondTheIntake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(1000, 0)
	tuning := *w.engine.tuning()
	tuning.WaitingMax = 30
	check(t, w.engine.Tune(tuning))
	answers := w.placeAll(100, func(i int, t *Ticket) { buy(t, o.ID) })
	for i, a := range answers {
		if want := map[bool]Verdict{true: Placed, false: Overloaded}[i < 30]; a.Verdict != want {
			t.Errorf("ticket %d: %s, want %s", i, a.Verdict, want)
		}
	}
	w.agree(o, 30)
}
