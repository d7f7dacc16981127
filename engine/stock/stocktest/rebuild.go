package stocktest

import (
	"sync"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Intact means: the fence was open, its own, and nothing was missing.
func testShutIntact(w *world) {
	w.want("a missing fence", w.shut(w.e), false)
	w.want("a shut fence", w.shut(w.e+1), false)
	w.must(w.st.Load(w.ctx, w.p, w.e+1, &stock.LoadPage{Last: true, Lost: true}))
	w.want("an open fence", w.shut(w.e+2), true)
	w.want("shut again", w.shut(w.e+3), false)
	w.must(w.st.Load(w.ctx, w.p, w.e+3, &stock.LoadPage{Last: true, Lost: true}))
	w.want("by another client", w.shutBy(w.other, w.e+4), true)
}

func (w *world) shutBy(st stock.Stock, e order.Epoch) bool {
	w.Helper()
	intact, ok, err := st.Shut(w.ctx, w.p, e)
	w.must(err)
	return intact && ok
}

// Shut gives up before an epoch that is its own or later, and changes nothing.
func testShutGivesUp(w *world) {
	givesUp := func(e order.Epoch) {
		w.Helper()
		intact, ok, err := w.st.Shut(w.ctx, w.p, e)
		w.must(err)
		if intact || ok {
			w.Fatalf("shut for epoch %d: intact %v, ok %v; want neither", e, intact, ok)
		}
	}
	w.open(offer(1, 10))
	w.reserve(w.request(1, 1, line(1, 1)))
	before := w.contents()
	givesUp(w.e)
	givesUp(w.e - 1)
	w.want("contents", w.contents(), before)
	w.shut(w.e + 5)
	givesUp(w.e + 5)
	givesUp(w.e + 4)
	w.e += 5
	w.must(w.st.Load(w.ctx, w.p, w.e, &stock.LoadPage{Last: true}))
	w.want("outbox", w.contents().Outbox, before.Outbox)
	if w.data.Lose == nil {
		w.Log("SKIPPED: identity; the harness declares that nothing can be lost at will")
		return
	}
	w.data.Lose(w.p, LoseIdentity)
	givesUp(w.e)
	state, err := w.st.State(w.ctx, w.p)
	w.must(err)
	w.want("a fence of another data set", []any{state.Fence.Open, state.Fence.Mine}, []any{true, false})
}

// Between shut and the last page nothing is sold, also not from what is loaded already.
func testShutStopsSelling(w *world) {
	w.open(offer(1, 10))
	w.shut(w.e + 1)
	w.must(w.st.Load(w.ctx, w.p, w.e+1, &stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 10)}}))
	w.noneSells("half loaded", w.e+1, stock.FenceShut)
	w.noneSells("half loaded, former epoch", w.e, stock.FenceShut)
	w.e++
	w.must(w.st.Load(w.ctx, w.p, w.e, &stock.LoadPage{Last: true}))
	w.want("loaded", w.buy(1, 1, 1), order.Accepted)
}

// Pages may come in any order and any number of times until the last; nothing of the former epoch is left.
func testLoadPages(w *world) {
	w.openPage(&stock.LoadPage{Offers: []stock.LoadOffer{limited(1, 10, 3), offer(9, 9)}, Logged: 3, Lost: true,
		Buyers: []stock.Buyer{{Offer: 1, User: 99, Units: 2}}})
	w.reserve(w.request(1, 1, line(1, 1)))
	w.e++
	w.shut(w.e)
	pages := []*stock.LoadPage{
		{Buyers: []stock.Buyer{{Offer: 1, User: 5, Units: 2}, {Offer: 2, User: 5, Units: 1}}},
		{Offers: []stock.LoadOffer{limited(1, 20, 3)}},
		{Offers: []stock.LoadOffer{limited(2, 30, 1), offer(3, 0)}, Buyers: []stock.Buyer{{Offer: 1, User: 6, Units: 1}}},
		{},
	}
	for _, i := range []int{0, 1, 1, 2, 0, 3, 2} {
		w.must(w.st.Load(w.ctx, w.p, w.e, pages[i]))
	}
	last := &stock.LoadPage{Offers: []stock.LoadOffer{offer(4, 40)}, Last: true, Logged: 17, Lost: true}
	w.must(w.st.Load(w.ctx, w.p, w.e, last))
	want := contents{Applied: 17,
		Left:   map[order.OfferID]int64{1: 20, 2: 30, 3: 0, 4: 40},
		Buyers: map[order.OfferID]map[order.UserID]int64{1: {5: 2, 6: 1}, 2: {5: 1}},
		Outbox: map[order.BatchID]stock.Entry{}}
	w.want("contents", w.contents(), want)
	w.notReady("the last page again", w.st.Load(w.ctx, w.p, w.e, last), stock.FenceNotShut)
	w.notReady("another page again", w.st.Load(w.ctx, w.p, w.e, pages[1]), stock.FenceNotShut)
	w.want("contents", w.contents(), want)
	w.want("the limit counts what was loaded", w.buy(5, 1, 2), order.OverLimit)
	w.want("up to it", w.buy(5, 1, 1), order.Accepted)
}

// An intact load keeps the keys, the outbox with the epochs in which its entries were reserved, and KeysSince.
func testIntactLoadKeeps(w *world) {
	w.openPage(&stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 10)}, Logged: 4, Lost: true})
	r, s := w.request(1, 1, line(1, 1)), w.request(2, 1, line(1, 1))
	a, b := w.reserve(r).Batch, w.reserve(s).Batch
	w.confirm(b)
	before := w.contents()
	first, err := w.st.State(w.ctx, w.p)
	w.must(err)
	for range 2 {
		w.e++
		w.want("intact", w.shut(w.e), true)
		w.must(w.st.Load(w.ctx, w.p, w.e, &stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 8), limited(2, 5, 1)}, Last: true, Logged: 9}))
	}
	c := w.contents()
	w.want("outbox", c.Outbox, before.Outbox)
	w.want("epoch of its entry", c.Outbox[a].Epoch, w.e-2)
	w.want("counters", []uint64{c.Applied, c.Reserves}, []uint64{9, 0})
	w.want("repeat", w.one(r), stock.Outcome{Code: order.Repeated, Order: r.Order, Batch: a, Outboxed: true})
	w.want("confirmed repeat", w.lookup(s), stock.Outcome{Code: order.Repeated, Order: s.Order, Batch: b})
	state, err := w.st.State(w.ctx, w.p)
	w.must(err)
	w.want("keys since", state.Fence.KeysSince, first.Fence.KeysSince)
	w.confirm(a)
	w.want("batches", w.contents().Batches, 0)
}

// A lost load drops keys and outbox and says since when keys are known; later intact loads carry that over.
func testLostLoadDrops(w *world) {
	w.open(offer(1, 10))
	r := w.request(1, 1, line(1, 1))
	w.reserve(r)
	w.e++
	w.shut(w.e)
	from := w.now(0)
	w.must(w.st.Load(w.ctx, w.p, w.e, &stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 9)}, Last: true, Lost: true, Logged: 6}))
	to := w.now(0)
	w.want("outbox", w.contents().Outbox, map[order.BatchID]stock.Entry{})
	w.want("key", w.lookup(r), stock.Outcome{})
	state, err := w.st.State(w.ctx, w.p)
	w.must(err)
	since := state.Fence.KeysSince
	if since.Epoch != w.e || since.Logged != 6 || since.At < from || since.At > to {
		w.Fatalf("keys since %+v; want epoch %d, logged 6, a time from %d to %d", since, w.e, from, to)
	}
	w.want("the key is free", w.one(r).Code, order.Accepted)
	w.e++
	w.shut(w.e)
	_, err = w.st.Reserve(w.ctx, w.call(r))
	nr := w.notReady("shut", err, stock.FenceShut)
	w.want("the fence that NotReady carries", nr.Fence, stock.Fence{Epoch: w.e, Mine: true, KeysSince: since})
	w.must(w.st.Load(w.ctx, w.p, w.e, &stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 8)}, Last: true, Logged: 7}))
	state, err = w.st.State(w.ctx, w.p)
	w.must(err)
	w.want("carried over", state.Fence.KeysSince, since)
}

// What is lost between shut and opening is noticed: the rebuild must begin again.
func testLossDuringRebuild(w *world) {
	w.needsLoss()
	load := func(lost bool) error {
		return w.st.Load(w.ctx, w.p, w.e, &stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 5)}, Last: true, Lost: lost})
	}
	for loss, why := range map[Loss]stock.Why{
		LoseAll: stock.FenceMissing, LoseFence: stock.FenceMissing, LoseIdentity: stock.OtherIdentity,
		LoseIdem: stock.SentinelMissing, LoseOutbox: stock.SentinelMissing,
	} {
		w.e++
		w.open(offer(1, 10))
		w.reserve(w.request(1, uint64(w.e), line(1, 1)))
		w.e++
		w.want("intact", w.shut(w.e), true)
		w.must(w.st.Load(w.ctx, w.p, w.e, &stock.LoadPage{Offers: []stock.LoadOffer{offer(2, 5)}}))
		w.data.Lose(w.p, loss)
		w.notReady("load after losing "+string(loss), load(false), why)
		if loss != LoseIdem {
			_, err := w.st.BatchIDs(w.ctx, w.p, w.e, stock.Closed)
			w.notReady("relay after losing "+string(loss), err, why)
			_, err = w.st.Entries(w.ctx, w.p, w.e, stock.Closed, nil)
			w.notReady("relay after losing "+string(loss), err, why)
		}
		w.e++
		w.want("intact after losing "+string(loss), w.shut(w.e), false)
		w.must(load(true))
		w.want("offers after losing "+string(loss), w.contents().Left, map[order.OfferID]int64{1: 5})
	}
}

// Of two rebuilds the later one wins wherever they stand; nothing of the earlier one is left.
func testTwoRebuilds(w *world) {
	w.open(offer(1, 10))
	r1, r2 := w.e+1, w.e+2
	w.want("first shuts", w.shut(r1), true)
	w.must(w.st.Load(w.ctx, w.p, r1, &stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 100), offer(2, 100)}, Buyers: []stock.Buyer{{Offer: 1, User: 1, Units: 9}}}))
	w.want("second shuts", w.shutBy(w.other, r2), false)
	w.notReady("first goes on", w.st.Load(w.ctx, w.p, r1, &stock.LoadPage{Offers: []stock.LoadOffer{offer(3, 100)}}), stock.OtherEpoch)
	w.must(w.other.Load(w.ctx, w.p, r2, &stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 7)}}))
	w.notReady("first opens", w.st.Load(w.ctx, w.p, r1, &stock.LoadPage{Last: true, Lost: true}), stock.OtherEpoch)
	w.must(w.other.Load(w.ctx, w.p, r2, &stock.LoadPage{Last: true, Lost: true, Logged: 2}))
	w.notReady("first opens late", w.st.Load(w.ctx, w.p, r1, &stock.LoadPage{Last: true, Lost: true}), stock.FenceNotShut)
	w.e = r2
	w.want("contents", w.contents(), contents{Applied: 2, Left: map[order.OfferID]int64{1: 7},
		Buyers: map[order.OfferID]map[order.UserID]int64{}, Outbox: map[order.BatchID]stock.Entry{}})
}

// Many rebuilds at once: whatever opens is one rebuild's stock as a whole, and the latest always gets there.
func testRaceOfRebuilds(w *world) {
	const rebuilds = 20
	var wg sync.WaitGroup
	for i := range rebuilds {
		wg.Go(func() {
			st, e := w.st, w.e+order.Epoch(i)
			if i%2 == 1 {
				st = w.other
			}
			_, ok, err := st.Shut(w.ctx, w.p, e)
			if err != nil || !ok {
				if err != nil || i == rebuilds-1 {
					w.Errorf("shut for the latest epoch: ok %v, %v", ok, err)
				}
				return
			}
			for _, page := range []*stock.LoadPage{
				{Offers: []stock.LoadOffer{limited(1, int64(e), 9)}},
				{Offers: []stock.LoadOffer{offer(order.OfferID(e), 1)}, Buyers: []stock.Buyer{{Offer: 1, User: order.UserID(e), Units: 1}}},
				{Last: true, Lost: true, Logged: uint64(e)},
			} {
				if err := st.Load(w.ctx, w.p, e, page); err != nil {
					if !stock.NotExecuted(err) || i == rebuilds-1 {
						w.Errorf("load of epoch %d: %v", e, err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	w.e += rebuilds - 1
	w.want("contents", w.contents(), contents{Applied: uint64(w.e),
		Left:   map[order.OfferID]int64{1: int64(w.e), order.OfferID(w.e): 1},
		Buyers: map[order.OfferID]map[order.UserID]int64{1: {order.UserID(w.e): 1}},
		Outbox: map[order.BatchID]stock.Entry{}})
}
