package audit

import (
	"slices"

	"sluice/engine/order"
)

// merge puts what the shards say together. Parked orders count as stored ones unless their row is there already.
func (c *evidence) merge() {
	c.live, c.held = map[order.OfferID]int64{}, map[holding]int64{}
	c.due, c.dueHeld = map[order.OfferID]int64{}, map[holding]int64{}
	for _, s := range c.shards {
		c.orders = append(c.orders, s.orders...)
		s.orders = nil
		add(c.live, s.live)
		add(c.held, s.held)
		add(c.due, s.due)
		add(c.dueHeld, s.dueHeld)
	}
	slices.SortFunc(c.orders, byID)
	seen := map[order.ID]bool{}
	for _, s := range c.shards {
		for i := range s.parked {
			p := &s.parked[i]
			if p.bad != nil || seen[p.id] || len(c.find(p.id)) > 0 {
				continue
			}
			seen[p.id] = true
			c.addParked(s, p)
		}
	}
	slices.SortFunc(c.orders, byID)
}

func (c *evidence) addParked(s *shard, p *parked) {
	r := &p.record
	x := stored{id: p.id, user: r.User, status: p.status, shard: int32(s.number), parked: true, guarded: true}
	if r.Key != "" {
		x.key, x.scope = keyHash(r.Key), scopeHash(r.Group, r.Key)
	}
	defer func() { c.orders = append(c.orders, x) }()
	if !x.status.Live() {
		return
	}
	for _, it := range r.Items {
		c.live[it.Offer] += int64(it.Quantity)
		if o := c.offers[it.Offer]; o != nil && o.limit > 0 {
			c.held[holding{it.Offer, r.User}] += int64(it.Quantity)
		}
	}
}

// find gives the stored orders of an id: one, unless something is wrong.
func (c *evidence) find(id order.ID) []stored {
	at, _ := slices.BinarySearchFunc(c.orders, id, func(x stored, id order.ID) int { return byID(x, stored{id: id}) })
	end := at
	for end < len(c.orders) && c.orders[end].id == id {
		end++
	}
	return c.orders[at:end]
}

func add[K comparable](into, from map[K]int64) {
	for k, n := range from {
		into[k] += n
	}
}
