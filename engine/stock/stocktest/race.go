package stocktest

import (
	"maps"
	"slices"
	"sync"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// racing sends calls from both clients at once, several at a time, and gives the outcome of every request by order id.
func (w *world) racing(calls []*stock.ReserveCall) map[order.ID]stock.Outcome {
	w.Helper()
	clients := []stock.Stock{w.st, w.other}
	todo := make(chan *stock.ReserveCall, len(calls))
	for _, call := range calls {
		todo <- call
	}
	close(todo)
	outcomes := map[order.ID]stock.Outcome{}
	start := make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			<-start
			for call := range todo {
				res, err := clients[i%2].Reserve(w.ctx, call)
				if err != nil {
					w.Error(err)
					return
				}
				mu.Lock()
				for j := range res.Outcomes {
					outcomes[call.Requests[j].Order] = res.Outcomes[j]
				}
				mu.Unlock()
			}
		})
	}
	close(start)
	wg.Wait()
	return outcomes
}

// chunks makes calls of n requests.
func (w *world) chunks(requests []stock.Request, n int) []*stock.ReserveCall {
	var calls []*stock.ReserveCall
	for part := range slices.Chunk(requests, n) {
		calls = append(calls, w.call(part...))
	}
	return calls
}

func count(outcomes map[order.ID]stock.Outcome) map[order.Code]int {
	n := map[order.Code]int{}
	for _, out := range outcomes {
		n[out.Code]++
	}
	return n
}

// 10,000 buyers, 100 units: 100 orders, and every one of them is in the outbox once. The same for 5,000 units, where
// the race lasts longer.
func testRaceForUnits(w *world) {
	for _, units := range []int{100, 5_000} {
		w.raceForUnits(units)
		w.e++
	}
}

func (w *world) raceForUnits(units int) {
	w.open(limited(1, int64(units), 1))
	var requests []stock.Request
	for user := range order.UserID(10_000) {
		requests = append(requests, w.request(user+1, 1, line(1, 1)))
	}
	outcomes := w.racing(w.chunks(requests, 7))
	w.want("codes", count(outcomes), map[order.Code]int{order.Accepted: units, order.SoldOut: 10_000 - units})
	c := w.contents()
	w.want("left", c.Left, map[order.OfferID]int64{1: 0})
	w.want("buyers", len(c.Buyers[1]), units)
	records := 0
	for _, r := range requests {
		if out := outcomes[r.Order]; out.Code == order.Accepted {
			records += len(r.Record)
			w.want("the buyer's units", c.Buyers[1][r.User], int64(1))
		}
	}
	for _, e := range c.Outbox {
		records -= len(e.Records)
	}
	w.want("bytes missing in the outbox", records, 0)
}

// Users who ask all at once never get more than their limit.
func testRaceForLimit(w *world) {
	w.open(limited(1, 1000, 3))
	var requests []stock.Request
	for i := range 1000 {
		requests = append(requests, w.request(order.UserID(i%10+1), uint64(i), line(1, 1)))
	}
	outcomes := w.racing(w.chunks(requests, 3))
	w.want("codes", count(outcomes), map[order.Code]int{order.Accepted: 30, order.OverLimit: 970})
	c := w.contents()
	w.want("left", c.Left, map[order.OfferID]int64{1: 970})
	for user, units := range c.Buyers[1] {
		if units != 3 {
			w.Fatalf("user %d holds %d units", user, units)
		}
	}
}

// Carts that name the same offers in another order: whole or not at all.
func testRaceOfCarts(w *world) {
	w.open(offer(1, 300), offer(2, 200), offer(3, 250))
	carts := [][]order.Line{
		{line(1, 1), line(2, 1)}, {line(2, 1), line(3, 2)}, {line(3, 1), line(1, 2)}, {line(3, 1), line(2, 1), line(1, 1)},
	}
	var requests []stock.Request
	for i := range 1200 {
		requests = append(requests, w.request(order.UserID(i+1), 1, carts[i%len(carts)]...))
	}
	outcomes := w.racing(w.chunks(requests, 5))
	left := map[order.OfferID]int64{1: 300, 2: 200, 3: 250}
	for _, r := range requests {
		if outcomes[r.Order].Code == order.Accepted {
			for _, l := range r.Lines {
				left[l.Offer] -= int64(l.Quantity)
			}
		}
	}
	w.want("left", w.contents().Left, left)
	if slices.Min(slices.Collect(maps.Values(left))) != 0 {
		w.Fatalf("the race ended before anything was sold out: %v", left)
	}
}

// One key sent many times at once: one order, which everybody gets.
func testRaceOfKey(w *world) {
	w.open(offer(1, 1000))
	var requests []stock.Request
	for range 500 {
		requests = append(requests, w.request(1, 7, line(1, 1)))
	}
	outcomes := w.racing(w.chunks(requests, 2))
	w.want("codes", count(outcomes), map[order.Code]int{order.Accepted: 1, order.Repeated: 499})
	got := map[order.ID]bool{}
	for _, out := range outcomes {
		got[out.Order] = true
	}
	w.want("different orders", len(got), 1)
	w.want("left", w.contents().Left, map[order.OfferID]int64{1: 999})
}
