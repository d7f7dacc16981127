package persist

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

const (
	sweepEvery = time.Second
	sweepPage  = 500 // parked orders recorded at once
	otherEvery = 10  // sweeps between two looks for what other processes have parked
)

// sweep records the orders that are parked on a shard and finds out whether it is up again, until ctx ends. Each shard
// has a sweep of its own: one that hangs holds up no other.
func (p *Persist) sweep(ctx context.Context, shard int) {
	for n := 1; ctx.Err() == nil; n++ {
		p.sweepOnce(ctx, shard, n%otherEvery == 0)
		sleep(ctx, sweepEvery)
	}
}

// sweepOnce sweeps a shard that may have something parked, and with others asks it: what a process has parked that is
// gone by now is another one's to record.
func (p *Persist) sweepOnce(ctx context.Context, shard int, others bool) {
	if p.down[shard].Load() {
		p.probe(ctx, shard)
	}
	if others {
		p.lookForParked(ctx, shard)
	}
	if !p.down[shard].Load() && p.parked[shard].Load() {
		if err := p.sweepHome(ctx, shard); err != nil && ctx.Err() == nil {
			p.log.Warn("parked orders stay parked", "shard", shard, "error", err)
		}
	}
}

// lookForParked asks a home shard whether anything is parked there, by whatever process.
func (p *Persist) lookForParked(ctx context.Context, home int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if epochs, err := p.store.ParkedEpochs(ctx, home); err == nil && len(epochs) > 0 {
		p.parked[home].Store(true)
	}
}

// call bounds one call of the store.
func (p *Persist) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, p.tuning().RecordTimeout)
}

// probe takes a shard for up again if it answers.
func (p *Persist) probe(ctx context.Context, shard int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := p.store.Now(ctx, shard); err == nil {
		p.down[shard].Store(false)
		p.log.Info("user shard answers again", "shard", shard)
	}
}

// sweepHome records what is parked on a home shard. If nothing is left but poison, the home shard needs no sweep until
// something is parked again, and the epochs whose last orders were parked are settled.
func (p *Persist) sweepHome(ctx context.Context, home int) error {
	p.parked[home].Store(false)
	left := false
	for shard := range p.down {
		if err := p.unparkStored(ctx, home, shard); err != nil {
			left = true // its shard is down, or the next call says the same
		}
		for more := true; more; {
			var stays bool
			var err error
			if more, stays, err = p.sweepShard(ctx, home, shard); err != nil {
				p.parked[home].Store(true)
				return err
			}
			left = left || stays
		}
	}
	if left || p.parked[home].Load() {
		p.parked[home].Store(true)
		return nil
	}
	return p.settleSwept(home)
}

// sweepShard records one page of what is parked for a user shard. more says that there may be another one, stays that some
// orders are parked as before: the shard is down, or a newer program has parked what only such a one reads.
func (p *Persist) sweepShard(ctx context.Context, home, shard int) (more, stays bool, err error) {
	page, err := p.readParked(ctx, home, shard)
	if err != nil || len(page) == 0 {
		return false, false, err
	}
	if p.down[shard].Load() {
		return false, true, nil
	}
	rows, parked, err := readable(page)
	if err != nil || len(rows) == 0 {
		return false, true, err
	}
	poison, err := p.recordAt(shard, rows)
	if err != nil {
		p.down[shard].Store(true)
		return false, true, fmt.Errorf("record %d parked orders on shard %d: %w", len(rows), shard, err)
	}
	if err := p.parkPoison(home, shard, rows, poison); err != nil {
		return false, true, err
	}
	unpark, cancel := p.call(ctx)
	defer cancel()
	if err := p.store.Unpark(unpark, home, parked); err != nil { // poison has its error by now and stays
		return false, true, err
	}
	p.stats.unparked.Add(int64(len(parked) - len(poison)))
	return len(page) >= sweepPage, len(rows) < len(page), nil // a page ends with the whole of its last order
}

// readable is the orders that this program can read.
func readable(parked []store.ParkedOrder) (rows []store.Row, kept []store.ParkedOrder, err error) {
	for i := range parked {
		switch row, err := parked[i].Row(); {
		case errors.Is(err, order.ErrVersion):
		case err != nil:
			return nil, nil, err
		default:
			rows, kept = append(rows, row), append(kept, parked[i])
		}
	}
	return rows, kept, nil
}

func (p *Persist) readParked(ctx context.Context, home, shard int) ([]store.ParkedOrder, error) {
	ctx, cancel := p.call(ctx)
	defer cancel()
	return p.store.Parked(ctx, home, shard, sweepPage)
}

// errDown says that nothing was asked of a shard that is taken for down.
var errDown = errors.New("the shard is down")

func (p *Persist) unparkStored(ctx context.Context, home, shard int) error {
	if p.down[shard].Load() {
		return errDown
	}
	ctx, cancel := p.call(ctx)
	defer cancel()
	return p.store.UnparkStored(ctx, home, shard)
}

// settleSwept settles again the partitions of a home shard, now that nothing of them is parked.
func (p *Persist) settleSwept(home int) error {
	p.settledMu.Lock()
	var settled []store.Settled
	for partition, e := range p.settled {
		if p.store.Home(partition) == home {
			settled = append(settled, store.Settled{Partition: partition, Recorded: e})
		}
	}
	p.settledMu.Unlock()
	if len(settled) == 0 {
		return nil
	}
	return p.settleAt(home, settled)
}
