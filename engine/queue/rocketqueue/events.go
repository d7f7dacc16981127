package rocketqueue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"sluice/engine/queue"
)

// EventBytesMax is how long a body of events should be at most: a broker of small settings still takes it at once.
const EventBytesMax = 256 << 10

// Events is the topic NAME-order-events, from which other teams read with any client of RocketMQ. What belongs to one
// shard lies in one of its queues, the shard's number modulo theirs, in order. Safe for concurrent use.
type Events struct {
	q      *Queue
	closed atomic.Bool
}

// Events is the topic of this queue's deployment. It must be closed before the queue.
func (q *Queue) Events() *Events { return &Events{q: q} }

// Publish makes bodies durable, one message after the other. nil: all of them; an error: some from the front, perhaps one
// more, now or later. Calls for one shard come one after another.
func (e *Events) Publish(ctx context.Context, shard int, bodies [][]byte) error {
	if e.closed.Load() {
		return queue.ErrClosed
	}
	topic := e.q.options.events()
	at, err := e.q.routes.place(topic)
	if err == nil && shard < 0 {
		err = errors.New("there is no such shard")
	}
	for i := 0; i < len(bodies) && err == nil; i++ {
		_, err = e.q.sender.send(ctx, message{topic: topic, broker: at.broker, queue: shard % at.queues, body: bodies[i]})
	}
	if err != nil {
		return fmt.Errorf("publish events of shard %d: %w", shard, err)
	}
	return nil
}

// Read returns everything that the topic holds of a shard, and of those that share its queue, oldest first.
func (e *Events) Read(ctx context.Context, shard int) (bodies [][]byte, err error) {
	topic := e.q.options.events()
	route, err := e.q.routes.find(ctx, topic)
	if err != nil {
		return nil, err
	}
	l, err := dial(ctx, route.addr, nil)
	if err != nil {
		return nil, err
	}
	defer l.close()
	at := place{topic: topic, group: topic, queue: shard % route.queues}
	from, err := l.min(ctx, at)
	if err != nil {
		return nil, err
	}
	for {
		got, err := l.peek(ctx, at, from, pollMessages)
		if err != nil || len(got.messages) == 0 {
			return bodies, err
		}
		for _, m := range got.messages {
			bodies = append(bodies, m.body)
		}
		from = got.next
	}
}

// Close ends publishing.
func (e *Events) Close() error {
	e.closed.Store(true)
	return nil
}
