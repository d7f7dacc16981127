package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
	"sluice/engine/stock"
)

func TestCount(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		x, ids := newSale(t, d, [2]int64{10, 3}, [2]int64{20, 0}, [2]int64{30, 1})
		x.claim(x.batch(users(1, 2), int(ids[0]), 2), x.batch(users(1, 3), int(ids[1]), 1))
		got, err := x.Count(ctx, x.p, x.epoch)
		noError(t, err)
		want := &Count{
			Logged: 1,
			Offers: []stock.LoadOffer{{Offer: ids[0], Left: 6, Limit: 3}, {Offer: ids[1], Left: 17}, {Offer: ids[2], Left: 30, Limit: 1}},
			Buyers: []stock.Buyer{{Offer: ids[0], User: 1, Units: 2}, {Offer: ids[0], User: 2, Units: 2}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		old := x.epoch
		if x.epoch, _, err = x.BeginRebuild(ctx, x.p, old, true); err != nil {
			t.Fatal(err)
		}
		for _, e := range []order.Epoch{old, x.epoch} { // overtaken; its barrier not claimed
			if _, err := x.Count(ctx, x.p, e); !errors.Is(err, ErrNotMine) {
				t.Errorf("counted epoch %d: %v", e, err)
			}
		}
		x.claim(barrier(x.p, x.epoch))
		_, err = x.Count(ctx, x.p, x.epoch)
		noError(t, err)
	})
}

// However claims and raised totals come in between, what a count sees adds up.
func TestCountIsOneSnapshot(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		x, ids := newSale(t, d, [2]int64{100_000, 1000}, [2]int64{100_000, 1000})
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for c := range 2 {
			ids2 := order.ID(1 + c*1_000_000)
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					ids2++
					m := batch(x.p, x.epoch, record(ids2, order.UserID(1+i%50), int(ids[0]), 1, int(ids[1]), 1))
					if _, err := x.Claim(ctx, x.Home(x.p), []*order.Message{m}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			for total := int64(100_001); ; total++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, err := x.ChangeOffer(ctx, ids[0], OfferChange{Total: &total}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		seen := map[int64]bool{} // how much was sold at the counts
		for begun := time.Now(); len(seen) < 30 && time.Since(begun) < 20*time.Second; {
			c, err := x.Count(ctx, x.p, x.epoch)
			if err != nil {
				t.Error(err)
				break
			}
			var held [2]int64
			for _, b := range c.Buyers {
				held[b.Offer-ids[0]] += b.Units
			}
			raised := int64(c.Logged) - 1 // each row but the creation raised the first offer by one
			if held[0] != held[1] || c.Offers[0].Left != 100_000+raised-held[0] || c.Offers[1].Left != 100_000-held[1] {
				t.Errorf("left %d and %d, held %d and %d, raised %d", c.Offers[0].Left, c.Offers[1].Left, held[0], held[1], raised)
			}
			seen[held[0]] = true
		}
		close(stop)
		wg.Wait()
		if len(seen) < 5 {
			t.Errorf("claims came between only %d counts", len(seen))
		}
	})
}
