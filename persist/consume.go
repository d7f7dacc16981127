package persist

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/panjf2000/ants/v2"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/internal/crash"
	"sluice/persist/store"
)

const (
	flushBytesMax = 2 << 20  // received for one flush, about
	onceBytesMax  = 4 << 20  // flushed at once, about: a shard that comes back is given what has gathered piece by piece
	heldBytesMax  = 64 << 20 // of messages whose home shard fails; beyond, they are left to the queue
	lingerFrom    = 100.0    // orders per second from which a flush waits for more
	lingerHalf    = 500.0    // up to which its wait grows to half of Linger: a commit for a few orders costs what one for many does
	lingerWhole   = 2_000.0  // from which it waits for the whole of it
	retryFirst    = 50 * time.Millisecond
	retryLast     = 5 * time.Second
	patience      = time.Second           // for a flush, before other home shards go on without its shard
	patienceLost  = 20 * time.Millisecond // for a shard whose last flush has failed
	lookAgain     = 20 * time.Millisecond // between two looks whether such a flush has ended
)

// consumer consumes one kind. It is one goroutine.
type consumer struct {
	*Persist
	kind    order.Kind
	writers *ants.Pool
	from    queue.Consumer
	homes   []held                   // by home shard
	stopped map[order.Partition]bool // nothing of these is taken until the process is restarted
	rate    float64                  // orders received per second, over about the last one
	rated   time.Time                // when that was known
}

// run joins the queue, again after every failure, until ctx ends.
func (c *consumer) run(ctx context.Context) {
	for ctx.Err() == nil {
		from, err := c.queue.Consumer(ctx, c.kind)
		if err == nil {
			c.from, c.homes = from, anew(c.homes, c.store.Shards())
			err = errors.Join(c.consume(ctx), c.landAll())
			if closing := from.Close(); closing != nil {
				c.log.Warn("consumer did not leave cleanly", "kind", c.kind.String(), "error", closing)
			}
		}
		if ctx.Err() == nil {
			c.log.Warn("consuming was interrupted", "kind", c.kind.String(), "error", err)
			sleep(ctx, 200*time.Millisecond)
		}
	}
}

// consume receives and flushes until ctx ends or the consumer fails. Flushes may be under way when it returns.
func (c *consumer) consume(ctx context.Context) error {
	for {
		if err := c.gather(ctx); err != nil {
			return err
		}
		for home := range c.homes {
			h := &c.homes[home]
			if err := c.land(h, 0); err != nil {
				return err
			}
			if h.under > 0 || len(h.items) == 0 || time.Now().Before(h.retryAt) {
				continue
			}
			c.launch(home, h)
			wait := patience
			if h.pause > 0 {
				wait = patienceLost
			}
			if err := c.land(h, wait); err != nil {
				return err
			}
		}
	}
}

// launch begins to flush what is held of a home shard.
func (c *consumer) launch(home int, h *held) {
	n := h.next()
	items, done := h.items[:n:n], make(chan error, 1)
	h.under, h.done = n, done
	go func() { done <- c.flush(home, items) }()
}

// land waits for the flush under way, if there is one, and does what its end asks for. One that takes longer than the
// given time is left to itself: its shard hangs, and the others have done nothing. An error means that the consumer
// failed.
func (c *consumer) land(h *held, atMost time.Duration) error {
	if h.under == 0 {
		return nil
	}
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case err := <-h.done:
		return c.landed(h, err)
	case <-timer.C:
		return nil
	}
}

// landAll waits for all flushes.
func (c *consumer) landAll() error {
	var errs []error
	for home := range c.homes {
		if h := &c.homes[home]; h.under > 0 {
			errs = append(errs, c.landed(h, <-h.done))
		}
	}
	return errors.Join(errs...)
}

// landed acknowledges what a flush has stored. A shard that failed leaves it held for later.
func (c *consumer) landed(h *held, err error) error {
	under := h.items[:h.under:h.under]
	h.under, h.done = 0, nil
	var ahead *store.AheadError
	switch {
	case errors.As(err, &ahead):
		c.stopPartition(ahead.Partition, err)
		h.drop(ahead.Partition)
		h.retryAt = time.Now() // the other partitions' messages wait for nothing; zero would let them wait for a new one
		return h.again()
	case err != nil:
		c.stats.failures.Add(1)
		c.log.Warn("flush failed; it is tried again", "kind", c.kind.String(), "messages", len(under), "error", err)
		h.fail(len(under))
		return nil
	}
	positions := make(map[order.Partition]uint64)
	for i := range under {
		p := under[i].partition
		positions[p] = max(positions[p], under[i].position) // an older one may have come again behind it
	}
	h.shift(len(under))
	for p, position := range positions {
		if err := c.from.Ack(context.Background(), p, position); err != nil {
			return fmt.Errorf("acknowledge partition %d: %w", p, err)
		}
	}
	crash.At("ack")
	return h.again()
}

// gather receives until a flush is due: at rest at once, under load after a part of Linger that grows with the load, or
// with FlushOrdersMax orders. A flush costs some commits, however many orders it has.
func (c *consumer) gather(ctx context.Context) error {
	tuning := c.tuning()
	if c.bytes() > c.heldMax && !c.leave() {
		sleep(ctx, lookAgain)
		return ctx.Err()
	}
	retryAt := c.waiting()
	var flushAt time.Time
	orders := 0
	defer func() { c.arrived(orders, time.Now()) }()
	for {
		until := retryAt
		if !flushAt.IsZero() {
			until = flushAt
		}
		got, err := c.receive(ctx, tuning.FlushOrdersMax, until)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		if flushAt.IsZero() {
			flushAt = time.Now().Add(c.linger(tuning.Linger))
		}
		orders += got
		if orders >= tuning.FlushOrdersMax || !time.Now().Before(flushAt) {
			return nil
		}
	}
}

// arrived takes a gathering into the rate.
func (c *consumer) arrived(orders int, now time.Time) {
	since := max(now.Sub(c.rated).Seconds(), 1e-6)
	c.rate += min(1, since) * (float64(orders)/since - c.rate)
	c.rated = now
}

// linger is the part of most that a flush waits at the present rate.
func (c *consumer) linger(most time.Duration) time.Duration {
	if c.rate < lingerFrom {
		return 0
	}
	share := max(min(c.rate/lingerHalf, 1)/2, min(c.rate/lingerWhole, 1))
	return time.Duration(share * float64(most))
}

// waiting is when something is due of what is held, zero if nothing is held.
func (c *consumer) waiting() (due time.Time) {
	for i := range c.homes {
		h := &c.homes[i]
		at := h.retryAt
		if h.under > 0 {
			at = time.Now().Add(lookAgain)
		}
		if len(h.items) > 0 && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	return due
}

func (c *consumer) bytes() (bytes int) {
	for i := range c.homes {
		bytes += c.homes[i].bytes
	}
	return bytes
}

// leave leaves to the queue what is held of the failing shard that holds most, but for its first messages, with which it is
// tried again; false if there is nothing to leave. What was not acknowledged comes again to whoever joins the queue anew: this
// consumer does, once the shard answers.
func (c *consumer) leave() bool {
	var most *held
	for i := range c.homes {
		if h := &c.homes[i]; h.pause > 0 && len(h.items) > max(h.under, 1) && (most == nil || h.bytes > most.bytes) {
			most = h
		}
	}
	if most == nil {
		return false
	}
	kept := max(most.under, 1)
	clear(most.items[kept:])
	most.items, most.left = most.items[:kept], true
	most.count()
	return true
}

// receive takes what is there into c.homes, and returns how many orders it was. It waits until the given time at most;
// zero means for ever.
func (c *consumer) receive(ctx context.Context, max int, until time.Time) (orders int, err error) {
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	deliveries, err := c.from.Receive(ctx, max, flushBytesMax)
	if err != nil {
		return 0, err
	}
	c.stats.received.Add(int64(len(deliveries)))
	for i := range deliveries {
		n, err := c.take(&deliveries[i])
		if err != nil {
			return orders, err
		}
		orders += n
	}
	return orders, nil
}

// take decodes a delivery and holds it for its home shard.
func (c *consumer) take(d *queue.Delivery) (orders int, err error) {
	h := &c.homes[c.store.Home(d.Partition)]
	if c.stopped[d.Partition] || h.left {
		return 0, nil
	}
	m, err := order.DecodeMessage(d.Body)
	switch {
	case errors.Is(err, order.ErrVersion):
		c.stopPartition(d.Partition, err)
		return 0, nil
	case err == nil && m.Partition != d.Partition:
		err = fmt.Errorf("%w: it belongs to partition %d", order.ErrDamaged, m.Partition)
	}
	if err != nil {
		c.stats.buried.Add(1)
		c.log.Error("damaged message buried", "partition", d.Partition, "position", d.Position, "error", err)
		if burying := c.queue.Bury(context.Background(), *d, err.Error()); burying != nil {
			return 0, fmt.Errorf("bury a damaged message of partition %d: %w", d.Partition, burying)
		}
		m = nil
	}
	h.items = append(h.items, item{message: m, position: d.Position, partition: d.Partition, bytes: len(d.Body)})
	h.bytes += len(d.Body)
	if m != nil {
		orders = len(m.Records)
	}
	return orders, nil
}

// stopPartition takes nothing more of a partition. Its messages stay in the queue, for a program that can read them or
// a person. What was received before is still stored.
func (c *consumer) stopPartition(p order.Partition, why error) {
	c.stopped[p] = true
	c.stats.stopped.Add(1)
	c.log.Error("PARTITION STOPPED: its orders are not stored until somebody looks", "partition", p, "error", why)
}
