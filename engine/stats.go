package engine

import (
	"sync/atomic"

	"sluice/engine/order"
)

// counters are what the engine counts, since its start.
type counters struct {
	in       atomic.Int64
	verdicts [Unknown + 1]atomic.Int64
	codes    [order.SoldOut + 1]atomic.Int64

	batches        atomic.Int64
	batchedOrders  atomic.Int64
	expired        atomic.Int64
	reserveRepeats atomic.Int64
	publishRepeats atomic.Int64
	relayed        atomic.Int64
	rebuilds       atomic.Int64
	drift          atomic.Int64
	looks          atomic.Int64
}

func (c *counters) answered(a *Answer) {
	c.verdicts[a.Verdict].Add(1)
	if a.Verdict == Refused {
		c.codes[a.Code].Add(1)
	}
}

func (c *counters) batchPublished(orders int) {
	c.batches.Add(1)
	c.batchedOrders.Add(int64(orders))
}

// Stats is a snapshot of the counters. In = the sum of Verdicts + what is in flight.
type Stats struct {
	In       int64
	Verdicts map[string]int64 // by Verdict.String
	Refused  map[string]int64 // by order.Code.String; their sum is Verdicts["refused"]
	// Batches published and the orders in them.
	Batches, BatchedOrders int64
	Expired                int64 // tickets that waited past their deadline
	ReserveRepeats         int64
	PublishRepeats         int64
	Relayed                int64 // batches published by a relay
	Rebuilds               int64 // begun by this process
	Drift                  int64 // times that fast stock and the home shard disagreed at rest
	Looks                  int64 // looks before a refusal
}

// Stats reads the counters, each for itself: sums may be off by what happens meanwhile.
func (e *Engine) Stats() Stats {
	c := &e.stats
	s := Stats{Verdicts: map[string]int64{}, Refused: map[string]int64{}, Batches: c.batches.Load(),
		BatchedOrders: c.batchedOrders.Load(), Expired: c.expired.Load(), ReserveRepeats: c.reserveRepeats.Load(),
		PublishRepeats: c.publishRepeats.Load(), Relayed: c.relayed.Load(), Rebuilds: c.rebuilds.Load(),
		Drift: c.drift.Load(), Looks: c.looks.Load()}
	for v := Placed; v <= Unknown; v++ {
		s.Verdicts[v.String()] = c.verdicts[v].Load()
	}
	for _, code := range order.Codes() {
		if code.Refused() {
			s.Refused[code.String()] = c.codes[code].Load()
		}
	}
	s.In = c.in.Load()
	return s
}
