package engine

import (
	"context"
	"errors"
	"fmt"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/persist/store"
)

// driftLook is what the last look for drift saw.
type driftLook struct {
	epoch    order.Epoch
	reserves uint64
	applied  uint64
	checked  bool // this state was found to agree
}

// lookForDrift compares fast stock with the home shard at rest: no reserve and no row of the log since the last look,
// outbox and queue empty. A difference is counted, told, and healed by a rebuild.
func (p *partition) lookForDrift(ctx context.Context, s *session, part *store.Part) {
	if !p.e.opts.Leader.Leads(ctx, fmt.Sprintf("drift-%d", p.number), 3*p.e.tuning().DriftEvery) {
		p.drift = driftLook{} // another engine compares: once for all of them
		return
	}
	st, err := p.e.stock.State(ctx, p.number)
	if err != nil || !st.Ready || st.Fence.Epoch != s.epoch {
		return // the next call of the session finds out
	}
	look := driftLook{epoch: s.epoch, reserves: st.Reserves, applied: st.Applied}
	last := p.drift
	look.checked = last.checked && look.epoch == last.epoch && look.reserves == last.reserves && look.applied == last.applied
	rested := last == look || last == driftLook{look.epoch, look.reserves, look.applied, true}
	p.drift = look
	if look.checked || !rested || st.Batches > 0 || part.Logged != st.Applied {
		return
	}
	if backlog, err := p.e.queue.Backlog(ctx, p.number); err != nil || backlog.Messages > 0 {
		return
	}
	differs, err := p.differs(ctx, s, look)
	switch {
	case err != nil:
		p.e.log.Warn("look for drift failed", "partition", p.number, "error", err)
	case differs > 0:
		p.e.stats.drift.Add(1)
		p.e.log.Error("fast stock and the home shard disagree at rest: rebuilding", "partition", p.number,
			"epoch", s.epoch, "differences", differs)
		raise(&p.distrust, uint64(s.epoch))
		p.shut(s)
	default:
		p.drift.checked = true
	}
}

// differs counts what is not the same in fast stock and on the home shard; 0 also if something moved meanwhile.
func (p *partition) differs(ctx context.Context, s *session, look driftLook) (int, error) {
	count, err := p.e.store.Count(ctx, p.number, s.epoch)
	if errors.Is(err, store.ErrNotMine) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	snap, err := p.e.stock.Snapshot(ctx, p.number, s.epoch)
	if err != nil {
		return 0, err
	}
	if snap.Reserves != look.reserves || snap.Applied != look.applied || count.Logged != look.applied || snap.Batches > 0 {
		return 0, nil
	}
	return differences(count, snap), nil
}

func differences(count *store.Count, snap *stock.Snapshot) int {
	type holding struct {
		offer order.OfferID
		user  order.UserID
	}
	units := make(map[holding]int64, len(count.Offers)+len(count.Buyers))
	for _, o := range count.Offers {
		units[holding{offer: o.Offer}] += o.Left
	}
	for _, b := range count.Buyers {
		units[holding{b.Offer, b.User}] += b.Units
	}
	for _, l := range snap.Left {
		units[holding{offer: l.Offer}] -= l.Units
	}
	for _, b := range snap.Buyers {
		units[holding{b.Offer, b.User}] -= b.Units
	}
	n := 0
	for _, u := range units {
		if u != 0 {
			n++
		}
	}
	return n
}
