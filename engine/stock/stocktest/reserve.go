package stocktest

import (
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// An accepted batch: the outcomes, the units, and the outbox entry with the accepted records in order.
func testAccept(w *world) {
	w.openPage(&stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 10), limited(2, 5, 2), offer(3, 0)}, Logged: 7, Lost: true})
	no := w.request(9, 1, line(3, 1))
	a, b := w.request(9, 2, line(1, 2)), w.request(8, 2, line(1, 1), line(2, 2))
	res := w.reserve(no, a, b)
	batch := order.BatchID(a.Order)
	w.want("outcomes", res.Outcomes, []stock.Outcome{
		{Code: order.SoldOut},
		{Code: order.Accepted, Order: a.Order, Batch: batch},
		{Code: order.Accepted, Order: b.Order, Batch: batch},
	})
	left, err := leftOf(res)
	w.must(err)
	w.want("units left of every offer named", left, map[order.OfferID]int64{1: 7, 2: 3, 3: 0})
	if res.Batch != batch || res.Applied != 7 {
		w.Fatalf("batch %d, applied %d; want %d, 7", res.Batch, res.Applied, batch)
	}
	w.want("contents", w.contents(), contents{
		Applied: 7, Reserves: 1, Batches: 1,
		Left:   map[order.OfferID]int64{1: 7, 2: 3, 3: 0},
		Buyers: map[order.OfferID]map[order.UserID]int64{2: {8: 2}},
		Outbox: map[order.BatchID]stock.Entry{batch: {Batch: batch, Epoch: w.e, Records: append(a.Record[:len(a.Record):len(a.Record)], b.Record...)}},
	})
	state, err := w.st.State(w.ctx, w.p)
	w.must(err)
	if !state.Ready || state.Applied != 7 || state.Reserves != 1 || state.Batches != 1 {
		w.Fatalf("state is %+v", state)
	}
}

// What is asked first decides: same key, window, limit, stock; within one question the first line.
func testPrecedence(w *world) {
	const plain, early, over, full, gone, both = 1, 2, 3, 4, 5, 6
	hour := time.Hour
	w.open(
		offer(plain, 100),
		stock.LoadOffer{Offer: early, Left: 0, Limit: 1, Opens: w.now(hour)},
		stock.LoadOffer{Offer: over, Left: 0, Limit: 1, Closes: w.now(-hour)},
		stock.LoadOffer{Offer: full, Left: 0, Limit: 1},
		offer(gone, 0),
		stock.LoadOffer{Offer: both, Left: 1, Opens: w.now(hour), Closes: w.now(-hour)},
	)
	first := w.request(1, 1, line(plain, 1))
	w.reserve(first)
	for _, c := range []struct {
		name  string
		key   uint64
		print uint64
		lines []order.Line
		want  stock.Outcome
	}{
		{"key before window", 1, 1, []order.Line{line(over, 1)}, stock.Outcome{Code: order.Repeated, Order: first.Order, Batch: order.BatchID(first.Order), Outboxed: true}},
		{"key before stock", 1, 1, []order.Line{line(gone, 1)}, stock.Outcome{Code: order.Repeated, Order: first.Order, Batch: order.BatchID(first.Order), Outboxed: true}},
		{"other fingerprint before window", 1, 2, []order.Line{line(over, 1)}, stock.Outcome{Code: order.KeyReused}},
		{"other fingerprint before stock", 1, 2, []order.Line{line(gone, 1)}, stock.Outcome{Code: order.KeyReused}},
		{"not open before limit", 2, 1, []order.Line{line(early, 2)}, stock.Outcome{Code: order.NotOpen}},
		{"closed before limit", 2, 1, []order.Line{line(over, 2)}, stock.Outcome{Code: order.Closed}},
		{"closed before not open", 2, 1, []order.Line{line(both, 1)}, stock.Outcome{Code: order.Closed}},
		{"limit before stock", 2, 1, []order.Line{line(full, 2)}, stock.Outcome{Code: order.OverLimit}},
		{"stock last", 2, 1, []order.Line{line(full, 1)}, stock.Outcome{Code: order.SoldOut}},
		{"window of a later line before limit", 2, 1, []order.Line{line(full, 2), line(early, 1)}, stock.Outcome{Code: order.NotOpen, Line: 1}},
		{"limit of a later line before stock", 2, 1, []order.Line{line(gone, 1), line(full, 2)}, stock.Outcome{Code: order.OverLimit, Line: 1}},
		{"first line of two windows", 2, 1, []order.Line{line(early, 1), line(over, 1)}, stock.Outcome{Code: order.NotOpen}},
		{"first line of two windows, turned", 2, 1, []order.Line{line(over, 1), line(early, 1)}, stock.Outcome{Code: order.Closed}},
		{"first line that lacks units", 2, 1, []order.Line{line(plain, 1), line(gone, 1), line(full, 1)}, stock.Outcome{Code: order.SoldOut, Line: 1}},
	} {
		r := w.request(1, c.key, c.lines...)
		r.Fingerprint = c.print
		w.want(c.name, w.one(r), c.want)
	}
}

// A refusal changes nothing but the counter of reserves.
func testRefusalTakesNothing(w *world) {
	w.open(offer(1, 5), limited(2, 5, 1), stock.LoadOffer{Offer: 3, Left: 5, Opens: w.now(time.Hour)},
		stock.LoadOffer{Offer: 4, Left: 5, Closes: w.now(-time.Hour)})
	known := w.request(1, 1, line(2, 1))
	w.reserve(known)
	before := w.contents()
	reused := w.request(1, 1, line(1, 1))
	reused.Fingerprint = 2
	res := w.reserve(
		w.request(1, 1, line(1, 1)),
		reused,
		w.request(1, 2, line(1, 1), line(3, 1)),
		w.request(1, 3, line(1, 1), line(4, 1)),
		w.request(1, 4, line(1, 1), line(2, 1)),
		w.request(1, 5, line(1, 6)),
	)
	w.want("codes", codes(res), []order.Code{order.Repeated, order.KeyReused, order.NotOpen, order.Closed, order.OverLimit, order.SoldOut})
	if res.Batch != 0 {
		w.Fatalf("batch %d of nothing", res.Batch)
	}
	before.Reserves++
	w.want("contents", w.contents(), before)
}

// total units are sold, not total - 1 and not total + 1; the same for the limit.
func testLastUnit(w *world) {
	w.open(offer(1, 3), limited(2, 100, 3), offer(3, 2))
	w.want("two of three", w.buy(1, 1, 2), order.Accepted)
	w.want("two of one", w.buy(2, 1, 2), order.SoldOut)
	w.want("the last", w.buy(3, 1, 1), order.Accepted)
	w.want("one of none", w.buy(4, 1, 1), order.SoldOut)
	w.want("all at once", w.buy(5, 3, 2), order.Accepted)
	w.want("two of the limit", w.buy(6, 2, 2), order.Accepted)
	w.want("two more", w.buy(6, 2, 2), order.OverLimit)
	w.want("up to the limit", w.buy(6, 2, 1), order.Accepted)
	w.want("one more", w.buy(6, 2, 1), order.OverLimit)
	w.want("another user", w.buy(7, 2, 3), order.Accepted)
	w.want("more than the limit at once", w.buy(8, 2, 4), order.OverLimit)
	w.want("left", w.contents().Left, map[order.OfferID]int64{1: 0, 2: 94, 3: 0})
}

// All lines of a cart or none.
func testCarts(w *world) {
	w.open(offer(1, 10), offer(2, 1), limited(3, 10, 1))
	res := w.reserve(
		w.request(1, 1, line(1, 1), line(2, 1), line(3, 1)),
		w.request(2, 1, line(1, 1), line(3, 1), line(2, 1)), // the last line lacks units
		w.request(1, 2, line(1, 1), line(3, 1)),             // the last line is over the limit
		w.request(2, 2, line(3, 1), line(1, 9)),             // what the refused ones asked for is still there
	)
	w.want("codes", codes(res), []order.Code{order.Accepted, order.SoldOut, order.OverLimit, order.Accepted})
	w.want("lines", []int{res.Outcomes[1].Line, res.Outcomes[2].Line}, []int{2, 1})
	c := w.contents()
	w.want("left", c.Left, map[order.OfferID]int64{1: 0, 2: 0, 3: 8})
	w.want("buyers", c.Buyers, map[order.OfferID]map[order.UserID]int64{3: {1: 1, 2: 1}})
}

// Lines of one request that name one offer add up.
func testRepeatedLines(w *world) {
	w.open(offer(1, 4), limited(2, 10, 3), offer(3, 100))
	three := w.one(w.request(1, 1, line(1, 2), line(3, 1), line(1, 2), line(1, 1)))
	w.want("five of four", three, stock.Outcome{Code: order.SoldOut, Line: 3})
	over := w.one(w.request(1, 2, line(2, 2), line(3, 1), line(2, 2)))
	w.want("four of limit three", over, stock.Outcome{Code: order.OverLimit, Line: 2})
	w.want("nothing taken", w.contents().Left, map[order.OfferID]int64{1: 4, 2: 10, 3: 100})
	fits := w.reserve(w.request(1, 3, line(1, 2), line(2, 1), line(1, 2), line(2, 2)))
	w.want("four of four", codes(fits), []order.Code{order.Accepted})
	c := w.contents()
	w.want("left", c.Left, map[order.OfferID]int64{1: 0, 2: 7, 3: 100})
	w.want("buyers", c.Buyers, map[order.OfferID]map[order.UserID]int64{2: {1: 3}})
}

// A later request of a call sees what an earlier one took.
func testLimitWithinCall(w *world) {
	w.open(limited(1, 4, 2))
	res := w.reserve(
		w.request(1, 1, line(1, 1)), w.request(1, 2, line(1, 2)), w.request(1, 3, line(1, 1)), w.request(1, 4, line(1, 1)),
		w.request(2, 1, line(1, 2)), w.request(3, 1, line(1, 1)),
	)
	w.want("codes", codes(res), []order.Code{order.Accepted, order.OverLimit, order.Accepted, order.OverLimit, order.Accepted, order.SoldOut})
	w.want("buyers", w.contents().Buyers, map[order.OfferID]map[order.UserID]int64{1: {1: 2, 2: 2}})
}

// A key gets its first order for ever, from every client; another fingerprint is refused; user and hash name the key.
func testSameKey(w *world) {
	w.open(offer(1, 10))
	first := w.request(1, 5, line(1, 1))
	w.reserve(first)
	repeated := stock.Outcome{Code: order.Repeated, Order: first.Order, Batch: order.BatchID(first.Order), Outboxed: true}
	again := w.request(1, 5, line(1, 1))
	w.want("the same key", w.one(again), repeated)
	w.want("the same call", w.one(first), repeated)
	w.st, w.other = w.other, w.st
	w.want("by another client", w.one(again), repeated)
	w.want("looked up", w.lookup(again), repeated)
	again.Fingerprint++
	w.want("another fingerprint", w.one(again), stock.Outcome{Code: order.KeyReused})
	w.want("looked up with another fingerprint", w.lookup(again), stock.Outcome{Code: order.KeyReused})
	w.want("an unknown key", w.lookup(w.request(1, 6)), stock.Outcome{})
	w.want("another user", w.one(w.request(2, 5, line(1, 1))).Code, order.Accepted)
	w.want("another key", w.one(w.request(1, 6, line(1, 1))).Code, order.Accepted)
	w.want("left", w.contents().Left, map[order.OfferID]int64{1: 7})
}

// The second request of a call with a key that the first has just recorded gets the first's order.
func testSameKeyInOneCall(w *world) {
	w.open(offer(1, 10), offer(2, 0))
	zero := w.request(4, 4, line(1, 1))
	a, b := w.request(1, 5, line(1, 1)), w.request(1, 5, line(1, 1))
	c, d := w.request(1, 5, line(2, 1)), w.request(1, 5, line(1, 1))
	d.Fingerprint++
	res := w.reserve(zero, a, b, c, d)
	batch := order.BatchID(zero.Order)
	repeated := stock.Outcome{Code: order.Repeated, Order: a.Order, Batch: batch, Outboxed: true}
	w.want("outcomes", res.Outcomes, []stock.Outcome{
		{Code: order.Accepted, Order: zero.Order, Batch: batch}, {Code: order.Accepted, Order: a.Order, Batch: batch},
		repeated, repeated, {Code: order.KeyReused},
	})
	w.want("left", w.contents().Left, map[order.OfferID]int64{1: 8, 2: 0})
}

// A refusal is not remembered: the same key may try again, in the same call too.
func testRefusalForgetsKey(w *world) {
	w.open(offer(1, 1), offer(2, 1))
	r := w.request(1, 5, line(1, 2))
	w.want("refused", w.one(r).Code, order.SoldOut)
	w.want("looked up", w.lookup(r), stock.Outcome{})
	smaller := w.request(1, 5, line(1, 1))
	smaller.Fingerprint = 2
	res := w.reserve(r, smaller, r)
	w.want("codes", codes(res), []order.Code{order.SoldOut, order.Accepted, order.KeyReused})
}

// Windows go by the driver's clock; both ends are exact.
func testWindowMoves(w *world) {
	w.needsClock()
	opens := w.now(time.Minute)
	w.open(stock.LoadOffer{Offer: 1, Left: 10, Opens: opens, Closes: opens + 1000})
	w.data.Advance(time.Minute - time.Millisecond)
	w.want("a millisecond early", w.buy(1, 1, 1), order.NotOpen)
	w.data.Advance(time.Millisecond)
	w.want("in time", w.buy(1, 1, 1), order.Accepted)
	w.data.Advance(999 * time.Millisecond)
	w.want("the last moment", w.buy(1, 1, 1), order.Accepted)
	w.data.Advance(time.Millisecond)
	w.want("late", w.buy(1, 1, 1), order.Closed)
}

// Ids and hashes of all 63 or 64 bits are exact: neighbours above 2^53 differ.
func testWideIDs(w *world) {
	const top = order.MaxID
	w.open(limited(top, 5, 1), limited(top-1, 7, 1), offer(1<<53+1, 3))
	w.next = top - 20
	fingerprint := uint64(1<<64 - 1)
	var requests []stock.Request
	for i := range 3 {
		r := w.request(order.UserID(top-i), 1<<64-1, line(top-order.OfferID(i%2), 1))
		r.Fingerprint = fingerprint
		requests = append(requests, r)
	}
	res := w.reserve(requests...)
	w.want("codes", codes(res), []order.Code{order.Accepted, order.Accepted, order.Accepted})
	for _, r := range requests {
		w.want("looked up", w.lookup(r), stock.Outcome{Code: order.Repeated, Order: r.Order, Batch: order.BatchID(requests[0].Order), Outboxed: true})
		r.Fingerprint--
		w.want("neighbouring fingerprint", w.lookup(r), stock.Outcome{Code: order.KeyReused})
		r.Key--
		w.want("neighbouring key", w.lookup(r), stock.Outcome{})
	}
	c := w.contents()
	w.want("left", c.Left, map[order.OfferID]int64{top: 3, top - 1: 6, 1<<53 + 1: 3})
	w.want("buyers", c.Buyers, map[order.OfferID]map[order.UserID]int64{top: {top: 1, top - 2: 1}, top - 1: {top - 1: 1}})
	w.confirm(order.BatchID(requests[0].Order) + 1)
	w.want("a neighbour was confirmed", w.contents().Batches, 1)
}

// Left and Holdings answer what is asked, in order.
func testHoldings(w *world) {
	w.open(offer(1, 10), limited(2, 10, 5))
	w.reserve(w.request(1, 1, line(1, 4), line(2, 3)), w.request(2, 1, line(2, 1)))
	left, err := w.st.Left(w.ctx, w.p, w.e, []order.OfferID{2, 99, 1, 2})
	w.must(err)
	w.want("left", left, []int64{6, -1, 6, 6})
	units, err := w.st.Holdings(w.ctx, w.p, w.e, []stock.Buyer{
		{Offer: 2, User: 2}, {Offer: 2, User: 1, Units: 77}, {Offer: 1, User: 1}, {Offer: 2, User: 3}, {Offer: 99, User: 1}})
	w.must(err)
	w.want("holdings", units, []int64{1, 3, 0, 0, 0})
	none, err := w.st.Left(w.ctx, w.p, w.e, nil)
	w.must(err)
	found, err := w.st.Lookup(w.ctx, w.p, w.e, nil)
	w.must(err)
	w.want("nothing asked", len(none)+len(found), 0)
}

// Partitions share nothing: not stock, not keys, not fences.
func testPartitionsApart(w *world) {
	w.open(offer(1, 10))
	a := w.request(1, 1, line(1, 1))
	w.reserve(a)
	w.p, w.e = 0, 55
	w.notReady("the other partition", w.st.Confirm(w.ctx, w.p, w.e, nil), stock.FenceMissing)
	w.open(offer(1, 3))
	w.want("key of another partition", w.lookup(a), stock.Outcome{})
	w.want("contents", w.contents(), contents{Left: map[order.OfferID]int64{1: 3},
		Buyers: map[order.OfferID]map[order.UserID]int64{}, Outbox: map[order.BatchID]stock.Entry{}})
}

// The driver keeps nothing of a call's slices: the caller reuses them.
func testCallerKeepsItsSlices(w *world) {
	w.open(offer(1, 10))
	call := w.call(w.request(1, 1, line(1, 1)))
	record := call.Requests[0].Record
	want := string(record)
	res, err := w.st.Reserve(w.ctx, call)
	w.must(err)
	clear(record)
	call.Requests[0] = stock.Request{}
	outbox := w.contents().Outbox
	w.want("records", string(outbox[res.Batch].Records), want)
	clear(outbox[res.Batch].Records)
	w.want("records after the reader wrote on its own", string(w.contents().Outbox[res.Batch].Records), want)
}
