package engine

import (
	"context"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// A process whose first rebuild opened fast stock and then failed sells under what it opened. A loss after that waits
// for its publishers as any other does: only a process that has not sold yet has none.
func TestLossAfterAFirstRebuildThatFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(1, 0)
	check(t, w.engine.Close(context.Background()))
	w.loseNow()
	var loaded, failed bool
	var mu sync.Mutex
	w.stock.onShut(func() {
		mu.Lock()
		defer mu.Unlock()
		loaded = true
	})
	w.stock.onRead(func(what string, p order.Partition) error {
		mu.Lock()
		defer mu.Unlock()
		if what == "state" && p == w.flash() && loaded && !failed {
			failed = true
			return &stock.NotReady{Partition: w.flash(), Why: stock.FenceMissing} // not one to try again
		}
		return nil
	})
	w.start(true)
	mu.Lock()
	if !failed {
		t.Error("the first rebuild did not fail: the test shows nothing")
	}
	mu.Unlock()
	var once sync.Once
	w.queue.onPublish(func(*order.Message) error {
		once.Do(func() {
			w.loseNow()
			time.Sleep(deadline * 6 / 10) // the publisher is slow, within D
		})
		return nil
	})
	got := w.place(w.engine.Offer(o.ID), 1, "a")
	w.wantVerdict(got, Placed)
	if o := w.stored(got.Answer.Order); o.Status != order.AwaitingPayment {
		t.Fatalf("an order answered as placed is %s (%s)", o.Status, o.Reason)
	}
	w.agree(o, 1)
}

// A read of the catalogue that failed half way and is begun anew lists every offer once.
func TestCatalogueReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(1, 0)
	w.offer(2, 0)
	check(t, w.engine.Close(context.Background())) // the keeper has let go of the list
	p := w.part()
	for range 2 {
		check(t, p.readCatalogue(t.Context(), *p.part.Load()))
	}
	if len(p.offers) != 2 {
		t.Fatalf("%d entries of 2 offers", len(p.offers))
	}
}
