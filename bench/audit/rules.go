package audit

import (
	"slices"

	"sluice/engine/order"
)

// The names of the rules, as the report has them.
const (
	RuleAtRest      = "at rest: queue empty, partitions open, stock log applied"
	RuleOversell    = "no oversell: live units and sold at most the total"
	RuleSold        = "sold = live units, per offer"
	RuleBuyers      = "buyers = live units, per limited offer and user"
	RuleLimits      = "limits kept"
	RuleOneKey      = "one order per user, group and key"
	RuleIndex       = "every order found by its user and key"
	RuleUnique      = "order ids unique"
	RuleShard       = "every order on its user's shard"
	RuleState       = "statuses legal, events agree"
	RuleMoney       = "money: amounts, items and prices agree"
	RuleFeed        = "feed of events without gaps, in order per order"
	RuleLog         = "stock log without gaps, causes unique"
	RuleLeak        = "no leaked unit: what dead orders held came back or is due"
	RuleFast        = "fast stock + live units = total, per offer"
	RuleFastBuyers  = "fast stock's buyers = live units, per limited offer and user"
	RuleAnswered    = "every order answered 2xx stored once and not rejected"
	RuleNoEffect    = "no call answered 4xx, 429 or 503 stored an order"
	RuleNoOrderLeft = "409 only if no order of the key lived"
)

var rules = []struct {
	name  string
	check func(*evidence, *finding)
	still bool // it needs all stores and fast stock as of one moment
}{
	{RuleAtRest, checkAtRest, true},
	{RuleOversell, checkOversell, false},
	{RuleSold, checkSold, true},
	{RuleBuyers, checkBuyers, true},
	{RuleLimits, checkLimits, false},
	{RuleOneKey, checkOneKey, false},
	{RuleIndex, checkIndex, false},
	{RuleUnique, checkUnique, false},
	{RuleShard, checkShard, false},
	{RuleState, checkState, false},
	{RuleMoney, checkMoney, false},
	{RuleFeed, checkFeed, false},
	{RuleLog, checkLog, false},
	{RuleLeak, checkLeak, true},
	{RuleFast, checkFast, true},
	{RuleFastBuyers, checkFastBuyers, true},
	{RuleAnswered, checkAnswered, true},
	{RuleNoEffect, checkNoEffect, false},
	{RuleNoOrderLeft, checkNoOrderLeft, false},
}

func checkAtRest(c *evidence, f *finding) {
	if c.queue == nil && c.fast == nil {
		f.notChecked("neither the queue's file nor a server was given")
		return
	}
	f.checked(1)
	if c.fast == nil {
		if *c.queue > 0 {
			f.violation("%d messages in the queue: a server that is started stores them; until then units are sold and not in orders", *c.queue)
		}
		return
	}
	// The file may still have rows that the running server acknowledged in memory: what it says itself counts.
	if why := c.moving(); why != "" {
		f.violation("%s", why)
	}
}

// eachOffer calls check for every offer in a fixed order.
func (c *evidence) eachOffer(f *finding, check func(order.OfferID, *offer)) {
	ids := make([]order.OfferID, 0, len(c.offers))
	for id := range c.offers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	f.checked(len(ids))
	for _, id := range ids {
		check(id, c.offers[id])
	}
}

func checkOversell(c *evidence, f *finding) {
	c.eachOffer(f, func(id order.OfferID, o *offer) {
		if !o.stocked {
			f.violation("offer %d has no row of stock", id)
		}
		if c.live[id] > o.total {
			f.violation("offer %d: %d units in live orders, %d on sale", id, c.live[id], o.total)
		}
		if o.sold > o.total || o.sold < 0 {
			f.violation("offer %d: sold %d of %d", id, o.sold, o.total)
		}
	})
	for id, n := range c.live {
		if c.offers[id] == nil {
			f.violation("%d units of offer %d, which does not exist", n, id)
		}
	}
}

func checkSold(c *evidence, f *finding) {
	c.eachOffer(f, func(id order.OfferID, o *offer) {
		if o.sold != c.live[id]+c.due[id] {
			f.violation("offer %d: sold %d, but %d units in live orders and %d due to come back", id, o.sold, c.live[id], c.due[id])
		}
	})
}

func checkBuyers(c *evidence, f *finding) {
	held := map[holding]int64{}
	add(held, c.held)
	add(held, c.dueHeld)
	for _, s := range c.shards {
		for h, b := range s.buyers {
			f.checked(1)
			if b.units != held[h] {
				f.violation("offer %d, user %d: buyer row says %d units, orders %d", h.offer, h.user, b.units, held[h])
			}
			delete(held, h)
		}
	}
	for h, n := range held {
		f.checked(1)
		if n != 0 {
			f.violation("offer %d, user %d: no buyer row, orders have %d units", h.offer, h.user, n)
		}
	}
}

func checkLimits(c *evidence, f *finding) {
	for h, n := range c.held {
		f.checked(1)
		if limit := c.offers[h.offer].limit; n > limit {
			f.violation("offer %d, user %d: %d units, the limit is %d", h.offer, h.user, n, limit)
		}
	}
	for _, s := range c.shards {
		for h, b := range s.buyers {
			if o := c.offers[h.offer]; o == nil || b.lim != o.limit {
				f.violation("offer %d, user %d: the buyer row repeats another limit, %d", h.offer, h.user, b.lim)
			}
		}
	}
}

// scope names the place where a key may have one live order.
type scope struct {
	user order.UserID
	hash uint64
}

func checkOneKey(c *evidence, f *finding) {
	type entry struct {
		scope
		id order.ID
	}
	var holders []entry // of a key: every live order that has one, and those that died and keep theirs
	for i := range c.orders {
		x := &c.orders[i]
		if !x.holds && (x.scope == 0 || !x.status.Live()) {
			continue
		}
		holders = append(holders, entry{scope{x.user, x.scope}, x.id})
		if !x.guarded {
			f.violation("order %d has not the hash of its key", x.id)
		}
	}
	f.checked(len(holders))
	slices.SortFunc(holders, func(a, b entry) int { return compareScopes(a.scope, b.scope) })
	for i := 1; i < len(holders); i++ {
		if holders[i].scope == holders[i-1].scope && holders[i].id != holders[i-1].id {
			f.violation("user %d: orders %d and %d hold one key", holders[i].user, holders[i-1].id, holders[i].id)
		}
	}
}

func checkIndex(c *evidence, f *finding) {
	for _, s := range c.shards {
		f.take(&s.index)
	}
}

func checkUnique(c *evidence, f *finding) {
	f.checked(len(c.orders))
	for i := 1; i < len(c.orders); i++ {
		if c.orders[i].id == c.orders[i-1].id {
			f.violation("order %d is stored on shards %d and %d", c.orders[i].id, c.orders[i-1].shard, c.orders[i].shard)
		}
	}
	for i := range c.orders {
		x := &c.orders[i]
		if x.duplicateOf == 0 {
			continue
		}
		first := c.find(x.duplicateOf)
		if len(first) == 0 || first[0].user != x.user || first[0].duplicateOf != 0 {
			f.violation("order %d is a duplicate of %d, which is no first order of user %d", x.id, x.duplicateOf, x.user)
		}
	}
}

func checkShard(c *evidence, f *finding) {
	for i := range c.orders {
		x := &c.orders[i]
		f.checked(1)
		if order.VirtualShard(x.user) != x.id.VirtualShard() {
			f.violation("order %d has the shard bits %d, its user %d belongs to %d",
				x.id, x.id.VirtualShard(), x.user, order.VirtualShard(x.user))
		}
		if want := c.opts.VirtualShards[order.VirtualShard(x.user)]; !x.parked && want != int(x.shard) {
			f.violation("order %d of user %d is on shard %d, not %d", x.id, x.user, x.shard, want)
		}
	}
	for id, o := range c.offers {
		if _, home := c.shards[o.shard].parts[o.p]; !home {
			f.violation("offer %d is on shard %d, which is not the home of its partition %d", id, o.shard, o.p)
		}
	}
}
