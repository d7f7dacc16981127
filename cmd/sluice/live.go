package main

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"sluice/engine"
	"sluice/engine/order"
)

const (
	liveFor   = 900 * time.Millisecond // how long a snapshot of the console is shared by those who watch
	hotMax    = 8                      // offers that the console shows
	coolEvery = 0.9                    // what is left after a snapshot of the units that an offer has sold
	// scannedMax bounds the offers looked at for each snapshot. In a larger catalogue flash offers only are looked at.
	scannedMax = 100_000
	soon       = order.Milli(time.Hour / time.Millisecond)
)

// live is what the console shows: the stages' snapshots and the offers that sell fastest. All who watch share one.
type live struct {
	mu   sync.Mutex
	at   time.Time
	last map[string]any
	seen map[order.OfferID]heat
}

// heat is an offer as it was seen last, and how fast it has sold lately.
type heat struct {
	left  int64
	units float64 // sold, fading with every snapshot
}

// live is one snapshot for the console.
func (s *Server) live() any {
	l := &s.console
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) < liveFor {
		return l.last
	}
	all := s.stats()
	all["at"] = time.Now().UTC()
	all["offers"] = []any{}
	if e := s.running(); e != nil {
		all["offers"] = shown(l.hottest(e.Offers(), order.MilliOf(time.Now())))
	}
	l.at, l.last = time.Now(), all
	return all
}

// hottest picks the offers that a person wants to see now: first those that have sold most lately, then those that have
// opened within the last hour or open within the next, then the newest.
func (l *live) hottest(list []*engine.Offer, now order.Milli) []*engine.Offer {
	type candidate struct {
		offer *engine.Offer
		units float64
		near  order.Milli
	}
	seen := make(map[order.OfferID]heat, len(l.seen))
	var top []candidate
	for _, o := range list {
		if len(list) > scannedMax && o.Kind != order.Flash || len(seen) >= scannedMax {
			continue
		}
		left := o.Peek()
		h, known := l.seen[o.ID]
		if known {
			h.units = h.units*coolEvery + float64(max(0, h.left-left))
		}
		h.left = left
		if h.units < 0.01 {
			h.units = 0
		}
		seen[o.ID] = h
		c := candidate{o, h.units, 2 * soon}
		if o.Kind == order.Flash {
			c.near = min(c.near, max(now-o.Opens, o.Opens-now))
		}
		at, _ := slices.BinarySearchFunc(top, c, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(b.units, a.units), cmp.Compare(min(a.near, soon), min(b.near, soon)), cmp.Compare(b.offer.ID, a.offer.ID))
		})
		if at < hotMax {
			top = slices.Insert(top, at, c)
			top = top[:min(len(top), hotMax)]
		}
	}
	l.seen = seen
	hot := make([]*engine.Offer, len(top))
	for i := range top {
		hot[i] = top[i].offer
	}
	return hot
}

// shown is the offers as JSON shows them. From now on their units left are kept fresh.
func shown(offers []*engine.Offer) []any {
	list := make([]any, len(offers))
	for i, o := range offers {
		left := o.Left()
		list[i] = map[string]any{"id": order.ID(o.ID).String(), "title": o.Title, "sku": o.SKU, "kind": o.Kind.String(),
			"state": o.State(order.MilliOf(time.Now()), left), "total": o.Total, "left": left, "opens_at": o.Opens.Time(),
			"limit": o.Limit}
	}
	return list
}
