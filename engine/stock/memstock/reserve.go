package memstock

import (
	"context"
	"fmt"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// scratch is what a reserve needs while it runs, kept between calls so that a request allocates nothing of its own.
type scratch struct {
	lines   []*offer // of every line of the call, in order
	named   []*offer // of the call, each once
	places  []uint64 // of the requests' keys in the tables
	call    uint64
	touched uint8 // keeps the compiler from dropping reads that only warm the cache
}

// Reserve decides a batch of requests (stock.Stock). Everything that can refuse the call as a whole is looked at before
// the first write; after that no step can fail, so the call is atomic under the partition's mutex. A call out of the
// bounds of stock.ReserveCall is refused, not executed.
func (s *Stock) Reserve(ctx context.Context, call *stock.ReserveCall) (*stock.Reserved, error) {
	p, err := s.partition(ctx, "reserve", call.Partition)
	if err != nil {
		return nil, err
	}
	if err := withinBounds(call); err != nil {
		return nil, refused("reserve", call.Partition, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(call.Epoch); err != nil {
		return nil, err
	}
	if err := p.resolve(call.Requests); err != nil {
		return nil, err
	}
	p.confirm(call.Confirmed)
	return p.reserve(call, s.milli()), nil
}

func withinBounds(call *stock.ReserveCall) error {
	lines, size := 0, 0
	for i := range call.Requests {
		r := &call.Requests[i]
		lines, size = lines+len(r.Lines), size+len(r.Record)
		if r.Order == 0 {
			return fmt.Errorf("request %d has no order id", i)
		}
	}
	if len(call.Requests) > order.BatchOrdersMax || lines > order.BatchLinesMax || size > order.BatchBytesMax {
		return fmt.Errorf("%d requests with %d lines and %d bytes are more than one call takes", len(call.Requests), lines, size)
	}
	return nil
}

// resolve finds the offer of every line. One that is missing refuses the whole call.
func (p *partition) resolve(requests []stock.Request) error {
	sc := &p.scratch
	sc.call++
	sc.lines, sc.named = sc.lines[:0], sc.named[:0]
	var o *offer // a batch of a sale names one offer many times
	for i := range requests {
		for _, line := range requests[i].Lines {
			if o == nil || o.id != line.Offer {
				if o = p.offers[line.Offer]; o == nil {
					return p.notReady(stock.OfferMissing)
				}
			}
			sc.lines = append(sc.lines, o)
			if o.named != sc.call {
				o.named = sc.call
				sc.named = append(sc.named, o)
			}
		}
	}
	return nil
}

func (p *partition) reserve(call *stock.ReserveCall, now order.Milli) *stock.Reserved {
	p.keys = p.keys.at(now)
	p.findPlaces(call.Requests)
	p.reserves++
	res := &stock.Reserved{Outcomes: make([]stock.Outcome, len(call.Requests)), Applied: p.applied}
	lines, size := p.scratch.lines, 0
	for i := range call.Requests {
		r, out := &call.Requests[i], &res.Outcomes[i]
		n := len(r.Lines)
		place := p.scratch.places[i]
		k := p.keys.find(place, r.User, r.Key)
		if k != nil {
			p.repeat(k, r.Fingerprint, out)
		} else {
			decide(r, lines[:n], now, out)
		}
		if out.Code == order.Accepted {
			if res.Batch == 0 {
				res.Batch = order.BatchID(r.Order)
				p.outbox[res.Batch] = entry{}
			}
			out.Order, out.Batch = r.Order, res.Batch
			take(r, lines[:n])
			p.keys.add(place, key{r.User, r.Key, r.Order, r.Fingerprint, res.Batch})
			size += len(r.Record)
		}
		lines = lines[n:]
	}
	if res.Batch != 0 {
		p.outbox[res.Batch] = entry{epoch: call.Epoch, records: acceptedRecords(call, res, size)}
	}
	res.Left = make([]stock.Left, len(p.scratch.named))
	for i, o := range p.scratch.named {
		res.Left[i] = stock.Left{Offer: o.id, Units: o.left}
	}
	return res
}

// findPlaces says where the requests' keys belong in the tables, and brings those places into the cache.
func (p *partition) findPlaces(requests []stock.Request) {
	sc := &p.scratch
	sc.places = sc.places[:0]
	for i := range requests {
		h := p.keys.spread(requests[i].User, requests[i].Key)
		sc.places = append(sc.places, h)
		sc.touched += p.keys.touch(h)
	}
}

// decide answers a request whose key is not known, without writing anything but out.
func decide(r *stock.Request, offers []*offer, now order.Milli, out *stock.Outcome) {
	for i, o := range offers {
		if code := o.window(now); code != 0 {
			out.Code, out.Line = code, i
			return
		}
	}
	if i := overLimit(r, offers); i >= 0 {
		out.Code, out.Line = order.OverLimit, i
		return
	}
	if i := soldOut(r, offers); i >= 0 {
		out.Code, out.Line = order.SoldOut, i
		return
	}
	out.Code = order.Accepted
}

// repeat answers for a key that is known.
func (p *partition) repeat(k *key, fingerprint uint64, out *stock.Outcome) {
	if k.fingerprint != fingerprint {
		out.Code = order.KeyReused
		return
	}
	_, outboxed := p.outbox[k.batch]
	out.Code, out.Order, out.Batch, out.Outboxed = order.Repeated, k.order, k.batch, outboxed
}

// window is the code that refuses the offer at now, or 0.
func (o *offer) window(now order.Milli) order.Code {
	switch {
	case o.closes != 0 && now >= o.closes:
		return order.Closed
	case now < o.opens:
		return order.NotOpen
	}
	return 0
}

// overLimit is the first line with which the user would hold more than the offer's limit, or -1. Earlier lines of the
// request count.
func overLimit(r *stock.Request, offers []*offer) int {
	over := -1
	for i, o := range offers {
		if o.limit == 0 || over >= 0 {
			continue
		}
		o.wanted += int64(r.Lines[i].Quantity)
		if o.held[r.User]+o.wanted > int64(o.limit) {
			over = i
		}
	}
	forgetWanted(offers)
	return over
}

// soldOut is the first line for which units are lacking, or -1. Earlier lines of the request count.
func soldOut(r *stock.Request, offers []*offer) int {
	lacking := -1
	for i, o := range offers {
		o.wanted += int64(r.Lines[i].Quantity)
		if o.wanted > o.left {
			lacking = i
			break
		}
	}
	forgetWanted(offers)
	return lacking
}

func forgetWanted(offers []*offer) {
	for _, o := range offers {
		o.wanted = 0
	}
}

// take writes what an accepted request takes.
func take(r *stock.Request, offers []*offer) {
	for i, o := range offers {
		units := int64(r.Lines[i].Quantity)
		o.left -= units
		if o.limit != 0 {
			o.held[r.User] += units
		}
	}
}

// acceptedRecords is the copy of the accepted records that the outbox keeps.
func acceptedRecords(call *stock.ReserveCall, res *stock.Reserved, size int) []byte {
	records := make([]byte, 0, size)
	for i := range call.Requests {
		if res.Outcomes[i].Code == order.Accepted {
			records = append(records, call.Requests[i].Record...)
		}
	}
	return records
}

func (p *partition) confirm(batches []order.BatchID) {
	for _, id := range batches {
		delete(p.outbox, id)
	}
}

// Confirm deletes outbox entries (stock.Stock).
func (s *Stock) Confirm(ctx context.Context, n order.Partition, e order.Epoch, batches []order.BatchID) error {
	p, err := s.partition(ctx, "confirm", n)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(e); err != nil {
		return err
	}
	p.confirm(batches)
	return nil
}
