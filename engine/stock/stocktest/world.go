package stocktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// world is what a test works in: a data set, two clients of it, one partition and its epoch.
type world struct {
	*testing.T
	ctx   context.Context
	data  *Data
	st    stock.Stock
	other stock.Stock
	p     order.Partition
	e     order.Epoch
	next  order.ID
	batch order.BatchID // the last one that reserve made
}

func newWorld(t *testing.T, h Harness) *world {
	data := h.Open(t)
	return &world{T: t, ctx: t.Context(), data: data, st: data.Client(), other: data.Client(), p: 1, e: 100, next: 1 << 60}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) want(what string, got, want any) {
	w.Helper()
	if d := cmp.Diff(want, got); d != "" {
		w.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// notReady demands a NotReady for one of the reasons.
func (w *world) notReady(what string, err error, reasons ...stock.Why) *stock.NotReady {
	w.Helper()
	var nr *stock.NotReady
	if !errors.As(err, &nr) || !stock.NotExecuted(err) {
		w.Fatalf("%s: got %v, want NotReady", what, err)
	}
	if !slices.Contains(reasons, nr.Why) || nr.Partition != w.p {
		w.Fatalf("%s: got %q on partition %d, want one of %q on %d", what, nr.Why, nr.Partition, reasons, w.p)
	}
	return nr
}

// now is the driver's clock, moved by d.
func (w *world) now(d time.Duration) order.Milli { return order.MilliOf(w.data.Now().Add(d)) }

// needsLoss skips a test that needs a data set that can lose something.
func (w *world) needsLoss() {
	w.Helper()
	if w.data.Lose == nil {
		w.Skip("SKIPPED: the harness declares that nothing can be lost at will")
	}
}

func (w *world) needsClock() {
	w.Helper()
	if w.data.Advance == nil {
		w.Skip("SKIPPED: the harness declares that the clock cannot be moved")
	}
}

// offer is an offer without limit that is always open.
func offer(id order.OfferID, left int64) stock.LoadOffer {
	return stock.LoadOffer{Offer: id, Left: left}
}

func limited(id order.OfferID, left int64, limit uint32) stock.LoadOffer {
	return stock.LoadOffer{Offer: id, Left: left, Limit: limit}
}

// open begins the world's epoch with offers, as after a loss.
func (w *world) open(offers ...stock.LoadOffer) {
	w.Helper()
	w.openPage(&stock.LoadPage{Offers: offers, Lost: true})
}

func (w *world) openPage(page *stock.LoadPage) {
	w.Helper()
	w.shut(w.e)
	page.Last = true
	w.must(w.st.Load(w.ctx, w.p, w.e, page))
}

// shut shuts the fence for e and tells whether fast stock was intact.
func (w *world) shut(e order.Epoch) bool {
	w.Helper()
	intact, ok, err := w.st.Shut(w.ctx, w.p, e)
	w.must(err)
	if !ok {
		w.Fatalf("shut for epoch %d gave up", e)
	}
	return intact
}

func line(id order.OfferID, quantity uint32) order.Line {
	return order.Line{Offer: id, Quantity: quantity}
}

// request asks for a new order with a record of its own.
func (w *world) request(user order.UserID, key uint64, lines ...order.Line) stock.Request {
	w.next++
	return stock.Request{Order: w.next, User: user, Key: key, Fingerprint: 1, Lines: lines,
		Record: fmt.Appendf(nil, "order %d;", w.next)}
}

func (w *world) call(requests ...stock.Request) *stock.ReserveCall {
	return &stock.ReserveCall{Partition: w.p, Epoch: w.e, Requests: requests}
}

// reserve must be executed.
func (w *world) reserve(requests ...stock.Request) *stock.Reserved {
	w.Helper()
	res, err := w.st.Reserve(w.ctx, w.call(requests...))
	w.must(err)
	if len(res.Outcomes) != len(requests) {
		w.Fatalf("%d outcomes for %d requests", len(res.Outcomes), len(requests))
	}
	w.batch = max(w.batch, res.Batch)
	return res
}

// one reserves one request and gives its outcome.
func (w *world) one(r stock.Request) stock.Outcome {
	w.Helper()
	return w.reserve(r).Outcomes[0]
}

// buy reserves units of one offer with a new key and gives the code.
func (w *world) buy(user order.UserID, id order.OfferID, quantity uint32) order.Code {
	w.Helper()
	return w.one(w.request(user, uint64(w.next)<<8, line(id, quantity))).Code
}

func codes(res *stock.Reserved) []order.Code {
	list := make([]order.Code, len(res.Outcomes))
	for i := range res.Outcomes {
		list[i] = res.Outcomes[i].Code
	}
	return list
}

func query(r stock.Request) stock.KeyQuery {
	return stock.KeyQuery{User: r.User, Key: r.Key, Fingerprint: r.Fingerprint}
}

func (w *world) lookup(r stock.Request) stock.Outcome {
	w.Helper()
	out, err := w.st.Lookup(w.ctx, w.p, w.e, []stock.KeyQuery{query(r)})
	w.must(err)
	if len(out) != 1 {
		w.Fatalf("%d answers for one key", len(out))
	}
	return out[0]
}

func (w *world) confirm(batches ...order.BatchID) {
	w.Helper()
	w.must(w.st.Confirm(w.ctx, w.p, w.e, batches))
}

// contents is all that a partition holds and callers can read, in a form that compares.
type contents struct {
	Applied, Reserves uint64
	Batches           int
	Left              map[order.OfferID]int64
	Buyers            map[order.OfferID]map[order.UserID]int64
	Outbox            map[order.BatchID]stock.Entry
}

func (w *world) contents() contents {
	w.Helper()
	c, err := read(w.ctx, w.st, w.p, w.e)
	w.must(err)
	return c
}

func read(ctx context.Context, st stock.Stock, p order.Partition, e order.Epoch) (c contents, err error) {
	snap, err := st.Snapshot(ctx, p, e)
	if err != nil {
		return c, err
	}
	c = contents{Applied: snap.Applied, Reserves: snap.Reserves, Batches: snap.Batches,
		Left: map[order.OfferID]int64{}, Buyers: map[order.OfferID]map[order.UserID]int64{}}
	for _, l := range snap.Left {
		if _, twice := c.Left[l.Offer]; twice {
			return c, fmt.Errorf("the snapshot names offer %d twice", l.Offer)
		}
		c.Left[l.Offer] = l.Units
	}
	for _, b := range snap.Buyers {
		if c.Buyers[b.Offer] == nil {
			c.Buyers[b.Offer] = map[order.UserID]int64{}
		}
		c.Buyers[b.Offer][b.User] += b.Units
	}
	c.Outbox, err = readOutbox(ctx, st, gated{p, e, stock.Open})
	return c, err
}

// gated is where an outbox is read.
type gated struct {
	p    order.Partition
	e    order.Epoch
	gate stock.Gate
}

func readOutbox(ctx context.Context, st stock.Stock, at gated) (map[order.BatchID]stock.Entry, error) {
	ids, err := st.BatchIDs(ctx, at.p, at.e, at.gate)
	if err != nil {
		return nil, err
	}
	entries, err := st.Entries(ctx, at.p, at.e, at.gate, ids)
	if err != nil {
		return nil, err
	}
	outbox := map[order.BatchID]stock.Entry{}
	for _, e := range entries {
		outbox[e.Batch] = e
	}
	if len(ids) != len(outbox) || len(entries) != len(outbox) {
		return nil, fmt.Errorf("the outbox lists %d batches and gives %d entries, %d different", len(ids), len(entries), len(outbox))
	}
	return outbox, nil
}

// leftOf is a reserve's units left as a map. An offer named twice is an error.
func leftOf(res *stock.Reserved) (map[order.OfferID]int64, error) {
	left := map[order.OfferID]int64{}
	for _, l := range res.Left {
		left[l.Offer] = l.Units
	}
	if len(left) != len(res.Left) {
		return nil, fmt.Errorf("units left name an offer twice: %v", slices.Sorted(maps.Keys(left)))
	}
	return left, nil
}
