package memstock

import (
	"bytes"
	"context"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// view takes the read lock of partition n if its fence is open under e. The caller must unlock it.
func (s *Stock) view(ctx context.Context, call string, n order.Partition, e order.Epoch) (*partition, error) {
	p, err := s.partition(ctx, call, n)
	if err != nil {
		return nil, err
	}
	p.mu.RLock()
	if err := p.open(e); err != nil {
		p.mu.RUnlock()
		return nil, err
	}
	return p, nil
}

// Lookup finds the orders of keys (stock.Stock). It sees the periods that a Reserve at this moment would see.
func (s *Stock) Lookup(ctx context.Context, n order.Partition, e order.Epoch, queries []stock.KeyQuery) ([]stock.Outcome, error) {
	p, err := s.view(ctx, "look up keys", n, e)
	if err != nil {
		return nil, err
	}
	defer p.mu.RUnlock()
	known := p.keys.at(s.milli())
	outcomes := make([]stock.Outcome, len(queries))
	for i, q := range queries {
		if k := known.find(known.spread(q.User, q.Key), q.User, q.Key); k != nil {
			p.repeat(k, q.Fingerprint, &outcomes[i])
		}
	}
	return outcomes, nil
}

// Left is the units left of offers (stock.Stock).
func (s *Stock) Left(ctx context.Context, n order.Partition, e order.Epoch, offers []order.OfferID) ([]int64, error) {
	p, err := s.view(ctx, "read units left", n, e)
	if err != nil {
		return nil, err
	}
	defer p.mu.RUnlock()
	left := make([]int64, len(offers))
	for i, id := range offers {
		left[i] = -1
		if o := p.offers[id]; o != nil {
			left[i] = o.left
		}
	}
	return left, nil
}

// Holdings is the units that users hold (stock.Stock).
func (s *Stock) Holdings(ctx context.Context, n order.Partition, e order.Epoch, buyers []stock.Buyer) ([]int64, error) {
	p, err := s.view(ctx, "read holdings", n, e)
	if err != nil {
		return nil, err
	}
	defer p.mu.RUnlock()
	units := make([]int64, len(buyers))
	for i, b := range buyers {
		units[i] = p.held[b.Offer][b.User]
	}
	return units, nil
}

// outboxOf takes the read lock of partition n if the outbox can be read through gate. The caller must unlock it.
func (s *Stock) outboxOf(ctx context.Context, n order.Partition, e order.Epoch, gate stock.Gate) (*partition, error) {
	if gate == stock.Open {
		return s.view(ctx, "read the outbox", n, e)
	}
	p, err := s.partition(ctx, "read the outbox", n)
	if err != nil {
		return nil, err
	}
	p.mu.RLock()
	if err := p.shut(e, partOutbox); err != nil {
		p.mu.RUnlock()
		return nil, err
	}
	return p, nil
}

// BatchIDs lists the outbox (stock.Stock).
func (s *Stock) BatchIDs(ctx context.Context, n order.Partition, e order.Epoch, gate stock.Gate) ([]order.BatchID, error) {
	p, err := s.outboxOf(ctx, n, e, gate)
	if err != nil {
		return nil, err
	}
	defer p.mu.RUnlock()
	ids := make([]order.BatchID, 0, len(p.outbox))
	for id := range p.outbox {
		ids = append(ids, id)
	}
	return ids, nil
}

// Entries reads outbox entries (stock.Stock). The records are copies.
func (s *Stock) Entries(ctx context.Context, n order.Partition, e order.Epoch, gate stock.Gate, batches []order.BatchID) ([]stock.Entry, error) {
	p, err := s.outboxOf(ctx, n, e, gate)
	if err != nil {
		return nil, err
	}
	defer p.mu.RUnlock()
	var entries []stock.Entry
	for _, id := range batches {
		if in, ok := p.outbox[id]; ok {
			entries = append(entries, stock.Entry{Batch: id, Epoch: in.epoch, Records: bytes.Clone(in.records)})
		}
	}
	return entries, nil
}

// State reads the fence and, if it is ready, the counters (stock.Stock).
func (s *Stock) State(ctx context.Context, n order.Partition) (stock.State, error) {
	p, err := s.partition(ctx, "read the state", n)
	if err != nil {
		return stock.State{}, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	st := stock.State{Fence: p.view()}
	if p.open(p.fence.epoch) == nil {
		st.Ready, st.Applied, st.Reserves, st.Batches = true, p.applied, p.reserves, len(p.outbox)
	}
	return st, nil
}

// Snapshot reads all of the partition's stock (stock.Stock). Reserves wait while it copies: 100,000 buyers take some
// milliseconds.
func (s *Stock) Snapshot(ctx context.Context, n order.Partition, e order.Epoch) (*stock.Snapshot, error) {
	p, err := s.view(ctx, "take a snapshot", n, e)
	if err != nil {
		return nil, err
	}
	defer p.mu.RUnlock()
	snap := &stock.Snapshot{
		Applied: p.applied, Reserves: p.reserves, Batches: len(p.outbox),
		Left: make([]stock.Left, 0, len(p.offers)),
	}
	for id, o := range p.offers {
		snap.Left = append(snap.Left, stock.Left{Offer: id, Units: o.left})
	}
	for id, held := range p.held {
		for user, units := range held {
			snap.Buyers = append(snap.Buyers, stock.Buyer{Offer: id, User: user, Units: units})
		}
	}
	return snap, nil
}
