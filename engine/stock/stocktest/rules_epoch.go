package stocktest

import (
	"context"

	"sluice/engine/order"
	"sluice/engine/stock"
)

var _ stock.Stock = (*Rules)(nil)

// Shut is stock.Stock's.
func (r *Rules) Shut(ctx context.Context, n order.Partition, e order.Epoch) (intact, ok bool, err error) {
	p, err := r.enter(ctx, n)
	if err != nil {
		return false, false, err
	}
	defer r.mu.Unlock()
	if p.fence.Epoch >= e {
		return false, false, nil
	}
	intact = p.sells(n, p.fence.Epoch) == nil
	p.fence = stock.Fence{Epoch: e, Mine: true, KeysSince: p.fence.KeysSince}
	p.left, p.terms, p.held = map[order.OfferID]int64{}, map[order.OfferID]terms{}, map[held]int64{}
	p.applied, p.sold = 0, 0
	if p.here == nil {
		p.here = map[Loss]bool{}
	}
	p.here[LoseLeft], p.here[LoseOffers], p.here[LoseBuyers] = true, true, true
	return intact, true, nil
}

// Load is stock.Stock's.
func (r *Rules) Load(ctx context.Context, n order.Partition, e order.Epoch, page *stock.LoadPage) error {
	p, err := r.enter(ctx, n)
	if err != nil {
		return err
	}
	defer r.mu.Unlock()
	needs := []Loss{LoseLeft, LoseOffers, LoseBuyers}
	if page.Last && !page.Lost {
		needs = hashes
	}
	if err := p.check(n, e, stock.Closed, needs...); err != nil {
		return err
	}
	for _, o := range page.Offers {
		p.left[o.Offer], p.terms[o.Offer] = o.Left, terms{o.Limit, o.Opens, o.Closes}
	}
	for _, b := range page.Buyers {
		p.held[held{b.Offer, b.User}] = b.Units
	}
	if !page.Last {
		return nil
	}
	if page.Lost {
		p.keys, p.newest = map[int64]map[keyName]keyRecord{}, r.period()
		p.outbox = map[order.BatchID]stock.Entry{}
		p.here[LoseIdem], p.here[LoseOutbox] = true, true
		p.fence.KeysSince = stock.KeysSince{Epoch: e, At: r.milli(), Logged: page.Logged}
	}
	p.applied, p.fence.Open = page.Logged, true
	return nil
}

// Apply is stock.Stock's.
func (r *Rules) Apply(ctx context.Context, n order.Partition, e order.Epoch, rows []order.LogRow) (uint64, error) {
	p, err := r.enterSelling(ctx, n, e)
	if err != nil {
		return 0, err
	}
	defer r.mu.Unlock()
	if len(rows) == 0 || p.applied+1 < rows[0].N {
		return p.applied, nil
	}
	created := map[order.OfferID]bool{}
	for _, row := range rows {
		for _, it := range row.Items {
			if row.N <= p.applied {
				continue
			}
			_, here := p.terms[it.Offer]
			created[it.Offer] = created[it.Offer] || here || it.Op == order.OpCreate
			if it.Op != order.OpNote && !created[it.Offer] {
				return 0, &stock.NotReady{Partition: n, Fence: p.fence, Why: stock.OfferMissing}
			}
		}
	}
	for _, row := range rows {
		if row.N > p.applied {
			for _, it := range row.Items {
				p.apply(it)
			}
			p.applied = row.N
		}
	}
	return p.applied, nil
}

func (p *ruledPart) apply(it order.LogItem) {
	t, here := p.terms[it.Offer]
	switch it.Op {
	case order.OpCreate:
		if !here {
			p.left[it.Offer], p.terms[it.Offer] = it.Units, terms{it.Limit, it.Opens, it.Closes}
		}
	case order.OpWindow:
		p.terms[it.Offer] = terms{t.limit, it.Opens, it.Closes}
	case order.OpGive:
		p.left[it.Offer] += it.Units
		of := held{it.Offer, it.User}
		p.held[of] = max(0, p.held[of]-it.Units)
	case order.OpRaise:
		p.left[it.Offer] += it.Units
	}
}

// enterSelling is enter for a call that needs the fence to be open under e. After an error mu is not held.
func (r *Rules) enterSelling(ctx context.Context, n order.Partition, e order.Epoch) (*ruledPart, error) {
	p, err := r.enter(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := p.sells(n, e); err != nil {
		r.mu.Unlock()
		return nil, err
	}
	return p, nil
}

// Lookup is stock.Stock's.
func (r *Rules) Lookup(ctx context.Context, n order.Partition, e order.Epoch, keys []stock.KeyQuery) ([]stock.Outcome, error) {
	p, err := r.enterSelling(ctx, n, e)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	out := make([]stock.Outcome, len(keys))
	for i, q := range keys {
		if k, ok := p.known(r.period(), keyName{q.User, q.Key}); ok {
			out[i] = p.repeat(k, q.Fingerprint)
		}
	}
	return out, nil
}

// Left is stock.Stock's.
func (r *Rules) Left(ctx context.Context, n order.Partition, e order.Epoch, offers []order.OfferID) ([]int64, error) {
	p, err := r.enterSelling(ctx, n, e)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	left := make([]int64, len(offers))
	for i, id := range offers {
		if _, ok := p.terms[id]; !ok {
			left[i] = -1
			continue
		}
		left[i] = p.left[id]
	}
	return left, nil
}

// Holdings is stock.Stock's.
func (r *Rules) Holdings(ctx context.Context, n order.Partition, e order.Epoch, buyers []stock.Buyer) ([]int64, error) {
	p, err := r.enterSelling(ctx, n, e)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	units := make([]int64, len(buyers))
	for i, b := range buyers {
		units[i] = p.held[held{b.Offer, b.User}]
	}
	return units, nil
}

// outboxGate is what the two outbox reads need: all of what sells, or the outbox behind a shut fence.
func (p *ruledPart) outboxGate(n order.Partition, e order.Epoch, gate stock.Gate) error {
	if gate == stock.Open {
		return p.sells(n, e)
	}
	return p.check(n, e, stock.Closed, LoseOutbox)
}

// BatchIDs is stock.Stock's.
func (r *Rules) BatchIDs(ctx context.Context, n order.Partition, e order.Epoch, gate stock.Gate) ([]order.BatchID, error) {
	p, err := r.enter(ctx, n)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if err := p.outboxGate(n, e, gate); err != nil {
		return nil, err
	}
	var ids []order.BatchID
	for id := range p.outbox {
		ids = append(ids, id)
	}
	return ids, nil
}

// Entries is stock.Stock's.
func (r *Rules) Entries(ctx context.Context, n order.Partition, e order.Epoch, gate stock.Gate, batches []order.BatchID) ([]stock.Entry, error) {
	p, err := r.enter(ctx, n)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if err := p.outboxGate(n, e, gate); err != nil {
		return nil, err
	}
	var entries []stock.Entry
	for _, id := range batches {
		if in, ok := p.outbox[id]; ok {
			entries = append(entries, in)
		}
	}
	return entries, nil
}

// State is stock.Stock's.
func (r *Rules) State(ctx context.Context, n order.Partition) (stock.State, error) {
	p, err := r.enter(ctx, n)
	if err != nil {
		return stock.State{}, err
	}
	defer r.mu.Unlock()
	st := stock.State{Fence: p.fence}
	if p.sells(n, p.fence.Epoch) == nil {
		st.Ready, st.Applied, st.Reserves, st.Batches = true, p.applied, p.sold, len(p.outbox)
	}
	return st, nil
}

// Snapshot is stock.Stock's. What users hold is given only where it is not zero.
func (r *Rules) Snapshot(ctx context.Context, n order.Partition, e order.Epoch) (*stock.Snapshot, error) {
	p, err := r.enterSelling(ctx, n, e)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	snap := &stock.Snapshot{Applied: p.applied, Reserves: p.sold, Batches: len(p.outbox)}
	for id, units := range p.left {
		snap.Left = append(snap.Left, stock.Left{Offer: id, Units: units})
	}
	for of, units := range p.held {
		if units != 0 {
			snap.Buyers = append(snap.Buyers, stock.Buyer{Offer: of.offer, User: of.user, Units: units})
		}
	}
	return snap, nil
}
