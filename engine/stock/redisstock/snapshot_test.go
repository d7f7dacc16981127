package redisstock

import (
	"context"
	"sync"
	"testing"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// A snapshot of many pages is of one moment, whether units are sold meanwhile or not, and has every buyer once.
func TestSnapshotInPages(t *testing.T) {
	t.Parallel()
	const buyers, total = 20 * snapshotPage, 1 << 30
	ds := newDataset(t, single)
	st := ds.client()
	page := &stock.LoadPage{Offers: []stock.LoadOffer{{Offer: 1, Left: total - buyers, Limit: 9}}, Last: true, Lost: true}
	for user := range order.UserID(buyers) {
		page.Buyers = append(page.Buyers, stock.Buyer{Offer: 1, User: user + 1, Units: 1})
	}
	ds.shutAndLoad(st, page)
	look := func() (sold int) {
		snap, err := st.Snapshot(t.Context(), 0, 1)
		ds.must(err)
		seen, held := map[order.UserID]bool{}, int64(0)
		for _, b := range snap.Buyers {
			if seen[b.User] {
				t.Fatalf("user %d is there twice", b.User)
			}
			seen[b.User] = true
			held += b.Units
		}
		if len(snap.Left) != 1 || snap.Left[0].Units+held != total {
			t.Fatalf("%v left and %d held of %d units", snap.Left, held, total)
		}
		return len(seen)
	}
	if n := look(); n != buyers {
		t.Errorf("%d buyers, want %d", n, buyers)
	}
	ctx, stop := context.WithCancel(context.Background())
	var selling sync.WaitGroup
	selling.Go(func() {
		for id := order.ID(buyers + 1); ctx.Err() == nil; id++ {
			_, err := st.Reserve(context.Background(), &stock.ReserveCall{Epoch: 1, Requests: []stock.Request{{Order: id, User: order.UserID(id),
				Key: uint64(id), Lines: []order.Line{{Offer: 1, Quantity: 1}}, Record: []byte("r")}}})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for before := look(); look() == before; {
		t.Log("nothing was sold yet")
	}
	for range 5 {
		look()
	}
	stop()
	selling.Wait()
}
