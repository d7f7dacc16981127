package sqlitequeue

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// line is the consumers of one kind in the order in which they came. The first serves every partition of the kind, the
// others wait. Queue.mu guards it.
type line struct {
	parts     []*part
	consumers []*consumer
}

func (l *line) wakeAll() {
	for _, c := range l.consumers {
		c.signal()
	}
}

// consumer is a queue.Consumer. Receive reads with a connection of its own, so that no consumer waits for another's
// reading.
type consumer struct {
	q    *Queue
	line *line
	wake chan struct{} // capacity 1: something changed; look again

	closed bool // guarded by Queue.mu
	from   int  // the partition that Receive looks at first; only Receive uses it

	reading sync.Mutex // held by Receive while it reads, and by Close
	reader  *reader
}

var _ queue.Consumer = (*consumer)(nil)

// Consumer joins. If another consumer of this kind lives, the new one receives nothing until it is the oldest.
func (q *Queue) Consumer(ctx context.Context, kind order.Kind) (queue.Consumer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	line := q.consumed[kind]
	if line == nil {
		return nil, fmt.Errorf("there is no kind %v", kind)
	}
	r, err := openReader(q.options.Path)
	if err != nil {
		return nil, fmt.Errorf("consumer of %s: %w", kind, err)
	}
	c := &consumer{q: q, line: line, wake: make(chan struct{}, 1), reader: r}
	q.mu.Lock()
	closed := q.closed
	if !closed {
		line.consumers = append(line.consumers, c)
		if len(line.consumers) == 1 {
			line.attach()
		}
	}
	q.mu.Unlock()
	if closed {
		_ = r.close()
		return nil, queue.ErrClosed
	}
	return c, nil
}

// attach gives the partitions to the first in line.
func (l *line) attach() {
	for _, p := range l.parts {
		p.attach()
	}
	l.consumers[0].signal()
}

func (c *consumer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// wakeConsumers signals those whose partitions a batch went to; mu is held.
func (q *Queue) wakeConsumers(batch []*entry) {
	for _, e := range batch {
		if l := q.lineOf(e.part.number); len(l.consumers) > 0 {
			l.consumers[0].signal()
		}
	}
}

func (q *Queue) lineOf(p order.Partition) *line {
	return q.consumed[q.options.Partitions.Kind(p)]
}

// Receive takes from memory what is there and from the file what is not.
func (c *consumer) Receive(ctx context.Context, max, maxBytes int) ([]queue.Delivery, error) {
	if max <= 0 || maxBytes <= 0 {
		panic("BUG: receive of nothing")
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		deliveries, err := c.collect(&budget{messages: max, bytes: maxBytes})
		if err != nil || len(deliveries) > 0 {
			return deliveries, err
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		}
	}
}

// collect goes once around the partitions, beginning with the one behind the last that exhausted the budget. What was
// taken is returned even if a later partition cannot be read; that error comes again with the next call.
func (c *consumer) collect(b *budget) ([]queue.Delivery, error) {
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	if err := c.serving(); err != nil {
		return nil, err
	}
	if c.line.consumers[0] != c {
		return nil, nil
	}
	var got []queue.Delivery
	var err error
	for n := len(c.line.parts); n > 0 && b.room() && err == nil; n-- {
		p := c.line.parts[c.from]
		c.from = (c.from + 1) % len(c.line.parts)
		if s, behind := p.behind(); behind {
			got, err = c.readBack(got, s, b)
			if closed := c.serving(); closed != nil {
				return nil, closed // what was taken belongs to the next consumer
			}
		}
		if _, behind := p.behind(); !behind {
			got = p.take(got, b)
		}
	}
	if len(got) > 0 {
		err = nil
	}
	return got, err
}

func (c *consumer) serving() error {
	if c.closed || c.q.closed {
		return queue.ErrClosed
	}
	return nil
}

// readBack reads a segment without mu and books what was read.
func (c *consumer) readBack(got []queue.Delivery, s segment, b *budget) ([]queue.Delivery, error) {
	before := len(got)
	c.q.mu.Unlock()
	got, err := c.read(got, s, b)
	c.q.mu.Lock()
	if len(got) > before && c.serving() == nil {
		c.q.parts[s.p].delivered = got[len(got)-1].Position
	}
	if err != nil {
		return got, fmt.Errorf("read partition %d from message %d: %w", s.p, s.after+1, err)
	}
	return got, nil
}

func (c *consumer) read(got []queue.Delivery, s segment, b *budget) ([]queue.Delivery, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.reader == nil {
		return nil, queue.ErrClosed
	}
	return c.reader.read(got, s, b)
}

// Ack does no I/O: see the package's doc.
func (c *consumer) Ack(ctx context.Context, p order.Partition, position uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	if err := c.serving(); err != nil {
		return err
	}
	if int(p) >= len(c.q.parts) || c.q.lineOf(p) != c.line || c.line.consumers[0] != c {
		return fmt.Errorf("ack on partition %d, which this consumer does not serve", p)
	}
	part := c.q.parts[p]
	if position > part.delivered {
		return fmt.Errorf("ack of message %d of partition %d, which was not delivered: the last was %d", position, p, part.delivered)
	}
	c.q.acknowledge(part, position)
	return nil
}

// Close hands the partitions to the next in line. It waits for a Receive that reads from the file.
func (c *consumer) Close() error {
	c.q.mu.Lock()
	if c.closed {
		c.q.mu.Unlock()
		return nil
	}
	c.closed = true
	first := c.line.consumers[0] == c
	c.line.consumers = slices.DeleteFunc(c.line.consumers, func(other *consumer) bool { return other == c })
	switch {
	case first && len(c.line.consumers) > 0:
		c.line.attach()
	case first:
		for _, p := range c.line.parts {
			p.detach()
		}
	}
	c.signal()
	c.q.mu.Unlock()

	c.reading.Lock()
	defer c.reading.Unlock()
	r := c.reader
	c.reader = nil
	if err := r.close(); err != nil {
		return fmt.Errorf("close consumer: %w", err)
	}
	return nil
}
