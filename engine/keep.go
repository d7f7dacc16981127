package engine

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/persist/store"
)

const (
	keepEvery   = 100 * time.Millisecond // stock log, newer epochs
	lookEvery   = 200 * time.Millisecond // sold-out flags, units left of offers that were asked for
	tendEvery   = time.Second            // relay, heartbeat, age of the queue
	recoverWait = 20 * time.Millisecond  // first pause after a recovery that did not succeed
)

// keep looks after the partition until ctx ends: it recovers it whenever it is not open, and tends it while it is.
func (p *partition) keep(ctx context.Context) {
	beat := time.NewTimer(untilBeat())
	defer beat.Stop()
	pause := recoverWait
	p.news = slog.LevelDebug
	for ctx.Err() == nil {
		if p.session.Load() == nil {
			if err := p.recover(ctx); err != nil {
				p.e.log.Warn("recovery did not succeed", "partition", p.number, "error", err)
			}
			p.news = slog.LevelInfo
			if p.session.Load() == nil {
				sleep(ctx, pause)
				pause = min(2*pause, time.Second)
				continue
			}
			pause = recoverWait
		}
		select {
		case <-ctx.Done():
		case <-p.trouble:
		case now := <-beat.C:
			p.tend(ctx, now)
			beat.Reset(untilBeat())
		}
	}
}

// untilBeat is the time until the next multiple of keepEvery: an engine at rest wakes once for all who wait for it.
func untilBeat() time.Duration { return keepEvery - time.Duration(time.Now().UnixNano())%keepEvery }

// tend does what is due at now for an open partition.
func (p *partition) tend(ctx context.Context, now time.Time) {
	s := p.session.Load()
	part := p.part.Load()
	if s == nil || part == nil {
		return
	}
	switch {
	case part.Epoch > s.epoch: // another engine rebuilds
		p.shut(s)
		return
	case part.Wanted >= s.epoch, now.Sub(s.since.Time()) > p.e.tuning().RebuildEvery:
		raise(&p.distrust, uint64(s.epoch))
		p.shut(s)
		return
	}
	if err := p.apply(ctx, s, part); err != nil {
		p.e.log.Warn("stock log not applied", "partition", p.number, "error", err)
		p.suspect(s, err)
	}
	if due(&p.lastLook, now, lookEvery) {
		p.lookAtLeft(ctx, s, now)
	}
	if due(&p.lastTend, now, tendEvery) {
		p.confirmRest(ctx, s)
		p.relay(ctx, s, now)
		p.heartbeat(ctx, s, part)
	}
	if due(&p.lastDrift, now, p.e.tuning().DriftEvery) {
		p.lookForDrift(ctx, s, part)
	}
}

// due tells whether something that was last done at *last is to be done again, and notes that it is.
func due(last *time.Time, now time.Time, every time.Duration) bool {
	if now.Sub(*last) < every {
		return false
	}
	*last = now
	return true
}

// recover opens the partition under the epoch that fast stock already serves, or rebuilds it. It returns without error
// and without a session if another engine is at it.
func (p *partition) recover(ctx context.Context) error {
	part, now, err := p.readPart(ctx)
	if err != nil {
		return err
	}
	if !p.known {
		if err := p.readCatalogue(ctx, *part); err != nil {
			return err
		}
		p.known = true
	}
	st, err := p.e.stock.State(ctx, p.number)
	if err != nil {
		return fmt.Errorf("read the state of partition %d: %w", p.number, err)
	}
	trusted := uint64(st.Fence.Epoch) > p.distrust.Load()
	if st.Ready && trusted && part.Epoch != 0 && st.Fence.Epoch == part.Epoch && part.Wanted < part.Epoch {
		return p.begin(ctx, &st)
	}
	if !p.e.opts.Exclusive && part.BusyUntil > now {
		p.awaitOther(ctx, part, time.Duration(part.BusyUntil-now)*time.Millisecond)
		return nil
	}
	return p.rebuild(ctx, part)
}

// awaitOther waits for the engine that rebuilds the partition, whose claim lasts for so long yet: until the followed row
// says that it has ended, or nobody has renewed it.
func (p *partition) awaitOther(ctx context.Context, busy *store.Part, lasts time.Duration) {
	for until := time.Now().Add(lasts); time.Now().Before(until) && ctx.Err() == nil; sleep(ctx, recoverWait) {
		part := p.part.Load()
		if part.Epoch != busy.Epoch || part.BusyUntil == 0 {
			return
		}
		until = until.Add(time.Duration(part.BusyUntil-busy.BusyUntil) * time.Millisecond)
		busy = part
	}
}

// begin opens a session on a ready fast stock.
func (p *partition) begin(ctx context.Context, st *stock.State) error {
	s := &session{epoch: st.Fence.Epoch, keysSince: st.Fence.KeysSince, since: order.MilliOf(time.Now())}
	s.applied.Store(st.Applied)
	if err := p.readLeft(ctx, s, p.offers); err != nil {
		return err
	}
	p.sold = true
	p.open(s)
	p.e.log.Log(ctx, p.news, "partition open", "partition", p.number, "epoch", s.epoch, "offers", len(p.offers))
	return nil
}

// readPart reads the partition's row afresh; now is the database's clock.
func (p *partition) readPart(ctx context.Context) (*store.Part, order.Milli, error) {
	parts, now, err := p.e.store.Parts(ctx, p.e.store.Home(p.number))
	if err != nil {
		return nil, 0, fmt.Errorf("read the row of partition %d: %w", p.number, err)
	}
	for i := range parts {
		if parts[i].Partition == p.number {
			p.part.Store(&parts[i])
			return &parts[i], now, nil
		}
	}
	return nil, 0, fmt.Errorf("partition %d has no row on its home shard", p.number)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
