package persist_test

import (
	"bytes"
	"context"
	"testing"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// echoQueue delivers the oldest message of a partition again behind whatever else it delivers.
type echoQueue struct{ queue.Queue }

func (q *echoQueue) Consumer(ctx context.Context, kind order.Kind) (queue.Consumer, error) {
	c, err := q.Queue.Consumer(ctx, kind)
	return &echoConsumer{c, map[order.Partition]queue.Delivery{}}, err
}

type echoConsumer struct {
	queue.Consumer
	oldest map[order.Partition]queue.Delivery
}

func (c *echoConsumer) Receive(ctx context.Context, max, maxBytes int) ([]queue.Delivery, error) {
	got, err := c.Consumer.Receive(ctx, max, maxBytes)
	for _, d := range got {
		old, ok := c.oldest[d.Partition]
		if !ok {
			old = queue.Delivery{Partition: d.Partition, Position: d.Position, Body: bytes.Clone(d.Body)}
			c.oldest[d.Partition] = old
		}
		old.Body = bytes.Clone(old.Body)
		got = append(got, old)
	}
	return got, err
}

// A message that comes again behind newer ones does not keep these in the queue.
func TestRepeatDoesNotKeepWhatIsNewer(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.queue = &echoQueue{l.queue}
	ids := l.batch(l.epoch, 3)
	x, _ := l.start()
	l.awaitStored(ids)
	awaitBacklog(t, l.queue, l.p)
	l.awaitStored(l.batch(l.epoch, 3))
	awaitBacklog(t, l.queue, l.p)
	if n := x.Stats().Alarms; n > 0 {
		t.Errorf("%d alarms", n)
	}
}
