package stocktest

import (
	"fmt"
	"slices"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

const (
	comparedOffers = 8 // loaded; as many more can be created
	comparedUsers  = 12
)

func (c *comparison) offer() order.OfferID {
	if c.roll(1500) == 0 {
		return 999 // never there
	}
	return order.OfferID(1<<55 + c.roll(comparedOffers))
}

// limitOf is an offer's limit, which never changes. Every fourth offer has none.
func limitOf(id order.OfferID) uint32 { return []uint32{0, 1, 2, 5}[id%4] }

func (c *comparison) user() order.UserID { return order.UserID(1<<62 + c.roll(comparedUsers)) }

// window is open three times out of four.
func (c *comparison) window() (opens, closes order.Milli) {
	hour := time.Hour.Milliseconds()
	at := func(hours int) order.Milli { return c.base + order.Milli(int64(hours)*hour) }
	now := int((order.MilliOf(c.data.Now()) - c.base) / order.Milli(hour))
	switch c.roll(12) {
	case 0, 1:
		return at(now + 1 + c.roll(3)), 0
	case 2, 3:
		return at(now - 5), at(now - c.roll(3))
	case 4:
		return at(now + 2), at(now - 2)
	case 5, 6, 7:
		return at(now - 1), at(now + 1 + c.roll(3))
	}
	return 0, 0
}

// request makes a request. Half of them name a key that was used before, now and then with another fingerprint.
func (c *comparison) request(part *comparedPart) stock.Request {
	c.next++
	r := stock.Request{Order: c.next, User: c.user(), Key: uint64(c.next) << 20, Fingerprint: 1 << 63,
		Record: fmt.Appendf(nil, "%d;", c.next)}
	if len(part.keys) > 0 && c.roll(10) < 3 {
		k := part.keys[c.roll(len(part.keys))]
		r.User, r.Key, r.Fingerprint = k.User, k.Key, k.Fingerprint+uint64(c.roll(3)/2)
	}
	lines := 1
	if c.roll(4) == 0 {
		lines += c.roll(4)
	}
	for range lines {
		r.Lines = append(r.Lines, line(c.offer(), uint32(1+c.roll(3))))
	}
	return r
}

func (c *comparison) reserve(p order.Partition, state *stock.State) {
	part := &c.parts[p]
	call := &stock.ReserveCall{Partition: p, Epoch: c.epoch(state)}
	for range c.roll(c.requestsMax + 1) {
		call.Requests = append(call.Requests, c.request(part))
	}
	if c.roll(3) == 0 {
		call.Confirmed = c.someBatches(part)
	}
	ctx := c.context()
	c.last = fmt.Sprintf("reserve %d in epoch %d of partition %d", len(call.Requests), call.Epoch, p)
	want, wantErr := c.rules.Reserve(ctx, call)
	got, err := c.client().Reserve(ctx, call)
	if !c.same(plain(got), err, plain(want), wantErr) {
		return
	}
	if want.Batch != 0 {
		part.batches = tail(append(part.batches, want.Batch), 50)
	}
	for i, out := range want.Outcomes {
		c.codes[out.Code]++
		c.requests++
		if out.Code == order.Accepted {
			part.keys = tail(append(part.keys, query(call.Requests[i])), 200)
		}
	}
}

// plainReserved is a Reserved that compares: no order of the units left.
type plainReserved struct {
	Outcomes []stock.Outcome
	Batch    order.BatchID
	Left     map[order.OfferID]int64
	Twice    error
	Applied  uint64
}

func plain(r *stock.Reserved) plainReserved {
	if r == nil {
		return plainReserved{}
	}
	left, err := leftOf(r)
	return plainReserved{append([]stock.Outcome{}, r.Outcomes...), r.Batch, left, err, r.Applied}
}

func tail[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }

func (c *comparison) someBatches(part *comparedPart) []order.BatchID {
	ids := []order.BatchID{order.BatchID(c.roll(3))}
	for range c.roll(4) {
		if len(part.batches) > 0 {
			ids = append(ids, part.batches[c.roll(len(part.batches))])
		}
	}
	return ids
}

func (c *comparison) lookup(p order.Partition, state *stock.State) {
	part, e := &c.parts[p], c.epoch(state)
	var keys []stock.KeyQuery
	for range c.roll(5) {
		keys = append(keys, query(c.request(part)))
	}
	c.last = fmt.Sprintf("look up %v in epoch %d of partition %d", keys, e, p)
	want, wantErr := c.rules.Lookup(c.ctx, p, e, keys)
	got, err := c.client().Lookup(c.ctx, p, e, keys)
	c.same(append([]stock.Outcome{}, got...), err, append([]stock.Outcome{}, want...), wantErr)
}

func (c *comparison) holdings(p order.Partition, state *stock.State) {
	e, ctx := c.epoch(state), c.context()
	var offers []order.OfferID
	var buyers []stock.Buyer
	for range c.roll(5) {
		offers = append(offers, c.offer())
		buyers = append(buyers, stock.Buyer{Offer: c.offer(), User: c.user()})
	}
	c.last = fmt.Sprintf("read %v and %v in epoch %d of partition %d", offers, buyers, e, p)
	want, wantErr := c.rules.Left(ctx, p, e, offers)
	got, err := c.client().Left(ctx, p, e, offers)
	c.same(append([]int64{}, got...), err, append([]int64{}, want...), wantErr)
	want, wantErr = c.rules.Holdings(ctx, p, e, buyers)
	got, err = c.client().Holdings(ctx, p, e, buyers)
	c.same(append([]int64{}, got...), err, append([]int64{}, want...), wantErr)
}

// apply sends up to three rows that begin near the next one.
func (c *comparison) apply(p order.Partition, state *stock.State) {
	e, ctx := c.epoch(state), c.context()
	from := max(3, state.Applied+2) - uint64(c.roll(3))
	if c.roll(20) == 0 {
		from += 3
	}
	var rows []order.LogRow
	for i := range c.roll(4) {
		rows = append(rows, order.LogRow{N: from + uint64(i), Items: []order.LogItem{c.logItem(), c.logItem()}})
	}
	c.last = fmt.Sprintf("apply %+v in epoch %d of partition %d", rows, e, p)
	want, wantErr := c.rules.Apply(ctx, p, e, rows)
	got, err := c.client().Apply(ctx, p, e, rows)
	c.same(got, err, want, wantErr)
}

func (c *comparison) logItem() order.LogItem {
	opens, closes := c.window()
	id, units := c.offer(), int64(1+c.roll(4))
	switch c.roll(5) {
	case 0:
		return order.LogItem{Op: order.OpWindow, Offer: id, Opens: opens, Closes: closes}
	case 1:
		return order.LogItem{Op: order.OpCreate, Offer: id + order.OfferID(comparedOffers*c.roll(2)), Units: units,
			Limit: limitOf(id), Opens: opens, Closes: closes}
	case 2:
		return order.LogItem{Op: order.OpNote, Offer: id}
	case 3:
		return raise(id, units)
	}
	return give(id, c.user(), units)
}

func (c *comparison) confirm(p order.Partition, state *stock.State) {
	e, ctx, ids := c.epoch(state), c.context(), c.someBatches(&c.parts[p])
	c.last = fmt.Sprintf("confirm %v in epoch %d of partition %d", ids, e, p)
	wantErr := c.rules.Confirm(ctx, p, e, ids)
	c.same(nil, c.client().Confirm(ctx, p, e, ids), nil, wantErr)
}

func (c *comparison) outbox(p order.Partition, state *stock.State) {
	at := gated{p, c.epoch(state), stock.Gate(c.roll(2))}
	c.last = fmt.Sprintf("read the outbox at %+v", at)
	want, wantErr := readOutbox(c.ctx, c.rules, at)
	got, err := readOutbox(c.ctx, c.client(), at)
	c.same(got, err, want, wantErr)
	ids := c.someBatches(&c.parts[p])
	slices.Sort(ids)
	ids = slices.Compact(ids)
	wantSome, wantErr := c.rules.Entries(c.ctx, p, at.e, at.gate, ids)
	gotSome, err := c.client().Entries(c.ctx, p, at.e, at.gate, ids)
	byBatch := func(a, b stock.Entry) int { return int(a.Batch) - int(b.Batch) }
	slices.SortFunc(gotSome, byBatch)
	slices.SortFunc(wantSome, byBatch)
	c.same(append([]stock.Entry{}, gotSome...), err, append([]stock.Entry{}, wantSome...), wantErr)
}

func (c *comparison) shut(p order.Partition) {
	part, ctx := &c.parts[p], c.context()
	e := part.epoch + order.Epoch(c.roll(4))
	c.last = fmt.Sprintf("shut partition %d for epoch %d", p, e)
	intact, ok, wantErr := c.rules.Shut(ctx, p, e)
	gotIntact, gotOK, err := c.client().Shut(ctx, p, e)
	if c.same([]bool{gotIntact, gotOK}, err, []bool{intact, ok}, wantErr) && ok {
		part.epoch, part.intact = e, intact
	}
}

// load sends a page, every third time the last one. What was not intact is loaded as lost.
func (c *comparison) load(p order.Partition, state *stock.State) {
	part, e, ctx := &c.parts[p], c.epoch(state), c.context()
	page := &stock.LoadPage{Last: c.roll(3) == 0}
	for i := range comparedOffers {
		if page.Last || c.roll(2) == 0 {
			opens, closes := c.window()
			id := order.OfferID(1<<55 + i)
			page.Offers = append(page.Offers, stock.LoadOffer{Offer: id, Left: int64(c.roll(120)),
				Limit: limitOf(id), Opens: opens, Closes: closes})
		}
	}
	for range c.roll(5) {
		if id := c.offer(); limitOf(id) > 0 {
			page.Buyers = append(page.Buyers, stock.Buyer{Offer: id, User: c.user(), Units: int64(1 + c.roll(3))})
		}
	}
	if page.Last {
		page.Logged, page.Lost = uint64(c.roll(10)), !part.intact || c.roll(4) == 0
	}
	c.last = fmt.Sprintf("load %+v in epoch %d of partition %d", page, e, p)
	wantErr := c.rules.Load(ctx, p, e, page)
	c.same(nil, c.client().Load(ctx, p, e, page), nil, wantErr)
}

func (c *comparison) lose(p order.Partition) {
	if c.data.Lose == nil {
		return
	}
	what := Losses()[c.roll(len(Losses()))]
	c.data.Lose(p, what)
	c.rules.Lose(p, what)
}

// advance moves the clock by whole hours, sometimes by days.
func (c *comparison) advance() {
	if c.data.Advance == nil {
		return
	}
	hours := 1 + c.roll(3)
	if c.roll(4) == 0 {
		hours = c.roll(60)
	}
	c.data.Advance(time.Duration(hours) * time.Hour)
}
