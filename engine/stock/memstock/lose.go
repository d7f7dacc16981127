package memstock

import "sluice/engine/order"

// Loss names something that Lose can take away. The names of parts are those of the hashes that hold the same state in
// Redis.
type Loss string

// The losses.
const (
	All      Loss = "all"      // every part and the fence
	Fence    Loss = "fence"    // the fence alone
	Identity Loss = "identity" // nothing, but the fence belongs to another data set now
	Left     Loss = "left"     // units left
	Offers   Loss = "offers"   // limits and windows
	Buyers   Loss = "buyers"   // what users hold
	Idem     Loss = "idem"     // idempotency records
	Outbox   Loss = "outbox"
)

var lossParts = map[Loss]parts{
	Left: partLeft, Offers: partOffers, Buyers: partBuyers, Idem: partKeys, Outbox: partOutbox,
}

// Lose is for fault injection in tests: it takes something away from partition n as a failing Redis would, while calls
// run. It is safe for concurrent use. An unknown loss or partition is a bug of the caller.
func (s *Stock) Lose(n order.Partition, what Loss) {
	p := &s.partitions[n]
	p.mu.Lock()
	defer p.mu.Unlock()
	switch what {
	case All:
		p.empty()
	case Fence:
		p.fence = fence{}
	case Identity:
		p.identity = identities.Add(1)
	default:
		lost, ok := lossParts[what]
		if !ok {
			panic("BUG: unknown loss " + string(what))
		}
		p.missing |= lost
	}
}
