package engine

import (
	"sync/atomic"

	"sluice/engine/order"
	"sluice/internal/histogram"
)

// counters are what the engine counts, since its start.
type counters struct {
	in       atomic.Int64
	verdicts [Unknown + 1]atomic.Int64
	codes    [order.SoldOut + 1]atomic.Int64

	batched        histogram.Histogram // orders of a batch
	reserve        histogram.Histogram // how long a batch took
	publish        histogram.Histogram
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

// Stats is a snapshot of the counters. In = the sum of Verdicts + what is in flight.
type Stats struct {
	In       int64
	Verdicts map[string]int64 // by Verdict.String
	Refused  map[string]int64 // by order.Code.String; their sum is Verdicts["refused"]
	// Batches published and the orders in them; BatchOrders are the batches by their orders.
	Batches, BatchedOrders int64
	BatchOrders            histogram.Sizes
	// How long batches took to reserve, repeats after unknown outcomes included, and to publish.
	Reserve, Publish histogram.Durations
	Expired          int64 // tickets that waited past their deadline
	ReserveRepeats   int64
	PublishRepeats   int64
	Relayed          int64 // batches published by a relay
	Rebuilds         int64 // begun by this process
	Drift            int64 // times that fast stock and the home shard disagreed at rest
	Looks            int64 // looks before a refusal
}

// Stats reads the counters, each for itself: sums may be off by what happens meanwhile.
func (e *Engine) Stats() Stats {
	c := &e.stats
	s := Stats{Verdicts: map[string]int64{}, Refused: map[string]int64{}, BatchOrders: c.batched.Sizes(),
		Reserve: c.reserve.Durations(), Publish: c.publish.Durations(), Expired: c.expired.Load(), ReserveRepeats: c.reserveRepeats.Load(),
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
	s.In, s.Batches, s.BatchedOrders = c.in.Load(), s.BatchOrders.Count(), s.BatchOrders.Sum
	return s
}
