package stocktest

import (
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// nextPeriod moves the clock to the beginning of the next period of idempotency records.
func (w *world) nextPeriod() {
	day := (24 * time.Hour).Milliseconds()
	w.data.Advance(time.Duration(day-int64(w.now(0))%day) * time.Millisecond)
}

// A key is known in its period of 24 hours and in the next, and gone in the third; an intact load changes nothing in
// that. Looking a key up sees what reserving with it would see, and writes nothing.
func testKeysRollOver(w *world) {
	w.needsClock()
	w.open(offer(1, 100))
	w.nextPeriod()
	r := w.request(1, 1, line(1, 1))
	batch := w.reserve(r).Batch
	known := stock.Outcome{Code: order.Repeated, Order: r.Order, Batch: batch, Outboxed: true}
	w.data.Advance(24*time.Hour - time.Millisecond)
	w.want("first period, looked up", w.lookup(r), known)
	w.want("first period", w.one(r), known)
	w.data.Advance(time.Millisecond)
	w.want("second period, looked up", w.lookup(r), known)
	later := w.request(2, 1, line(1, 1))
	w.want("a key of the second period", w.one(later).Code, order.Accepted)
	w.want("second period", w.one(r), known)
	w.e++
	w.want("intact", w.shut(w.e), true)
	w.must(w.st.Load(w.ctx, w.p, w.e, &stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 98)}, Last: true}))
	w.data.Advance(24*time.Hour - time.Millisecond)
	w.want("second period, new epoch, looked up", w.lookup(r), known)
	w.want("second period, new epoch", w.one(r), known)
	w.data.Advance(time.Millisecond)
	w.want("third period, looked up", w.lookup(r), stock.Outcome{})
	w.want("looked up again", w.lookup(r), stock.Outcome{})
	w.want("the later key", w.lookup(later).Code, order.Repeated)
	w.want("the later key, reserved", w.one(later).Code, order.Repeated)
	again := w.request(1, 1, line(1, 1))
	w.want("third period", w.one(again).Code, order.Accepted)
	w.want("the new order of the key", w.lookup(r).Order, again.Order)
	w.want("the outbox is no part of this", w.contents().Batches, 3)
}

// Periods in which nothing was reserved are passed over: after one the keys are known, after two they are gone.
func testKeysSkipPeriods(w *world) {
	w.needsClock()
	w.open(offer(1, 100))
	r := w.request(1, 1, line(1, 1))
	w.reserve(r)
	w.nextPeriod()
	w.want("one period later", w.one(r).Code, order.Repeated)
	w.nextPeriod()
	w.nextPeriod()
	w.nextPeriod()
	w.want("looked up four later", w.lookup(r), stock.Outcome{})
	w.want("four later", w.one(r).Code, order.Accepted)
	w.nextPeriod()
	w.want("one more", w.one(r).Code, order.Repeated)
	w.e++
	w.want("intact", w.shut(w.e), true)
}
