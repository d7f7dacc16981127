package persist

import (
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/internal/histogram"
	"sluice/persist/store"
)

// counters are what is counted since the start.
type counters struct {
	received, buried, stopped, failures atomic.Int64
	orders, stored                      atomic.Int64
	cut, guarded, refused               atomic.Int64
	duplicates, alarms, poison          atomic.Int64
	parked, unparked                    atomic.Int64
	lag, lastCommit                     atomic.Int64
	flushed, took                       histogram.Histogram // flushes by their orders, and by their time
}

// flush counts a flush whose rows are committed.
func (c *counters) flush(rows []store.Row, took time.Duration) {
	c.flushed.Add(int64(len(rows)), 1)
	c.took.AddDuration(took, 1)
	if len(rows) == 0 {
		return
	}
	var accepted, cut int64
	oldest := rows[0].Record.ID
	for i := range rows {
		oldest = min(oldest, rows[i].Record.ID)
		switch {
		case rows[i].Status != order.Rejected:
			accepted++
		case rows[i].Reason == order.ReasonCut:
			cut++
		}
	}
	c.orders.Add(int64(len(rows)))
	c.cut.Add(cut)
	c.guarded.Add(int64(len(rows)) - accepted - cut)
	now := time.Now().UnixMilli()
	c.lag.Store(now - int64(oldest.Time()))
	c.lastCommit.Store(now)
}

// Stats is a snapshot of the counters.
type Stats struct {
	Received int64 // messages
	Flushes  int64
	// Flushes by the orders in them, and by how long they took from the claim to the commit of the records. One of none had
	// barriers only.
	FlushOrders histogram.Sizes
	Flush       histogram.Durations
	Orders      int64 // rows committed or parked, also those that were there before because their message came again
	Stored      int64 // live orders that were not stored before
	// Rejected after acceptance: by the cut (nobody was answered 202 for most of them), by the guard (an alarm), and
	// poison by an operator.
	RejectedCut, RejectedGuard, RejectedOperator int64
	Duplicates                                   int64         // second orders of one key
	Alarms                                       int64         // order ids that came in two batches
	Poison, Parked, Unparked                     int64         // orders
	Buried                                       int64         // damaged messages
	Stopped                                      int64         // partitions stopped
	Failures                                     int64         // flushes that were tried again
	Lag                                          time.Duration // age of the oldest order of the last flush when it was committed
	LastCommit                                   time.Time     // zero if none
}

// Stats reads the counters, each for itself.
func (p *Persist) Stats() Stats {
	c := &p.stats
	s := Stats{Received: c.received.Load(), FlushOrders: c.flushed.Sizes(), Flush: c.took.Durations(), Orders: c.orders.Load(), Stored: c.stored.Load(),
		RejectedCut: c.cut.Load(), RejectedGuard: c.guarded.Load(),
		RejectedOperator: c.refused.Load(), Duplicates: c.duplicates.Load(), Alarms: c.alarms.Load(),
		Poison: c.poison.Load(), Parked: c.parked.Load(), Unparked: c.unparked.Load(), Buried: c.buried.Load(),
		Stopped: c.stopped.Load(), Failures: c.failures.Load(), Lag: time.Duration(c.lag.Load()) * time.Millisecond,
		LastCommit: order.Milli(c.lastCommit.Load()).Time()}
	s.Flushes = s.FlushOrders.Count()
	return s
}
