package engine

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/stock"
	"sluice/internal/leader"
	"sluice/persist/store"
)

// Engine sells the partitions of its kinds. All methods are safe for concurrent use after Start.
type Engine struct {
	opts  Options
	tuned atomic.Pointer[Tuning]
	stock stock.Stock
	queue queue.Queue
	store *store.Store
	ids   *order.IDs
	log   *slog.Logger

	catalogue  catalogue
	partitions []*partition // by number; nil for those of other kinds
	looks      []chan look  // by user shard
	looksMu    sync.RWMutex // held by senders; whoever closes looks holds it alone
	looksOver  bool
	// ordersOfKeys is the store's; a test may put a shard that hangs in its place.
	ordersOfKeys func(context.Context, int, []store.KeyRef) ([]*order.Order, error)
	full         atomic.Bool // there is no room for more orders
	stats        counters

	keepers sync.WaitGroup // keep, follow, watch
	sellers sync.WaitGroup
	lookers sync.WaitGroup
	stop    context.CancelFunc
	closing sync.Once
	closed  chan struct{}
}

// New returns an engine that does nothing until Start. It does not own what it is given: the caller closes stock, queue
// and store after Close. Options are validated by who loads them.
func New(o Options, st stock.Stock, q queue.Queue, s *store.Store, ids *order.IDs, log *slog.Logger) *Engine {
	if o.Leader == nil {
		o.Leader = leader.Alone{}
	}
	e := &Engine{opts: o, stock: st, queue: q, store: s, ids: ids, log: log, looks: make([]chan look, s.Shards()),
		ordersOfKeys: s.OrdersOfKeys, closed: make(chan struct{})}
	for shard := range e.looks {
		e.looks[shard] = make(chan look, lookQueue)
	}
	e.tuned.Store(&o.Tuning)
	e.partitions = make([]*partition, o.Partitions.Count())
	for _, kind := range e.kinds() {
		for _, p := range o.Partitions.Each(kind) {
			e.partitions[p] = newPartition(e, p)
		}
	}
	return e
}

func (e *Engine) tuning() *Tuning { return e.tuned.Load() }

// Tune replaces the tuning, of an engine that has started. It takes effect with the next request, batch or look.
func (e *Engine) Tune(t Tuning) error {
	if err := t.Validate(); err != nil {
		return err
	}
	e.tuned.Store(&t)
	e.each((*partition).fly)
	return nil
}

// sells tells whether the kind is sold now.
func (e *Engine) sells(k order.Kind) bool { return slices.Contains(e.tuning().Selling, k) }

func (e *Engine) kinds() []order.Kind {
	if len(e.opts.Kinds) > 0 {
		return e.opts.Kinds
	}
	return order.Kinds[:]
}

func (e *Engine) partitionAt(p order.Partition) *partition {
	if int(p) >= len(e.partitions) {
		return nil
	}
	return e.partitions[p]
}

func (e *Engine) each(f func(*partition)) {
	for _, p := range e.partitions {
		if p != nil {
			f(p)
		}
	}
}

// Start begins to recover every partition and to sell those that are open. It does not wait for them.
func (e *Engine) Start(context.Context) error {
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	homes := map[int]bool{}
	e.each(func(p *partition) {
		homes[e.store.Home(p.number)] = true
		e.keepers.Go(func() { p.keep(ctx) })
		p.fly()
	})
	for home := range homes {
		e.keepers.Go(func() { e.follow(ctx, home) })
	}
	e.keepers.Go(func() { e.watchRoom(ctx) })
	for shard := range e.looks {
		e.lookers.Go(func() { e.lookKeys(shard) })
	}
	return nil
}

// Close refuses new tickets, answers those that wait, and stops. It returns ctx.Err() if ctx ends first; then the rest
// goes on in the background. Closing again waits for the same end.
func (e *Engine) Close(ctx context.Context) error {
	e.closing.Do(func() { go e.shutDown() })
	select {
	case <-e.closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) shutDown() {
	defer close(e.closed)
	e.each((*partition).land)
	e.sellers.Wait()
	e.stop()
	e.keepers.Wait()
	e.looksMu.Lock()
	e.looksOver = true
	for _, waiting := range e.looks {
		close(waiting)
	}
	e.looksMu.Unlock()
	e.lookers.Wait()
	e.each(func(p *partition) {
		if s := p.session.Load(); s != nil {
			p.confirmRest(context.Background(), s)
		}
	})
}

// watchRoom asks Options.Room once a second.
func (e *Engine) watchRoom(ctx context.Context) {
	if e.opts.Room == nil {
		return
	}
	for ; ctx.Err() == nil; sleep(ctx, time.Second) {
		err := e.opts.Room()
		if was := e.full.Swap(err != nil); was != (err != nil) {
			e.log.Warn("room for orders changed", "full", err != nil, "error", err)
		}
	}
}

// PartitionState is what a person wants to know of a partition.
type PartitionState struct {
	Partition order.Partition
	Kind      order.Kind
	State     string // "open" or "recovering"
	Epoch     order.Epoch
	Applied   uint64 // of the stock log, by fast stock
	Logged    uint64 // in the stock log
	Waiting   int    // tickets in the intake
	QueueAge  time.Duration
}

// Ready lists the partitions of this process.
func (e *Engine) Ready() []PartitionState {
	var states []PartitionState
	e.each(func(p *partition) {
		st := PartitionState{Partition: p.number, Kind: e.opts.Partitions.Kind(p.number), State: "recovering"}
		if s := p.session.Load(); s != nil {
			st.State, st.Epoch, st.Applied = "open", s.epoch, s.applied.Load()
		}
		if part := p.part.Load(); part != nil {
			st.Logged = part.Logged
		}
		st.Waiting, _ = p.intake.len()
		st.QueueAge = time.Duration(p.queueAge.Load())
		states = append(states, st)
	})
	return states
}

// AwaitReady returns when every partition is open, or with ctx.Err().
func (e *Engine) AwaitReady(ctx context.Context) error {
	for ctx.Err() == nil {
		if !slices.ContainsFunc(e.Ready(), func(s PartitionState) bool { return s.State != "open" }) {
			return nil
		}
		sleep(ctx, 2*time.Millisecond)
	}
	return ctx.Err()
}

// RequestRebuild asks whoever keeps partition p for a new epoch.
func (e *Engine) RequestRebuild(ctx context.Context, p order.Partition) error {
	part := e.partitionAt(p)
	if part == nil {
		return fmt.Errorf("partition %d is not one of this process", p)
	}
	row, _, err := part.readPart(ctx)
	if err != nil {
		return err
	}
	return e.store.WantRebuild(ctx, p, row.Epoch)
}

// Snapshot reads all of a partition's fast stock, with its epoch.
func (e *Engine) Snapshot(ctx context.Context, p order.Partition) (*stock.Snapshot, order.Epoch, error) {
	part := e.partitionAt(p)
	if part == nil {
		return nil, 0, fmt.Errorf("partition %d is not one of this process", p)
	}
	s := part.session.Load()
	if s == nil {
		return nil, 0, &stock.NotReady{Partition: p, Why: stock.FenceShut}
	}
	snap, err := e.stock.Snapshot(ctx, p, s.epoch)
	return snap, s.epoch, err
}
