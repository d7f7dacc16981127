package persist

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/persist/store"
)

// Persist stores the orders of its kinds. All methods are safe for concurrent use.
type Persist struct {
	opts  Options
	tuned atomic.Pointer[Tuning]
	queue queue.Queue
	store *store.Store
	log   *slog.Logger
	stats counters

	heldMax int // heldBytesMax; a test may set less

	down   []atomic.Bool // by user shard: parked at once until a probe succeeds
	parked []atomic.Bool // by home shard: something may be parked there

	settledMu sync.Mutex
	settled   map[order.Partition]order.Epoch // highest barrier of which everything in front is done

	pools   []*ants.Pool // of writers, by kind; made by Start
	stop    context.CancelFunc
	running sync.WaitGroup
}

// New returns a Persist that does nothing until Start. It does not own queue and store.
func New(o Options, q queue.Queue, s *store.Store, log *slog.Logger) *Persist {
	p := &Persist{opts: o, queue: q, store: s, log: log, heldMax: heldBytesMax, down: make([]atomic.Bool, s.Shards()),
		parked: make([]atomic.Bool, s.Shards()), settled: make(map[order.Partition]order.Epoch)}
	p.tuned.Store(&o.Tuning)
	for home := range p.parked {
		p.parked[home].Store(true) // until the sweep has looked
	}
	return p
}

func (p *Persist) tuning() *Tuning { return p.tuned.Load() }

// Tune replaces the tuning, of a Persist that has started. It takes effect with the next flush; fewer
// writers with the one after it.
func (p *Persist) Tune(t Tuning) error {
	if err := t.Validate(); err != nil {
		return err
	}
	p.tuned.Store(&t)
	for _, pool := range p.pools {
		pool.Tune(t.Writers)
	}
	return nil
}

// Start begins to consume.
func (p *Persist) Start(context.Context) error {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	kinds := p.opts.Kinds
	if len(kinds) == 0 {
		kinds = order.Kinds[:]
	}
	for _, kind := range kinds {
		writers := p.tuning().Writers
		pool, err := ants.NewPool(writers)
		if err != nil {
			stop()
			return fmt.Errorf("pool of %d writers: %w", writers, err)
		}
		p.pools = append(p.pools, pool)
		c := &consumer{Persist: p, kind: kind, writers: pool, stopped: make(map[order.Partition]bool)}
		p.running.Go(func() {
			defer pool.Release()
			c.run(ctx)
		})
	}
	for shard := range p.down {
		p.running.Go(func() { p.sweep(ctx, shard) })
	}
	return nil
}

// Close finishes the flushes under way and stops. What was not flushed stays in the queue. It returns ctx.Err() if ctx
// ends first.
func (p *Persist) Close(ctx context.Context) error {
	p.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.running.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
