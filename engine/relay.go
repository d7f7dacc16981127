package engine

import (
	"context"
	"slices"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/persist/store"
)

const relayPage = 64 // outbox entries read at once: 32 MiB at most

// relay publishes what lies in the outbox for longer than RelayAfter: whoever reserved it has died, or the queue was
// away. A batch that is in the queue already is ignored there.
func (p *partition) relay(ctx context.Context, s *session, now time.Time) {
	batches, err := p.e.stock.BatchIDs(ctx, p.number, s.epoch, stock.Open)
	if err != nil {
		p.suspect(s, err)
		return
	}
	old := order.MilliOf(now.Add(-p.e.tuning().RelayAfter))
	batches = slices.DeleteFunc(batches, func(b order.BatchID) bool { return order.ID(b).Time() > old })
	if len(batches) == 0 {
		return
	}
	slices.Sort(batches)
	ctx, cancel := context.WithTimeout(ctx, p.e.opts.Deadline)
	defer cancel()
	for page := range slices.Chunk(batches, relayPage) {
		if err := p.publishOlder(ctx, s, page); err != nil {
			p.e.log.Log(ctx, p.failure(), "relay did not publish", "partition", p.number, "batches", len(batches), "error", err)
			p.suspect(s, err)
			return
		}
		p.e.stats.relayed.Add(int64(len(page)))
	}
	p.e.log.Info("relay published", "partition", p.number, "batches", len(batches))
	p.confirmRest(ctx, s)
}

// heartbeats are the times of the barriers that this engine sent and that persist has not settled yet.
type heartbeats struct {
	sent    []order.Milli
	traffic int64 // at the last one
}

const heartbeatsMax = 10_000 // three hours: beyond MaxQueueAge the partition is stale anyway

// heartbeat sends BARRIER(epoch of the session) with its time if something was published since the last one, and finds
// out how old the queue is: the age of the oldest heartbeat that is not settled. The epoch is that of the open fence,
// never the row's: a rebuild that has begun there has not relayed or waited yet.
func (p *partition) heartbeat(ctx context.Context, s *session, part *store.Part) {
	h := &p.beats
	for len(h.sent) > 0 && h.sent[0] <= part.SettledAt {
		h.sent = h.sent[1:]
	}
	now := order.MilliOf(time.Now())
	age := time.Duration(0)
	if len(h.sent) > 0 {
		age = time.Duration(now-h.sent[0]) * time.Millisecond
	}
	p.queueAge.Store(int64(age))
	p.stale.Store(age > p.e.opts.MaxQueueAge)
	traffic := p.traffic.Load()
	if traffic == h.traffic || len(h.sent) >= heartbeatsMax {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.e.opts.Deadline)
	defer cancel()
	if err := p.publish(ctx, order.AppendBarrier(nil, p.number, s.epoch, now)); err != nil {
		p.e.log.Log(ctx, p.failure(), "heartbeat not sent", "partition", p.number, "error", err)
		return
	}
	h.sent = append(h.sent, now)
	h.traffic = p.traffic.Load()
}
