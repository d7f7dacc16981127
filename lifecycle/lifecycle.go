package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/leader"
	"sluice/lifecycle/feed"
	"sluice/persist/store"
)

// Options are fixed for the life of a Lifecycle.
type Options struct {
	// Leader lets one process look for the unpaid orders of a shard, and relay its events, of several that would. nil:
	// there is no other.
	Leader leader.Leader
	// Publisher carries the feed of events to its readers. nil: they read it from the store.
	Publisher feed.Publisher
	Tuning    Tuning
}

// Tuning may change while it runs. Zero values mean the defaults.
type Tuning struct {
	ExpireEvery   time.Duration // between two looks for unpaid orders: 1 s
	GiveBackEvery time.Duration // between two looks for give-backs that nobody announced: 200 ms
	EventsEvery   time.Duration // between two looks for events that are not in the feed yet: 500 ms
	CallTimeout   time.Duration // for one call of the store, or of the publisher: 5 s
}

// Validate reports every option out of its bounds, joined; nil if there is none.
func (o *Options) Validate() error { return o.Tuning.Validate() }

// Validate reports every value out of its bounds, joined; nil if there is none.
func (t *Tuning) Validate() error {
	var errs []error
	check := func(d time.Duration, name string) {
		if d < 0 || d > time.Minute {
			errs = append(errs, fmt.Errorf("lifecycle: %s must be 0 (the default) to 1m", name))
		}
	}
	check(t.ExpireEvery, "expire_every")
	check(t.GiveBackEvery, "give_back_every")
	check(t.EventsEvery, "events_every")
	check(t.CallTimeout, "call_timeout")
	return errors.Join(errs...)
}

// batchMax bounds the orders of one transaction; retryMax the pause after a failure.
const (
	batchMax = 1000
	retryMax = 5 * time.Second
)

// Lifecycle is the life of stored orders. It is safe for concurrent use.
type Lifecycle struct {
	tuned     atomic.Pointer[Tuning] // without zero values
	leader    leader.Leader
	publisher feed.Publisher // nil: none
	store     *store.Store
	log       *slog.Logger
	kicks     []chan struct{} // per user shard: something is due, or the tuning has changed
	looks     []chan struct{} // per user shard: the tuning has changed, look for unpaid orders
	relays    []chan struct{} // per user shard: the same, look for events

	stop    context.CancelFunc
	running sync.WaitGroup
	count   counters
}

type counters struct {
	cancelled, alreadyCancelled, notCancellable, notFound atomic.Int64
	expired, givenBack, numbered, published               atomic.Int64
	expireFailures, giveBackFailures, relayFailures       atomic.Int64
}

// Stats are counts since New.
type Stats struct {
	Cancelled        int64 `json:"cancelled"` // orders cancelled by their users
	AlreadyCancelled int64 `json:"already_cancelled"`
	NotCancellable   int64 `json:"not_cancellable"`
	NotFound         int64 `json:"not_found"`
	Expired          int64 `json:"expired"`
	GivenBack        int64 `json:"given_back"`         // claims whose units came back
	EventsNumbered   int64 `json:"events_numbered"`    // events that got their number in the feed
	EventsPublished  int64 `json:"events_published"`   // events that a publisher has made durable, repeats counted again
	ExpireFailures   int64 `json:"expire_failures"`    // looks for unpaid orders that failed
	GiveBackFailures int64 `json:"give_back_failures"` // give-backs put off, and looks for them that failed
	RelayFailures    int64 `json:"relay_failures"`     // of the relay of events
}

// New returns a Lifecycle whose goroutines do nothing until Start. It does not own the store.
func New(o Options, s *store.Store, log *slog.Logger) *Lifecycle {
	if o.Leader == nil {
		o.Leader = leader.Alone{}
	}
	l := &Lifecycle{leader: o.Leader, publisher: o.Publisher, store: s, log: log}
	l.tuned.Store(o.Tuning.filled())
	for range s.Shards() {
		l.kicks, l.looks, l.relays = append(l.kicks, make(chan struct{}, 1)), append(l.looks, make(chan struct{}, 1)), append(l.relays, make(chan struct{}, 1))
	}
	return l
}

// filled is t with the defaults in the place of zero values.
func (t Tuning) filled() *Tuning {
	set := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	set(&t.ExpireEvery, time.Second)
	set(&t.GiveBackEvery, 200*time.Millisecond)
	set(&t.EventsEvery, 500*time.Millisecond)
	set(&t.CallTimeout, 5*time.Second)
	return &t
}

func (l *Lifecycle) tuning() *Tuning { return l.tuned.Load() }

// Tune replaces the tuning. It takes effect with the next call of the store, and every loop looks once.
func (l *Lifecycle) Tune(t Tuning) error {
	if err := t.Validate(); err != nil {
		return err
	}
	l.tuned.Store(t.filled())
	for shard := range l.kicks {
		tell(l.kicks[shard])
		tell(l.looks[shard])
		tell(l.relays[shard])
	}
	return nil
}

// Start starts the goroutines. They outlive ctx: Close ends them.
func (l *Lifecycle) Start(ctx context.Context) error {
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	for shard := range l.kicks {
		expiry := loop{name: "expire unpaid orders", shard: shard, kick: l.looks[shard], failures: &l.count.expireFailures,
			every: func() time.Duration { return l.tuning().ExpireEvery }, step: l.expire}
		mover := loop{name: "give units back", shard: shard, kick: l.kicks[shard], failures: &l.count.giveBackFailures,
			every: func() time.Duration { return l.tuning().GiveBackEvery }, step: l.giveBack}
		l.running.Go(func() {
			l.run(ctx, expiry)
			l.leader.Leave(context.WithoutCancel(ctx), expireJob(shard))
		})
		l.running.Go(func() { l.run(ctx, mover) })
		relay := loop{name: "relay events", shard: shard, kick: l.relays[shard], failures: &l.count.relayFailures,
			every: func() time.Duration { return l.tuning().EventsEvery }, step: l.relay}
		l.running.Go(func() {
			l.run(ctx, relay)
			l.leader.Leave(context.WithoutCancel(ctx), relayJob(shard))
		})
	}
	return nil
}

// Close stops the goroutines and waits for them, or for ctx. What is due stays due.
func (l *Lifecycle) Close(ctx context.Context) error {
	if l.stop == nil {
		return nil
	}
	l.stop()
	done := make(chan struct{})
	go func() {
		l.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close lifecycle: %w", ctx.Err())
	}
}

// Stats counts what was done since New.
func (l *Lifecycle) Stats() Stats {
	c := &l.count
	return Stats{
		Cancelled: c.cancelled.Load(), AlreadyCancelled: c.alreadyCancelled.Load(), NotCancellable: c.notCancellable.Load(),
		NotFound: c.notFound.Load(), Expired: c.expired.Load(), GivenBack: c.givenBack.Load(),
		EventsNumbered: c.numbered.Load(), EventsPublished: c.published.Load(),
		ExpireFailures: c.expireFailures.Load(), GiveBackFailures: c.giveBackFailures.Load(), RelayFailures: c.relayFailures.Load(),
	}
}

// kick tells the mover of a user shard that something is due.
func (l *Lifecycle) kick(shard int) { tell(l.kicks[shard]) }

func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has been told
	}
}

// loop is a step done again and again for one user shard.
type loop struct {
	name     string
	shard    int
	every    func() time.Duration
	kick     <-chan struct{}
	failures *atomic.Int64
	step     func(ctx context.Context, shard int) error
}

// run does the steps of a loop until ctx ends. While steps fail, kicks are not listened to and the pauses grow.
func (l *Lifecycle) run(ctx context.Context, p loop) {
	failed := 0
	for {
		err := p.step(ctx, p.shard)
		if ctx.Err() != nil {
			return
		}
		pause, kick := p.every(), p.kick
		if err == nil {
			failed = 0
		} else {
			p.failures.Add(1)
			if failed++; failed == 1 {
				l.log.Error(p.name+" fails, trying again", "shard", p.shard, "error", err)
			}
			pause, kick = min(pause<<min(failed, 10), retryMax), nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-kick:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// call bounds one call of the store.
func (l *Lifecycle) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, l.tuning().CallTimeout)
}
