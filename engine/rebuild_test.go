package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
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
			lost := w.part().session.Load()
			w.loseNow()
			// The publisher is slow, within D: a rebuild that does not wait for it opens meanwhile.
			for end := time.Now().Add(deadline * 6 / 10); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if s := w.part().session.Load(); s != nil && s != lost {
					return
				}
			}
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

// What a rebuild of an intact fast stock needs may be away for a while: it waits, and the keys are not lost.
func TestIntactRebuildOutlastsFailures(t *testing.T) {
	t.Parallel()
	faults := map[string]func(w *world, while context.Context){
		"outbox": func(w *world, while context.Context) {
			w.stock.onRead(func(what string, _ order.Partition) error {
				if what == "batches" && while.Err() == nil {
					return errPlanted
				}
				return nil
			})
		},
		"full queue": func(w *world, while context.Context) {
			w.queue.onBarrier(func() error {
				if while.Err() == nil {
					return queue.ErrFull
				}
				return nil
			})
		},
		"part":        func(w *world, while context.Context) { w.hideTable(while, "part") },
		"offer_stock": func(w *world, while context.Context) { w.hideTable(while, "offer_stock") },
	}
	for name, plant := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.offer(5, 0)
			first := w.place(o, 1, "a")
			w.wantVerdict(first, Placed)
			w.stored(first.Answer.Order)
			before, rebuilds := w.part().session.Load(), w.engine.Stats().Rebuilds
			while, heal := context.WithCancel(t.Context())
			defer heal()
			shut := make(chan struct{})
			var once sync.Once
			w.stock.onShut(func() {
				once.Do(func() {
					plant(w, while)
					close(shut)
				})
			})
			check(t, w.engine.RequestRebuild(t.Context(), w.flash()))
			<-shut
			w.await("a step that fails", func() bool {
				told := w.told.String()
				return strings.Contains(told, "a step of the rebuild fails") || strings.Contains(told, "recovery did not succeed")
			})
			if w.part().session.Load() != nil {
				t.Error("open already: the test shows nothing")
			}
			heal()
			w.await("a new epoch", func() bool { s := w.part().session.Load(); return s != nil && s.epoch > before.epoch })
			if since := w.part().session.Load().keysSince; since != before.keysSince {
				t.Errorf("the rebuild dropped the keys: %+v", since)
			}
			if n := w.engine.Stats().Rebuilds - rebuilds; n != 1 {
				t.Errorf("%d rebuilds", n)
			}
			w.wantVerdict(w.place(o, 1, "a"), Replayed)
			w.agree(o, 1)
		})
	}
}

// hideTable takes a table of the flash partition's home shard away until ctx ends.
func (w *world) hideTable(ctx context.Context, table string) {
	name := fmt.Sprintf("shard-%d.db", w.store.Home(w.flash()))
	rename := func(from, to string) error {
		file, err := sql.Open("sqlite", filepath.Join(w.dir, name)+"?_pragma=busy_timeout(10000)")
		if err == nil {
			_, err = file.Exec("ALTER TABLE " + from + " RENAME TO " + to)
		}
		return errors.Join(err, file.Close())
	}
	if err := rename(table, table+"_away"); err != nil {
		w.t.Error(err)
	}
	context.AfterFunc(ctx, func() {
		if err := rename(table+"_away", table); err != nil {
			w.t.Error(err)
		}
	})
}

// Publishing that fails is told once, and once when it is well again.
func TestFailingPublishIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, epoch := w.part(), w.part().session.Load().epoch
	check(t, w.engine.Close(context.Background())) // nobody else publishes
	fails := 0
	w.queue.onBarrier(func() error {
		if fails++; fails <= 5 {
			return errPlanted
		}
		return nil
	})
	for range 2 {
		check(t, p.publish(t.Context(), order.AppendBarrier(nil, p.number, epoch, 1)))
	}
	for _, text := range []string{"publishing fails", "publishing is well again"} {
		if n := strings.Count(w.told.String(), text); n != 1 {
			t.Errorf("%q was told %d times, want once:\n%s", text, n, w.told)
		}
	}
}
