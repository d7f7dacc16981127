package stocktest

import (
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

func row(n uint64, items ...order.LogItem) order.LogRow { return order.LogRow{N: n, Items: items} }

func give(id order.OfferID, user order.UserID, units int64) order.LogItem {
	return order.LogItem{Op: order.OpGive, Offer: id, User: user, Units: units}
}

func raise(id order.OfferID, units int64) order.LogItem {
	return order.LogItem{Op: order.OpRaise, Offer: id, Units: units}
}

// apply must be executed and leave applied as want.
func (w *world) apply(want uint64, rows ...order.LogRow) {
	w.Helper()
	applied, err := w.st.Apply(w.ctx, w.p, w.e, rows)
	w.must(err)
	w.want("applied", applied, want)
}

// Every operation of the log.
func testApplyChanges(w *world) {
	w.open(offer(1, 1), limited(2, 10, 3))
	w.reserve(w.request(1, 1, line(2, 3)), w.request(2, 1, line(2, 1)))
	w.apply(1, row(1, order.LogItem{Op: order.OpCreate, Offer: 3, Units: 5, Limit: 2, Opens: w.now(-time.Hour), Closes: w.now(time.Hour)},
		order.LogItem{Op: order.OpCreate, Offer: 4, Units: 6, Opens: w.now(time.Hour)}))
	w.want("a new offer with a limit", w.buy(1, 3, 3), order.OverLimit)
	w.want("a new offer", w.buy(1, 3, 2), order.Accepted)
	w.want("a new offer that is not open", w.buy(1, 4, 1), order.NotOpen)
	w.apply(2, row(2, order.LogItem{Op: order.OpCreate, Offer: 3, Units: 99, Limit: 99}, order.LogItem{Op: order.OpNote, Offer: 77}))
	w.want("an offer created again", w.contents().Left[3], int64(3))
	w.want("its limit", w.buy(1, 3, 1), order.OverLimit)
	w.apply(3, row(3, order.LogItem{Op: order.OpWindow, Offer: 3, Opens: w.now(-time.Hour), Closes: w.now(-time.Minute)},
		order.LogItem{Op: order.OpWindow, Offer: 4}))
	w.want("closed by its window", w.buy(9, 3, 1), order.Closed)
	w.want("opened by its window", w.buy(9, 4, 1), order.Accepted)
	w.apply(4, row(4, give(2, 1, 2), give(2, 2, 5), give(2, 3, 1), raise(1, 7), give(1, 1, 1)))
	c := w.contents()
	w.want("left", c.Left, map[order.OfferID]int64{1: 9, 2: 14, 3: 3, 4: 5})
	w.want("buyers, never below zero", c.Buyers, map[order.OfferID]map[order.UserID]int64{2: {1: 1}, 3: {1: 2}})
	w.want("the limit has room again", w.buy(1, 2, 2), order.Accepted)
	w.want("and no more", w.buy(1, 2, 1), order.OverLimit)
	w.want("a user whom more was given than he held", w.buy(2, 2, 4), order.OverLimit)
}

// Rows have an effect once, and never before those in front of them.
func testApplyByNumber(w *world) {
	w.openPage(&stock.LoadPage{Offers: []stock.LoadOffer{offer(1, 0)}, Logged: 10, Lost: true})
	left := func(want int64) {
		w.Helper()
		w.want("left", w.contents().Left[1], want)
	}
	w.apply(10)
	w.apply(10, row(12, raise(1, 1000)))
	w.apply(10, row(9, raise(1, 1000)), row(10, raise(1, 1000)))
	left(0)
	w.apply(11, row(11, raise(1, 1)))
	w.apply(11, row(11, raise(1, 1)))
	left(1)
	w.apply(13, row(10, raise(1, 1000)), row(11, raise(1, 1000)), row(12, raise(1, 2)), row(13, raise(1, 4)))
	left(7)
	w.apply(13, row(15, raise(1, 1000)), row(16, raise(1, 1000)))
	left(7)
	w.want("in a reserve", w.reserve().Applied, uint64(13))
	state, err := w.other.State(w.ctx, w.p)
	w.must(err)
	w.want("in the state", state.Applied, uint64(13))
}

// Rows of one call apply one after the other: a later one sees an offer that an earlier one created.
func testApplyInOrder(w *world) {
	w.open()
	w.apply(3, row(1, order.LogItem{Op: order.OpCreate, Offer: 1, Units: 5}, raise(1, 1)),
		row(2, raise(1, 10), order.LogItem{Op: order.OpWindow, Offer: 1, Closes: 1}),
		row(3, order.LogItem{Op: order.OpWindow, Offer: 1}))
	w.want("left", w.contents().Left, map[order.OfferID]int64{1: 16})
	w.want("the last window", w.buy(1, 1, 16), order.Accepted)
}

// A row about an offer that is not there means that data was lost: none of the rows is applied.
func testApplyMissingOffer(w *world) {
	w.open(offer(1, 1))
	before := w.contents()
	for _, it := range []order.LogItem{give(2, 1, 1), raise(2, 1), {Op: order.OpWindow, Offer: 2}} {
		_, err := w.st.Apply(w.ctx, w.p, w.e, []order.LogRow{row(1, raise(1, 1)), row(2, it)})
		w.notReady(string(it.Op), err, stock.OfferMissing)
	}
	w.want("contents", w.contents(), before)
	w.apply(1, row(1, order.LogItem{Op: order.OpNote, Offer: 2}))
}
