package memstock_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/engine/stock/memstock"
	"sluice/engine/stock/stocktest"
)

// clock stands still until it is moved.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func TestStock(t *testing.T) {
	stocktest.Run(t, stocktest.Harness{Open: open})
}

func open(testing.TB) *stocktest.Data {
	c := &clock{}
	c.ms.Store(time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC).UnixMilli())
	partitions := order.Partitions{Normal: 1, Flash: 2}
	st := memstock.New(memstock.Options{Partitions: partitions, Now: c.now})
	return &stocktest.Data{
		Partitions: partitions,
		Client:     func() stock.Stock { return st },
		Now:        c.now,
		Advance:    c.advance,
		Lose:       func(p order.Partition, what stocktest.Loss) { st.Lose(p, memstock.Loss(what)) },
	}
}

// Data is lost, rebuilt and read while it is sold: under the race detector this shows what the mutexes do not cover; the
// units of every epoch add up.
func TestLossesWhileSelling(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	st := memstock.New(memstock.Options{Partitions: order.Partitions{Normal: 1}})
	var epoch atomic.Uint64
	rebuild := func() {
		e := order.Epoch(epoch.Add(1))
		intact, ok, err := st.Shut(ctx, 0, e)
		if err != nil || !ok {
			t.Error(ok, err)
		}
		page := &stock.LoadPage{Offers: []stock.LoadOffer{{Offer: 1, Left: 1 << 30, Limit: 1 << 20}}, Last: true, Lost: !intact}
		if err := st.Load(ctx, 0, e, page); err != nil && !stock.NotExecuted(err) {
			t.Error(err)
		}
	}
	rebuild()
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 300 {
				e := order.Epoch(epoch.Load())
				id := next.Add(1)
				_, err := st.Reserve(ctx, &stock.ReserveCall{Epoch: e, Requests: []stock.Request{
					{Order: order.ID(id), User: order.UserID(id % 7), Key: id, Lines: []order.Line{{Offer: 1, Quantity: 1}}}}})
				if err != nil && !stock.NotExecuted(err) {
					t.Error(err)
				}
				if _, err := st.Lookup(ctx, 0, e, []stock.KeyQuery{{User: order.UserID(id % 7), Key: id}}); err != nil && !stock.NotExecuted(err) {
					t.Error(err)
				}
				balanced(t, st, e)
			}
		})
	}
	for _, what := range []memstock.Loss{memstock.All, memstock.Fence, memstock.Identity, memstock.Left, memstock.Offers,
		memstock.Buyers, memstock.Idem, memstock.Outbox} {
		st.Lose(0, what)
		rebuild()
	}
	wg.Wait()
	balanced(t, st, order.Epoch(epoch.Load()))
}

func balanced(t *testing.T, st *memstock.Stock, e order.Epoch) {
	snap, err := st.Snapshot(t.Context(), 0, e)
	if err != nil {
		if !stock.NotExecuted(err) {
			t.Error(err)
		}
		return
	}
	sum := snap.Left[0].Units
	for _, b := range snap.Buyers {
		sum += b.Units
	}
	if sum != 1<<30 {
		t.Errorf("left and held are %d units, want %d", sum, 1<<30)
	}
}
