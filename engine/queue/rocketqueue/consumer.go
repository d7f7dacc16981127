package rocketqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

const (
	awayPause   = 200 * time.Millisecond // between two tries to reach the broker
	awayMax     = 10 * time.Second       // without it, before Receive says so
	beatEvery   = 5 * time.Second        // heartbeats, and looks at who else is a member
	dealAfter   = 2 * time.Second        // for the other members to come back to a broker that has come back
	ackEvery    = 100 * time.Millisecond // commits
	goodbyeMax  = 2 * time.Second        // for the last commits of a consumer
	failedPause = 500 * time.Millisecond // between two polls of which the first was refused
)

// consumer is a queue.Consumer: one member of a kind's group.
type consumer struct {
	q       *Queue
	kind    order.Kind
	member  string
	topic   string
	sources []*source // by number
	wake    chan struct{}
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // also of the sources' state
	closed bool
	from   int       // the source that Receive looks at first
	loss   error     // of messages: Receive tells it once
	away   error     // why there is no connection, nil if there is one
	since  time.Time // when that began
}

var _ queue.Consumer = (*consumer)(nil)

// Consumer joins. Whether the broker can be reached shows later: it is waited for.
func (q *Queue) Consumer(ctx context.Context, kind order.Kind) (queue.Consumer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !slices.Contains(order.Kinds[:], kind) {
		return nil, fmt.Errorf("there is no kind %v", kind)
	}
	c := &consumer{q: q, kind: kind, topic: q.options.topic(kind),
		wake: make(chan struct{}, 1), since: time.Now(), away: errors.New("not reached yet")}
	parts := q.options.Partitions.Each(kind)
	for _, p := range parts {
		at := q.options.place(p)
		starts := at
		starts.group = q.options.starts(kind)
		c.sources = append(c.sources, &source{partition: p, place: at, starts: starts,
			share: int(q.options.MemoryMax) / len(parts), room: make(chan struct{}, 1)})
	}
	running, stop := context.WithCancel(context.Background())
	c.stop = stop
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		stop()
		return nil, queue.ErrClosed
	}
	c.member = q.member(kind)
	q.consumers = append(q.consumers, c)
	c.running.Go(func() { c.run(running) })
	return c, nil
}

// Receive takes what has arrived, of one queue after the other.
func (c *consumer) Receive(ctx context.Context, max, maxBytes int) ([]queue.Delivery, error) {
	if max <= 0 || maxBytes <= 0 {
		panic("BUG: receive of nothing")
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got, err := c.collect(max, maxBytes)
		if err != nil || len(got) > 0 {
			return got, err
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-look.C:
		}
	}
}

// collect goes once around the queues, beginning with the one behind the last that was not emptied. Trouble is told when
// there is nothing else.
func (c *consumer) collect(max, maxBytes int) (got []queue.Delivery, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, queue.ErrClosed
	}
	if c.loss != nil {
		err, c.loss = c.loss, nil
		return nil, err
	}
	for range c.sources {
		if max <= 0 || maxBytes <= 0 {
			break
		}
		s := c.sources[c.from]
		c.from = (c.from + 1) % len(c.sources)
		taken, bytes := s.take(max, maxBytes)
		got = append(got, taken...)
		max, maxBytes = max-len(taken), maxBytes-bytes
	}
	if len(got) == 0 && c.away != nil && time.Since(c.since) > awayMax {
		c.since = time.Now()
		return nil, fmt.Errorf("topic %s cannot be read: %w", c.topic, c.away)
	}
	return got, nil
}

// Ack notes; it does no I/O. One of a queue that is another consumer's by now does nothing.
func (c *consumer) Ack(ctx context.Context, p order.Partition, position uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return queue.ErrClosed
	}
	i := slices.IndexFunc(c.sources, func(s *source) bool { return s.partition == p })
	if i < 0 {
		return fmt.Errorf("ack on partition %d, which is none of %s orders", p, c.kind)
	}
	s := c.sources[i]
	if position > s.highest {
		return fmt.Errorf("ack of message %d of partition %d, which was not delivered: the last was %d", position, p, s.highest)
	}
	s.ack(position)
	return nil
}

// acknowledged is how far a partition is acknowledged here, 0 if it is not ours.
func (c *consumer) acknowledged(p order.Partition) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sources {
		if s.partition == p && s.serving && !c.closed {
			return s.acked
		}
	}
	return 0
}

// Close leaves. What was acknowledged is committed, if the broker is there.
func (c *consumer) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.signal()
	c.stop()
	c.running.Wait()
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	c.q.consumers = slices.DeleteFunc(c.q.consumers, func(other *consumer) bool { return other == c })
	c.q.left[c.kind] = append(c.q.left[c.kind], c.member)
	for _, s := range c.sources {
		if s.serving && s.acked > s.committed {
			return fmt.Errorf("close consumer of %s orders: the broker is away, what was acknowledged last comes again", c.kind)
		}
	}
	return nil
}

func (c *consumer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run keeps the consumer a member of its group until ctx ends.
func (c *consumer) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.serve(ctx)
		c.mu.Lock()
		if c.away == nil {
			c.since = time.Now()
		}
		c.away = err
		c.mu.Unlock()
		_ = pause(ctx, awayPause)
	}
}

// serve is one connection: until it is lost, or ctx ends.
func (c *consumer) serve(ctx context.Context) error {
	at, err := c.q.routes.find(ctx, c.topic)
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	l, err := dial(ctx, at.addr, func(code int) {
		if code == toldMembers {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		return fmt.Errorf("broker %w", err)
	}
	defer l.close()
	v := &visit{consumer: c, l: l, members: changed}
	if v.started, err = l.started(ctx); err == nil {
		err = v.stay(ctx)
	}
	if ctx.Err() != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeMax)
		defer cancel()
		err = v.commit(last)
	}
	return err
}

// visit is one connection of a consumer. One goroutine uses it.
type visit struct {
	*consumer
	l       *link
	started int64           // the broker, by its clock
	members <-chan struct{} // the broker says that they have changed
}

// stay serves queues while the connection holds.
func (v *visit) stay(ctx context.Context) error {
	defer func() {
		for _, s := range v.sources {
			s.end()
		}
	}()
	if err := v.l.heartbeat(ctx, v.member, v.sources[0].place); err != nil {
		return err
	}
	v.mu.Lock()
	v.away = nil
	v.mu.Unlock()
	held := false
	for _, s := range v.sources {
		if v.serves(s) {
			held = true
			v.begin(ctx, s)
		}
	}
	deal := time.NewTimer(0)
	defer deal.Stop()
	if held {
		deal.Reset(dealAfter)
	}
	commits, beats := time.NewTicker(ackEvery), time.NewTicker(beatEvery)
	defer commits.Stop()
	defer beats.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.l.lost:
			return v.l.fault(errLost)
		case <-commits.C:
			err = v.commit(ctx)
		case <-beats.C:
			err = v.beat(ctx)
		case <-deal.C:
			held = false
			err = v.deal(ctx)
		case <-v.members:
			if !held {
				err = v.deal(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
}

// beat tells the broker that we live, looks at who else does, and commits again what somebody has set back: two that served
// a queue for a moment both did.
func (v *visit) beat(ctx context.Context) error {
	if err := v.l.heartbeat(ctx, v.member, v.sources[0].place); err != nil {
		return err
	}
	if err := v.deal(ctx); err != nil {
		return err
	}
	for _, s := range v.sources {
		if !v.serves(s) {
			continue
		}
		committed, known, err := v.l.committed(ctx, s.place)
		if err != nil {
			return err
		}
		v.mu.Lock()
		if known && s.settled == v.l {
			s.committed = min(s.committed, committed)
		}
		v.mu.Unlock()
	}
	return nil
}

// deal takes the queues that are ours by the broker's list of members, and gives up those that are not.
func (v *visit) deal(ctx context.Context) error {
	members, err := v.l.members(ctx, v.topic)
	if err != nil || len(members) == 0 {
		return err
	}
	own, n := seat(members, v.member)
	for i, s := range v.sources {
		switch mine := own >= 0 && i%n == own; {
		case mine && !v.serves(s):
			v.mu.Lock()
			s.serving = true
			v.mu.Unlock()
			v.begin(ctx, s)
		case !mine && v.serves(s):
			s.end()
			err = errors.Join(err, v.commitOne(ctx, s))
			v.mu.Lock()
			s.leave()
			v.mu.Unlock()
		}
	}
	return err
}

func (v *visit) serves(s *source) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return s.serving
}

// begin starts to poll a queue.
func (v *visit) begin(ctx context.Context, s *source) {
	ctx, s.stop = context.WithCancel(ctx)
	s.polling.Go(func() { v.poll(ctx, s) })
}

// commit tells the broker what was acknowledged since the last time.
func (v *visit) commit(ctx context.Context) error {
	for _, s := range v.sources {
		if err := v.commitOne(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// commitOne leaves alone a queue that was not settled on this connection: another member may be ahead.
func (v *visit) commitOne(ctx context.Context, s *source) error {
	v.mu.Lock()
	acked, due := s.acked, s.serving && s.settled == v.l && s.acked > s.committed
	v.mu.Unlock()
	if !due {
		return nil
	}
	if err := v.l.commit(ctx, s.place, acked); err != nil {
		return err
	}
	v.mu.Lock()
	s.committed = max(s.committed, acked)
	v.mu.Unlock()
	return nil
}
