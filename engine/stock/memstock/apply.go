package memstock

import (
	"context"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Apply applies rows of the stock log (stock.Stock). A row about an offer that is not there gives NotReady, and none of
// the rows is applied.
func (s *Stock) Apply(ctx context.Context, n order.Partition, e order.Epoch, rows []order.LogRow) (uint64, error) {
	p, err := s.partition(ctx, "apply the stock log", n)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(e); err != nil {
		return 0, err
	}
	if len(rows) == 0 || p.applied+1 < rows[0].N {
		return p.applied, nil
	}
	for len(rows) > 0 && rows[0].N <= p.applied {
		rows = rows[1:]
	}
	if !p.knows(rows) {
		return 0, p.notReady(stock.OfferMissing)
	}
	for i := range rows {
		for j := range rows[i].Items {
			p.apply(&rows[i].Items[j])
		}
		p.applied = rows[i].N
	}
	return p.applied, nil
}

// knows tells whether every offer that the rows change is there, or created by an earlier item.
func (p *partition) knows(rows []order.LogRow) bool {
	created := map[order.OfferID]bool{}
	for i := range rows {
		for _, it := range rows[i].Items {
			switch it.Op {
			case order.OpCreate:
				created[it.Offer] = true
			case order.OpWindow, order.OpGive, order.OpRaise:
				if p.offers[it.Offer] == nil && !created[it.Offer] {
					return false
				}
			}
		}
	}
	return true
}

func (p *partition) apply(it *order.LogItem) {
	o := p.offers[it.Offer]
	switch it.Op {
	case order.OpCreate:
		if o == nil {
			p.put(&offer{id: it.Offer, left: it.Units, limit: it.Limit, opens: it.Opens, closes: it.Closes})
		}
	case order.OpWindow:
		o.opens, o.closes = it.Opens, it.Closes
	case order.OpGive:
		o.left += it.Units
		p.held[it.Offer].lower(it.User, it.Units)
	case order.OpRaise:
		o.left += it.Units
	case order.OpNote:
	default:
		panic("BUG: stock log operation " + string(it.Op))
	}
}

// lower takes units from what a user holds, down to nothing at most.
func (h holdings) lower(user order.UserID, units int64) {
	switch has, ok := h[user]; {
	case !ok:
	case has > units:
		h[user] = has - units
	default:
		delete(h, user)
	}
}
