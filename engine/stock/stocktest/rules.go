package stocktest

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Rules is the contract of stock.Stock written down as plainly as it can be: simple maps, one mutex, every decision made
// on copies and written afterwards. Drivers are compared with it, call by call. It shares no code with any of them.
// Where the contract leaves an order open, Rules sorts nothing and Compare does not look.
type Rules struct {
	mu    sync.Mutex
	now   func() time.Time
	parts []ruledPart
}

// ruledPart is one partition.
type ruledPart struct {
	fence   stock.Fence // the zero Fence is a missing one
	here    map[Loss]bool
	left    map[order.OfferID]int64
	terms   map[order.OfferID]terms
	held    map[held]int64
	keys    map[int64]map[keyName]keyRecord // by period
	newest  int64                           // the newest period
	outbox  map[order.BatchID]stock.Entry
	applied uint64
	sold    uint64 // reserve calls
}

type terms struct {
	limit         uint32
	opens, closes order.Milli
}

type held struct {
	offer order.OfferID
	user  order.UserID
}

type keyName struct {
	user order.UserID
	hash uint64
}

type keyRecord struct {
	order       order.ID
	fingerprint uint64
	batch       order.BatchID
}

// NewRules returns an empty data set.
func NewRules(ps order.Partitions, now func() time.Time) *Rules {
	return &Rules{now: now, parts: make([]ruledPart, ps.Count())}
}

var hashes = []Loss{LoseLeft, LoseOffers, LoseBuyers, LoseIdem, LoseOutbox}

// Lose is what Data.Lose does to a driver.
func (r *Rules) Lose(n order.Partition, what Loss) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.parts[n]
	switch what {
	case LoseAll:
		*p = ruledPart{}
	case LoseFence:
		p.fence = stock.Fence{}
	case LoseIdentity:
		p.fence.Mine = false
	default:
		delete(p.here, what)
	}
}

// enter locks the rules for a call. It gives an error for a context that is done.
func (r *Rules) enter(ctx context.Context, n order.Partition) (*ruledPart, error) {
	if err := ctx.Err(); err != nil {
		return nil, &stock.NotExecutedError{Err: err}
	}
	r.mu.Lock()
	return &r.parts[n], nil
}

func (r *Rules) milli() order.Milli { return order.MilliOf(r.now()) }

func (r *Rules) period() int64 { return int64(r.milli()) / (24 * time.Hour).Milliseconds() }

// check is the fence: nil if it is exactly as gate, e and this identity ask, and every hash of needs is there.
func (p *ruledPart) check(n order.Partition, e order.Epoch, gate stock.Gate, needs ...Loss) error {
	var why stock.Why
	switch {
	case p.fence.Epoch == 0:
		why = stock.FenceMissing
	case gate == stock.Open && !p.fence.Open:
		why = stock.FenceShut
	case gate == stock.Closed && p.fence.Open:
		why = stock.FenceNotShut
	case p.fence.Epoch != e:
		why = stock.OtherEpoch
	case !p.fence.Mine:
		why = stock.OtherIdentity
	}
	for _, hash := range needs {
		if why == "" && !p.here[hash] {
			why = stock.SentinelMissing
		}
	}
	if why == "" {
		return nil
	}
	return &stock.NotReady{Partition: n, Fence: p.fence, Why: why}
}

func (p *ruledPart) sells(n order.Partition, e order.Epoch) error {
	return p.check(n, e, stock.Open, hashes...)
}

// known is the record of a key, in the periods that are read when the clock shows period.
func (p *ruledPart) known(period int64, name keyName) (keyRecord, bool) {
	period = max(period, p.newest)
	if k, ok := p.keys[period][name]; ok {
		return k, true
	}
	k, ok := p.keys[period-1][name]
	return k, ok
}

func (p *ruledPart) repeat(k keyRecord, fingerprint uint64) stock.Outcome {
	if k.fingerprint != fingerprint {
		return stock.Outcome{Code: order.KeyReused}
	}
	_, outboxed := p.outbox[k.batch]
	return stock.Outcome{Code: order.Repeated, Order: k.order, Batch: k.batch, Outboxed: outboxed}
}

// Reserve is stock.Stock's.
func (r *Rules) Reserve(ctx context.Context, call *stock.ReserveCall) (*stock.Reserved, error) {
	p, err := r.enter(ctx, call.Partition)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if err := p.sells(call.Partition, call.Epoch); err != nil {
		return nil, err
	}
	lines, size := 0, 0
	for _, q := range call.Requests {
		lines, size = lines+len(q.Lines), size+len(q.Record)
		for _, line := range q.Lines {
			if _, ok := p.terms[line.Offer]; !ok {
				return nil, &stock.NotReady{Partition: call.Partition, Fence: p.fence, Why: stock.OfferMissing}
			}
		}
	}
	if len(call.Requests) > order.BatchOrdersMax || lines > order.BatchLinesMax || size > order.BatchBytesMax {
		return nil, &stock.NotExecutedError{Err: errors.New("out of bounds")}
	}
	for _, id := range call.Confirmed {
		delete(p.outbox, id)
	}
	p.newest = max(p.newest, r.period())
	for period := range p.keys {
		if period < p.newest-1 {
			delete(p.keys, period)
		}
	}
	p.sold++
	return p.reserve(call, r.milli()), nil
}

func (p *ruledPart) reserve(call *stock.ReserveCall, now order.Milli) *stock.Reserved {
	res := &stock.Reserved{Applied: p.applied}
	named := map[order.OfferID]bool{}
	var records []byte
	for _, q := range call.Requests {
		var out stock.Outcome
		if k, ok := p.known(p.newest, keyName{q.User, q.Key}); ok {
			out = p.repeat(k, q.Fingerprint)
		} else {
			out = p.decide(q, now)
		}
		if out.Code == order.Accepted {
			if res.Batch == 0 {
				res.Batch = order.BatchID(q.Order)
			}
			out.Order, out.Batch = q.Order, res.Batch
			p.take(q, res.Batch)
			records = append(records, q.Record...)
			p.outbox[res.Batch] = stock.Entry{Batch: res.Batch, Epoch: call.Epoch, Records: records}
		}
		res.Outcomes = append(res.Outcomes, out)
		for _, line := range q.Lines {
			named[line.Offer] = true
		}
	}
	for id := range named {
		res.Left = append(res.Left, stock.Left{Offer: id, Units: p.left[id]})
	}
	return res
}

// decide answers a request whose key is not known: window, limit, stock, of every line before the next.
func (p *ruledPart) decide(q stock.Request, now order.Milli) stock.Outcome {
	for i, line := range q.Lines {
		t := p.terms[line.Offer]
		if t.closes != 0 && t.closes <= now {
			return stock.Outcome{Code: order.Closed, Line: i}
		}
		if now < t.opens {
			return stock.Outcome{Code: order.NotOpen, Line: i}
		}
	}
	wanted := map[order.OfferID]int64{}
	for i, line := range q.Lines {
		wanted[line.Offer] += int64(line.Quantity)
		limit := int64(p.terms[line.Offer].limit)
		if limit != 0 && p.held[held{line.Offer, q.User}]+wanted[line.Offer] > limit {
			return stock.Outcome{Code: order.OverLimit, Line: i}
		}
	}
	clear(wanted)
	for i, line := range q.Lines {
		wanted[line.Offer] += int64(line.Quantity)
		if wanted[line.Offer] > p.left[line.Offer] {
			return stock.Outcome{Code: order.SoldOut, Line: i}
		}
	}
	return stock.Outcome{Code: order.Accepted}
}

func (p *ruledPart) take(q stock.Request, batch order.BatchID) {
	for _, line := range q.Lines {
		p.left[line.Offer] -= int64(line.Quantity)
		if p.terms[line.Offer].limit != 0 {
			p.held[held{line.Offer, q.User}] += int64(line.Quantity)
		}
	}
	if p.keys[p.newest] == nil {
		p.keys[p.newest] = map[keyName]keyRecord{}
	}
	p.keys[p.newest][keyName{q.User, q.Key}] = keyRecord{q.Order, q.Fingerprint, batch}
}

// Confirm is stock.Stock's.
func (r *Rules) Confirm(ctx context.Context, n order.Partition, e order.Epoch, batches []order.BatchID) error {
	p, err := r.enterSelling(ctx, n, e)
	if err != nil {
		return err
	}
	defer r.mu.Unlock()
	for _, id := range batches {
		delete(p.outbox, id)
	}
	return nil
}

// Close is stock.Stock's; it does nothing.
func (r *Rules) Close() error { return nil }
