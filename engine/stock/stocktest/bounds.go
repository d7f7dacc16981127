package stocktest

import (
	"bytes"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// full is a call at all its bounds: 1,000 requests, 4,000 lines, 512 KiB of records.
func (w *world) full() *stock.ReserveCall {
	call := w.call()
	size := order.BatchBytesMax / order.BatchOrdersMax
	for i := range order.BatchOrdersMax {
		r := w.request(order.UserID(i+1), 1, line(1, 1), line(2, 1), line(3, 1), line(4, 1))
		if i == order.BatchOrdersMax-1 {
			size = order.BatchBytesMax - i*size
		}
		r.Record = bytes.Repeat([]byte{byte(i), byte(i >> 8), 0, 0xff}, size/4+1)[:size]
		call.Requests = append(call.Requests, r)
	}
	return call
}

// A call at all its bounds is one batch, and comes back from the outbox as it was.
func testBounds(w *world) {
	w.open(offer(1, 5000), limited(2, 5000, 1), limited(3, 5000, 2), limited(4, 5000, 3))
	call := w.full()
	res, err := w.st.Reserve(w.ctx, call)
	w.must(err)
	var records []byte
	for i := range res.Outcomes {
		if res.Outcomes[i].Code != order.Accepted {
			w.Fatalf("request %d: %s", i, res.Outcomes[i].Code)
		}
		records = append(records, call.Requests[i].Record...)
	}
	c := w.contents()
	w.want("left", c.Left, map[order.OfferID]int64{1: 4000, 2: 4000, 3: 4000, 4: 4000})
	w.want("buyers", []int{len(c.Buyers[1]), len(c.Buyers[2]), len(c.Buyers[3]), len(c.Buyers[4])}, []int{0, 1000, 1000, 1000})
	if len(records) != order.BatchBytesMax || !bytes.Equal(c.Outbox[res.Batch].Records, records) {
		w.Fatalf("the entry has %d bytes and is not the %d that were reserved", len(c.Outbox[res.Batch].Records), len(records))
	}
	queries := make([]stock.KeyQuery, len(call.Requests))
	for i := range call.Requests {
		queries[i] = query(call.Requests[i])
	}
	found, err := w.st.Lookup(w.ctx, w.p, w.e, queries)
	w.must(err)
	for i := range found {
		if found[i].Code != order.Repeated || found[i].Order != call.Requests[i].Order {
			w.Fatalf("key %d is of %+v", i, found[i])
		}
	}
}

// A call beyond a bound is not executed.
func testOutOfBounds(w *world) {
	w.open(offer(1, 5000), offer(2, 5000), offer(3, 5000), offer(4, 5000))
	before := w.contents()
	orders, lines, size := w.full(), w.full(), w.full()
	extra := w.request(5000, 1)
	extra.Record = nil
	orders.Requests = append(orders.Requests, extra)
	lines.Requests[0].Lines = append(lines.Requests[0].Lines, line(1, 1))
	size.Requests[0].Record = append(size.Requests[0].Record, 0)
	for name, call := range map[string]*stock.ReserveCall{"requests": orders, "lines": lines, "bytes": size} {
		if _, err := w.st.Reserve(w.ctx, call); err == nil || !stock.NotExecuted(err) {
			w.Errorf("too many %s: got %v, want an error that says not executed", name, err)
		}
	}
	w.want("contents", w.contents(), before)
}
