package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

// Offer is an offer of the catalogue. The embedded part never changes: an edit makes a new Offer that shares the counts.
type Offer struct {
	order.Offer
	Partition order.Partition
	counts    *counts
}

// counts is what this process last heard from fast stock about an offer.
type counts struct {
	left    atomic.Int64
	soldOut atomic.Bool
	asked   atomic.Int64 // Unix seconds at which somebody last asked for Left
}

// NewOffer is an offer of which nothing was heard yet: all that its total leaves is left.
func NewOffer(o order.Offer, p order.Partition) *Offer {
	offer := &Offer{Offer: o, Partition: p, counts: &counts{}}
	offer.counts.left.Store(o.Total - o.Sold)
	return offer
}

// Left is the units left as this process last heard: at most a second old for an offer that was asked for during the
// last minute.
func (o *Offer) Left() int64 {
	if now := time.Now().Unix(); o.counts.asked.Load() != now {
		o.counts.asked.Store(now)
	}
	return max(0, o.counts.left.Load())
}

// Peek is Left for somebody who looks at every offer: it keeps no number fresh. An offer that nobody asks for has the
// count of its last batch.
func (o *Offer) Peek() int64 { return max(0, o.counts.left.Load()) }

// SoldOut tells whether fast stock last said that no unit is left. It clears again within a second of units coming back.
func (o *Offer) SoldOut() bool { return o.counts.soldOut.Load() }

func (c *counts) set(left int64) {
	c.left.Store(left)
	if out := left <= 0; c.soldOut.Load() != out {
		c.soldOut.Store(out)
	}
}

// catalogue holds every offer of the partitions that this process serves. Reads take no lock.
type catalogue struct {
	offers  sync.Map // order.OfferID -> *Offer
	size    atomic.Int64
	changes atomic.Int64 // grows after every change

	sorting sync.Mutex // held by whoever makes sorted anew
	sorted  atomic.Pointer[sortedOffers]
}

// sortedOffers is the catalogue in the order of the ids, as it was after so many changes.
type sortedOffers struct {
	changes int64
	list    []*Offer
}

func (c *catalogue) get(id order.OfferID) *Offer {
	if v, ok := c.offers.Load(id); ok {
		return v.(*Offer)
	}
	return nil
}

// put adds or replaces offers of a partition and returns their entries. Only that partition's follower calls it.
func (c *catalogue) put(p order.Partition, offers []order.Offer) []*Offer {
	entries := make([]*Offer, len(offers))
	for i := range offers {
		o := NewOffer(offers[i], p)
		if old := c.get(o.ID); old != nil {
			o.counts = old.counts
		} else {
			c.size.Add(1)
		}
		c.offers.Store(o.ID, o)
		entries[i] = o
	}
	c.changes.Add(1)
	return entries
}

// Offer is the offer of that id, or nil. It takes no lock.
func (e *Engine) Offer(id order.OfferID) *Offer { return e.catalogue.get(id) }

// Offers lists the catalogue in the order of the ids. It is sorted once per change, and the same slice is given to all:
// it must not be changed.
func (e *Engine) Offers() []*Offer { return e.catalogue.list() }

func (c *catalogue) list() []*Offer {
	if s := c.sorted.Load(); s != nil && s.changes == c.changes.Load() {
		return s.list
	}
	c.sorting.Lock()
	defer c.sorting.Unlock()
	changes := c.changes.Load() // before the look: what comes later makes another list
	if s := c.sorted.Load(); s != nil && s.changes == changes {
		return s.list
	}
	list := make([]*Offer, 0, c.size.Load())
	c.offers.Range(func(_, v any) bool {
		list = append(list, v.(*Offer))
		return true
	})
	slices.SortFunc(list, func(a, b *Offer) int { return cmp.Compare(a.ID, b.ID) })
	c.sorted.Store(&sortedOffers{changes, list})
	return list
}

const catalogPage = 1000

// readCatalogue reads all offers of the partition. part is the row as it was read before: what is committed later
// comes through the stock log.
func (p *partition) readCatalogue(ctx context.Context, part store.Part) error {
	var after order.OfferID
	p.offers = p.offers[:0] // a read that failed half way is begun anew
	for {
		offers, err := p.e.store.Offers(ctx, p.number, after, catalogPage)
		if err != nil {
			return fmt.Errorf("read the offers of partition %d: %w", p.number, err)
		}
		p.offers = append(p.offers, p.e.catalogue.put(p.number, offers)...)
		if len(offers) < catalogPage {
			p.seen = part.Logged
			return nil
		}
		after = offers[len(offers)-1].ID
	}
}

// noteOffers reads the offers that rows of the stock log changed into the catalogue.
func (p *partition) noteOffers(ctx context.Context, rows []order.LogRow) error {
	var ids []order.OfferID
	for i := range rows {
		for _, item := range rows[i].Items {
			if item.Op != order.OpGive {
				ids = append(ids, item.Offer)
			}
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	for chunk := range slices.Chunk(ids, catalogPage) {
		offers, err := p.e.store.OffersByID(ctx, p.number, chunk)
		if err != nil {
			return fmt.Errorf("read %d offers of partition %d: %w", len(chunk), p.number, err)
		}
		p.replaceOffers(p.e.catalogue.put(p.number, offers))
	}
	return nil
}

// replaceOffers keeps p.offers sorted and without doubles.
func (p *partition) replaceOffers(entries []*Offer) {
	for _, o := range entries {
		i, found := slices.BinarySearchFunc(p.offers, o.ID, func(x *Offer, id order.OfferID) int {
			switch {
			case x.ID < id:
				return -1
			case x.ID > id:
				return 1
			}
			return 0
		})
		if found {
			p.offers[i] = o
		} else {
			p.offers = slices.Insert(p.offers, i, o)
		}
	}
}
