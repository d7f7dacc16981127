package memstock

import (
	"context"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Shut sets the fence to (e, closed, this identity) (stock.Stock). The stock of the former epoch is dropped at once: no
// call can read it any more.
func (s *Stock) Shut(ctx context.Context, n order.Partition, e order.Epoch) (intact, ok bool, err error) {
	p, err := s.partition(ctx, "shut the fence", n)
	if err != nil {
		return false, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fence.epoch >= e {
		return false, false, nil
	}
	intact = p.open(p.fence.epoch) == nil
	p.fence = fence{epoch: e, identity: p.identity, keysSince: p.fence.keysSince}
	p.missing &^= partsOfEpoch
	p.beginEpoch()
	return intact, true, nil
}

// Load writes one page of the stock of epoch e and opens the fence with the last (stock.Stock). A last page that keeps
// records and outbox gives NotReady if one of them is missing.
func (s *Stock) Load(ctx context.Context, n order.Partition, e order.Epoch, page *stock.LoadPage) error {
	p, err := s.partition(ctx, "load", n)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	needs := partsOfEpoch
	if page.Last && !page.Lost {
		needs |= partsKept
	}
	if err := p.shut(e, needs); err != nil {
		return err
	}
	for _, o := range page.Offers {
		p.put(&offer{id: o.Offer, left: o.Left, limit: o.Limit, opens: o.Opens, closes: o.Closes})
	}
	for _, b := range page.Buyers {
		p.holdingsOf(b.Offer)[b.User] = b.Units
	}
	if page.Last {
		p.finishLoad(page, s.milli())
	}
	return nil
}

func (p *partition) finishLoad(page *stock.LoadPage, now order.Milli) {
	if page.Lost {
		p.keys = newKeys(now)
		p.outbox = make(map[order.BatchID]entry)
		p.missing &^= partsKept
		p.fence.keysSince = stock.KeysSince{Epoch: p.fence.epoch, At: now, Logged: page.Logged}
	}
	p.applied = page.Logged
	p.fence.open = true
}
