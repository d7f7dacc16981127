package memstock

import (
	"sync"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// partition is the state of one partition, guarded by mu.
type partition struct {
	mu       sync.RWMutex
	number   order.Partition
	identity uint64
	fence    fence
	missing  parts // which parts of the data are not there

	// Of the fence's epoch. While the fence is shut they hold what has been loaded so far; nothing reads them then.
	offers   map[order.OfferID]*offer
	held     map[order.OfferID]holdings
	applied  uint64
	reserves uint64

	// Kept by an intact load.
	keys   keys
	outbox map[order.BatchID]entry

	scratch scratch
}

// fence says who may sell. Epoch 0 is a missing fence.
type fence struct {
	epoch     order.Epoch
	open      bool
	identity  uint64
	keysSince stock.KeysSince
}

// offer is what is on sale: units left, limit and window.
type offer struct {
	id     order.OfferID
	left   int64
	limit  uint32
	opens  order.Milli
	closes order.Milli
	held   holdings // of a limited offer: those of partition.held

	named  uint64 // number of the last reserve that named the offer
	wanted int64  // units wanted by the lines of one request that were looked at so far
}

// holdings are the units that users hold of one limited offer.
type holdings map[order.UserID]int64

// entry is an outbox entry. records is never written to again.
type entry struct {
	epoch   order.Epoch
	records []byte
}

// parts is a set of parts of the data: of the hashes that the same state has in Redis.
type parts uint8

const (
	partLeft parts = 1 << iota
	partOffers
	partBuyers
	partKeys
	partOutbox

	partsOfEpoch = partLeft | partOffers | partBuyers
	partsKept    = partKeys | partOutbox
)

// empty makes the partition what it is in an empty data set.
func (p *partition) empty() {
	p.fence = fence{}
	p.missing = partsOfEpoch | partsKept
	p.beginEpoch()
	p.keys = keys{seed: p.keys.seed}
	p.outbox = nil
}

func (p *partition) beginEpoch() {
	p.offers = make(map[order.OfferID]*offer)
	p.held = make(map[order.OfferID]holdings)
	p.applied, p.reserves = 0, 0
}

// put adds or replaces an offer.
func (p *partition) put(o *offer) {
	if o.limit != 0 {
		o.held = p.holdingsOf(o.id)
	}
	p.offers[o.id] = o
}

func (p *partition) holdingsOf(id order.OfferID) holdings {
	h := p.held[id]
	if h == nil {
		h = make(holdings)
		p.held[id] = h
	}
	return h
}

// view is the fence as callers see it.
func (p *partition) view() stock.Fence {
	return stock.Fence{
		Epoch:     p.fence.epoch,
		Open:      p.fence.open,
		Mine:      p.fence.epoch != 0 && p.fence.identity == p.identity,
		KeysSince: p.fence.keysSince,
	}
}

func (p *partition) notReady(why stock.Why) error {
	return &stock.NotReady{Partition: p.number, Fence: p.view(), Why: why}
}

// open gives NotReady unless the fence is exactly (e, open, this identity) and nothing is missing.
func (p *partition) open(e order.Epoch) error { return p.gate(e, true, partsOfEpoch|partsKept) }

// shut gives NotReady unless the fence is exactly (e, closed, this identity) and nothing of needs is missing.
func (p *partition) shut(e order.Epoch, needs parts) error { return p.gate(e, false, needs) }

func (p *partition) gate(e order.Epoch, open bool, needs parts) error {
	f := &p.fence
	switch {
	case f.epoch == 0:
		return p.notReady(stock.FenceMissing)
	case open && !f.open:
		return p.notReady(stock.FenceShut)
	case !open && f.open:
		return p.notReady(stock.FenceNotShut)
	case f.epoch != e:
		return p.notReady(stock.OtherEpoch)
	case f.identity != p.identity:
		return p.notReady(stock.OtherIdentity)
	case p.missing&needs != 0:
		return p.notReady(stock.SentinelMissing)
	}
	return nil
}
