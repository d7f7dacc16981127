package stocktest

import (
	"sluice/engine/order"
	"sluice/engine/stock"
)

// A repeat whose batch is in the outbox says so, until the batch is confirmed.
func testOutboxed(w *world) {
	w.open(offer(1, 10))
	r, s := w.request(1, 1, line(1, 1)), w.request(2, 1, line(1, 1))
	a, b := w.reserve(r).Batch, w.reserve(s).Batch
	want := stock.Outcome{Code: order.Repeated, Order: r.Order, Batch: a, Outboxed: true}
	w.want("repeat", w.one(r), want)
	w.want("lookup", w.lookup(r), want)
	w.confirm(b, 12345)
	w.want("after another batch was confirmed", w.one(r), want)
	w.confirm(a)
	want.Outboxed = false
	w.want("confirmed", w.one(r), want)
	w.want("confirmed, looked up", w.lookup(r), want)
	w.confirm(a, a)
	w.confirm()
	w.want("outbox", w.contents().Outbox, map[order.BatchID]stock.Entry{})
}

// Confirmations ride in a reserve and count before its requests. A call that is refused confirms nothing.
func testConfirmRides(w *world) {
	w.open(offer(1, 10))
	r, s := w.request(1, 1, line(1, 1)), w.request(2, 1, line(1, 1))
	a, b := w.reserve(r).Batch, w.reserve(s).Batch
	call := w.call(w.request(3, 1, line(99, 1)))
	call.Confirmed = []order.BatchID{a}
	_, err := w.st.Reserve(w.ctx, call)
	w.notReady("a missing offer", err, stock.OfferMissing)
	w.want("batches after a refused call", w.contents().Batches, 2)
	call.Requests = []stock.Request{r, s, w.request(3, 1, line(1, 1))}
	call.Confirmed = []order.BatchID{a, 4711}
	res, err := w.st.Reserve(w.ctx, call)
	w.must(err)
	w.want("outboxed", []bool{res.Outcomes[0].Outboxed, res.Outcomes[1].Outboxed}, []bool{false, true})
	if _, ok := w.contents().Outbox[b]; !ok || w.contents().Batches != 2 {
		w.Fatal("the outbox does not hold what was not confirmed")
	}
	call.Requests, call.Confirmed = nil, []order.BatchID{b, res.Batch}
	res, err = w.st.Reserve(w.ctx, call)
	w.must(err)
	w.want("answer to nothing", []int{len(res.Outcomes), len(res.Left), int(res.Batch)}, []int{0, 0, 0})
	c := w.contents()
	w.want("reserves, batches", []int{int(c.Reserves), c.Batches}, []int{4, 0})
}

// Entries gives what is there of what is asked, as it was reserved; each gate reads only behind its own fence.
func testEntries(w *world) {
	w.open(offer(1, 10))
	r, s := w.request(1, 1, line(1, 1)), w.request(2, 1, line(1, 1))
	a, b := w.reserve(r).Batch, w.reserve(s).Batch
	entries, err := w.other.Entries(w.ctx, w.p, w.e, stock.Open, []order.BatchID{b, 1, a})
	w.must(err)
	got := map[order.BatchID]stock.Entry{}
	for _, e := range entries {
		got[e.Batch] = e
	}
	want := map[order.BatchID]stock.Entry{
		a: {Batch: a, Epoch: w.e, Records: r.Record}, b: {Batch: b, Epoch: w.e, Records: s.Record}}
	w.want("entries", got, want)
	none, err := w.st.Entries(w.ctx, w.p, w.e, stock.Open, nil)
	w.must(err)
	w.want("nothing asked", len(none), 0)
	_, err = w.st.BatchIDs(w.ctx, w.p, w.e, stock.Closed)
	w.notReady("closed gate, open fence", err, stock.FenceNotShut)
	_, err = w.st.Entries(w.ctx, w.p, w.e, stock.Closed, []order.BatchID{a})
	w.notReady("closed gate, open fence", err, stock.FenceNotShut)
	w.shut(w.e + 1)
	for _, e := range []order.Epoch{w.e, w.e + 1} {
		_, err = w.st.BatchIDs(w.ctx, w.p, e, stock.Open)
		w.notReady("open gate, closed fence", err, stock.FenceShut)
		_, err = w.st.Entries(w.ctx, w.p, e, stock.Open, []order.BatchID{a})
		w.notReady("open gate, closed fence", err, stock.FenceShut)
	}
	_, err = w.st.BatchIDs(w.ctx, w.p, w.e, stock.Closed)
	w.notReady("closed gate, older epoch", err, stock.OtherEpoch)
	_, err = w.st.Entries(w.ctx, w.p, w.e, stock.Closed, []order.BatchID{a})
	w.notReady("closed gate, older epoch", err, stock.OtherEpoch)
	outbox, err := readOutbox(w.ctx, w.other, gated{w.p, w.e + 1, stock.Closed})
	w.must(err)
	w.want("through the closed gate", outbox, want)
}
