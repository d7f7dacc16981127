package persist

import (
	"context"

	"sluice/persist/store"
)

// ReplayParked records a parked order now: see store.ReplayParked.
func (p *Persist) ReplayParked(ctx context.Context, ref store.ParkedRef) (store.Resolution, error) {
	out, err := p.store.ReplayParked(ctx, ref, store.RecordOptions{Unpaid: p.tuning().Unpaid})
	p.stats.stored.Add(int64(out.Recorded.Stored))
	p.stats.duplicates.Add(int64(out.Recorded.Duplicates))
	p.stats.alarms.Add(int64(out.Recorded.Alarms))
	if err != nil {
		p.sweepAll()
		return out, err
	}
	p.log.Info("parked order replayed", "order", ref.Order.String(), "verdict", out.Verdict, "error", out.Error)
	return out, nil
}

// RejectParked rejects a poison order: see store.RejectParked.
func (p *Persist) RejectParked(ctx context.Context, ref store.ParkedRef) (store.Resolution, error) {
	out, err := p.store.RejectParked(ctx, ref)
	if out.Rejected {
		p.stats.refused.Add(1)
	}
	if err != nil {
		p.sweepAll()
		return out, err
	}
	p.log.Info("parked order rejected by an operator", "order", ref.Order.String(), "verdict", out.Verdict, "error", out.Error)
	return out, nil
}

// sweepAll makes the sweep look at every home shard: a call that failed may have left a parked order that is stored.
func (p *Persist) sweepAll() {
	for home := range p.parked {
		p.parked[home].Store(true)
	}
}
