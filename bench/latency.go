package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sluice/bench/audit"
	"sluice/bench/load"
	"sluice/gateway/client"
)

// latency puts ordinary orders, and then a sale, on the server at a rate that it keeps up with, and measures how long it
// takes from the answer that an order is accepted until it is stored.
func (r *runner) latency(ctx context.Context) error {
	r.cases(fmt.Sprintf("carts over %d offers at %.0f/s", shops*shopOffers, r.o.Rate), fmt.Sprintf("a sale at %.0f/s", r.o.Rate))
	return r.rounds(func(_, i int, c *Case) (*Round, error) {
		return r.sale(ctx, saleOptions{connections: c.Connections, rate: r.o.Rate, carts: i%2 == 0, looked: true})
	})
}

// Orders that are looked at from the answer that accepted them until they are stored. Both moments are the buyer's, by one
// clock: the database's own times are of the beginning of its transaction, before the commit, and ?wait= looks after 5 ms, 15,
// 35 and so on. What is measured is too long by one look, never too short.
const (
	looksPerSecond   = 20
	lookPause        = time.Millisecond
	looksConnections = 64
	looksFor         = 10 * time.Minute // the longest load that has some until its end
)

// looks is the load of those orders.
type looks struct {
	visitors *visitors
	cancel   context.CancelFunc
	running  sync.WaitGroup
	mu       sync.Mutex
	times    []time.Duration
	lost     int // orders of which nobody saw that they were stored
}

func startLooks(ctx context.Context, s *server, spec load.Spec) (*looks, error) {
	spec.Count, spec.Users, spec.Lines = int(looksPerSecond*looksFor.Seconds()), 0, 0
	spec.Seed += 2
	reqs, err := load.Describe(spec)
	if err != nil {
		return nil, err
	}
	l := &looks{}
	if l.visitors, err = newVisitors(s, looksConnections, reqs); err != nil {
		return nil, err
	}
	l.visitors.visit = l.visit
	ctx, l.cancel = context.WithCancel(ctx)
	l.running.Go(func() { l.visitors.run(ctx, looksPerSecond) })
	return l, nil
}

// visit places an order and looks at it until it is stored.
func (l *looks) visit(i int, intended time.Time) {
	ctx, v := context.Background(), l.visitors
	id := v.place(ctx, i, intended)
	if id == "" {
		return
	}
	accepted, stored := time.Now(), false
	for !stored && time.Since(accepted) < settleWait {
		v.do(stepPoll, v.user(i), time.Now(), func(c *client.Client) error {
			o, err := c.Order(ctx, id, 0)
			stored = err == nil && o.Status != "pending"
			return err
		})
		if !stored {
			time.Sleep(lookPause)
		}
	}
	took := time.Since(accepted)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !stored {
		l.lost++
		return
	}
	l.times = append(l.times, took)
}

func (l *looks) stop() error {
	l.cancel()
	l.running.Wait()
	return nil
}

func (l *looks) accepted() int64        { return l.visitors.accepted() }
func (l *looks) history() []audit.Entry { return l.visitors.history }

func (l *looks) fill(round *Round) {
	h := load.NewHistogram()
	for _, took := range l.times {
		_ = h.RecordValue(took.Microseconds())
	}
	recorded := latency(h)
	round.Recorded = &recorded
	round.Steps, _ = l.visitors.report()
	if l.lost > 0 {
		round.Notes = append(round.Notes, fmt.Sprintf("%d orders that were looked at were not stored within %s", l.lost, settleWait))
	}
}
