package persist

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/panjf2000/ants/v2"

	"sluice/engine/order"
	"sluice/engine/queue"
)

const (
	flushBytesMax = 2 << 20  // received for one flush, about
	heldBytesMax  = 64 << 20 // of messages whose home shard fails; beyond, nothing more is received
	lingerFrom    = 100.0    // orders per second from which a flush waits for more
	lingerWhole   = 2_000.0  // from which it waits for the whole of Linger; in between for its part
	retryFirst    = 50 * time.Millisecond
	retryLast     = 5 * time.Second
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

// held is what was received of one home shard and is not flushed yet, in order.
type held struct {
	items   []item
	bytes   int
	retryAt time.Time // not before, after a failure
	pause   time.Duration
}

type item struct {
	message   *order.Message // nil: damaged, and buried
	position  uint64
	partition order.Partition
	bytes     int
}

// run joins the queue, again after every failure, until ctx ends.
func (c *consumer) run(ctx context.Context) {
	for ctx.Err() == nil {
		from, err := c.queue.Consumer(ctx, c.kind)
		if err == nil {
			c.from, c.homes = from, make([]held, c.store.Shards())
			err = c.consume(ctx)
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

// consume receives and flushes until ctx ends or the consumer fails.
func (c *consumer) consume(ctx context.Context) error {
	for {
		if err := c.gather(ctx); err != nil {
			return err
		}
		for home := range c.homes {
			if h := &c.homes[home]; len(h.items) > 0 && !time.Now().Before(h.retryAt) {
				if err := c.flush(home, h); err != nil {
					return err
				}
			}
		}
	}
}

// gather receives until a flush is due: at rest at once, under load after a part of Linger that grows with the load, or
// with FlushOrdersMax orders. A flush costs some commits, however many orders it has.
func (c *consumer) gather(ctx context.Context) error {
	tuning := c.tuning()
	retryAt, bytes := c.waiting()
	if bytes > heldBytesMax {
		sleep(ctx, time.Until(retryAt))
		return ctx.Err()
	}
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
	return time.Duration(min(1, c.rate/lingerWhole) * float64(most))
}

// waiting sums up what is held; retryAt is when the first of it is due, zero if nothing is held.
func (c *consumer) waiting() (retryAt time.Time, bytes int) {
	for i := range c.homes {
		h := &c.homes[i]
		bytes += h.bytes
		if len(h.items) > 0 && (retryAt.IsZero() || h.retryAt.Before(retryAt)) {
			retryAt = h.retryAt
		}
	}
	return retryAt, bytes
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
	if c.stopped[d.Partition] {
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
	h := &c.homes[c.store.Home(d.Partition)]
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

// drop forgets what is held of a partition: it is not acknowledged and comes back.
func (h *held) drop(p order.Partition) {
	h.items = slices.DeleteFunc(h.items, func(it item) bool { return it.partition == p })
	h.bytes = 0
	for i := range h.items {
		h.bytes += h.items[i].bytes
	}
}

// fail keeps what is held for later.
func (h *held) fail() {
	h.pause = min(max(2*h.pause, retryFirst), retryLast)
	h.retryAt = time.Now().Add(h.pause)
}

func (h *held) done() { *h = held{items: h.items[:0]} }
