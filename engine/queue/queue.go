// Package queue is the seam to the durable queue between the engine and persist (docs/design.md, section 6). It holds
// the interface and its contract; it does no I/O. Drivers are sqlitequeue (a file) and rocketqueue (RocketMQ); package
// queuetest holds the suite that every driver must pass.
//
// # Delivery
//
// One log per partition. First deliveries come in publish order per partition: if one Publish returned before another
// of the same partition began, its message is delivered first. A message may be delivered again at any time, also
// older than what was already seen. What was published and not acknowledged comes back to the next consumer of its
// partition: after Close, after a crash, at a hand-over; never by time alone.
//
// Each partition has at most one consumer at a time. A Consumer serves partitions of one kind only, so that a sale's
// backlog never delays ordinary orders.
//
// # Errors
//
// Publish returning nil means durable. ErrFull means certainly not stored. Every other error of Publish means unknown:
// the message may be delivered, once or more, now or later. Drivers never retry, sleep or log.
package queue

import (
	"context"
	"errors"
	"time"

	"sluice/engine/order"
)

// Queue is the queue of all partitions of a deployment. All methods are safe for concurrent use.
type Queue interface {
	// Publish makes a message durable. message is not kept after it returns. Messages of at most MessageMax bytes.
	Publish(ctx context.Context, p order.Partition, message []byte) error

	// Consumer joins as a consumer of one kind. The driver assigns it partitions of that kind that nobody else serves.
	Consumer(ctx context.Context, kind order.Kind) (Consumer, error)

	// Bury keeps a damaged message in the dead-letter place, durably, with the reason, for a person to look at. It does
	// not acknowledge it.
	Bury(ctx context.Context, d Delivery, reason string) error

	// Backlog is the number of messages of a partition that are not acknowledged and, if the driver knows it, the age
	// of the oldest.
	Backlog(ctx context.Context, p order.Partition) (Backlog, error)

	// Close frees what the driver holds. Consumers are closed first, by whoever made them.
	Close() error
}

// Consumer receives the messages of the partitions assigned to it. It is used by one goroutine, except Close.
type Consumer interface {
	// Receive waits for messages and returns what is there, of one partition or several, at least one, in order per
	// partition; at most max messages, and not many more bytes than maxBytes. Bodies belong to the caller. It returns
	// ctx.Err() when ctx ends first, and ErrClosed after Close.
	Receive(ctx context.Context, max, maxBytes int) ([]Delivery, error)

	// Ack acknowledges every message of the partition up to and with the one at position. Positions older than an
	// acknowledged one are ignored. An error means unknown: messages may come again.
	Ack(ctx context.Context, p order.Partition, position uint64) error

	// Close leaves. Messages not acknowledged come back to the next consumer.
	Close() error
}

// Delivery is one message. Positions grow in delivery order within a partition.
type Delivery struct {
	Partition order.Partition
	Position  uint64
	Body      []byte
}

// Backlog describes what waits in a partition.
type Backlog struct {
	Messages int64
	Oldest   time.Duration // age of the oldest, 0 if none or not known
}

// MessageMax bounds one message: a full batch with its envelope, below the 1 MiB that RocketMQ serves well.
const MessageMax = 1 << 20

// ErrFull says that there is no room: the message was not stored. ErrClosed says that the queue or consumer was closed.
var (
	ErrFull   = errors.New("queue is full")
	ErrClosed = errors.New("queue is closed")
)
