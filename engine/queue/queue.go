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
	"fmt"
	"math"
	"strconv"
	"strings"
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

	// Letters lists at most limit dead letters behind after, in ascending order of their ids: everything that was buried
	// and not dropped, by whatever process. The zero id is before all of them.
	Letters(ctx context.Context, after LetterID, limit int) ([]Letter, error)

	// Drop deletes a dead letter, durably; one that is not there is no error. The log of its partition stays as it is.
	Drop(ctx context.Context, id LetterID) error

	// Backlog is the number of messages of a partition that are not acknowledged and, if the driver knows it, the age
	// of the oldest.
	Backlog(ctx context.Context, p order.Partition) (Backlog, error)

	// Identity names this queue among all others, for as long as it exists: at most 200 visible ASCII characters. A deployment
	// keeps to the one that it began with, because accepted orders lie in it. It does no I/O.
	Identity() string

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

// LetterID names a dead letter: the place in which it was delivered. Ids are ordered by partition, then position.
type LetterID struct {
	Partition order.Partition
	Position  uint64
}

// String is "partition-position".
func (id LetterID) String() string { return fmt.Sprintf("%d-%d", id.Partition, id.Position) }

// ParseLetterID reads what LetterID.String writes; ok is false for anything else.
func ParseLetterID(s string) (id LetterID, ok bool) {
	p, position, _ := strings.Cut(s, "-")
	number, err := strconv.ParseUint(p, 10, 32)
	if err != nil {
		return LetterID{}, false
	}
	id.Partition = order.Partition(number)
	id.Position, err = strconv.ParseUint(position, 10, 64)
	return id, err == nil && id.String() == s
}

// Letter is a dead letter: a message as it was delivered, and why and when it was buried.
type Letter struct {
	Delivery
	At     time.Time
	Reason string
}

// ID is the name of the letter.
func (l *Letter) ID() LetterID { return LetterID{l.Partition, l.Position} }

// FindLetter reads one dead letter; nil if it is not there.
func FindLetter(ctx context.Context, q Queue, id LetterID) (*Letter, error) {
	before := id
	if before.Position > 0 {
		before.Position--
	} else if before.Partition > 0 {
		before = LetterID{before.Partition - 1, math.MaxUint64}
	}
	letters, err := q.Letters(ctx, before, 1)
	if err != nil || len(letters) == 0 || letters[0].ID() != id {
		return nil, err
	}
	return &letters[0], nil
}

// Backlog describes what waits in a partition.
type Backlog struct {
	Messages int64
	Oldest   time.Duration // age of the oldest, 0 if none or not known
}

// MessageMax bounds one message: a full batch with its envelope, below the 1 MiB that RocketMQ serves well.
const MessageMax = 1 << 20

// ErrFull says that there is no room: the message was not stored. ErrClosed says that the queue or consumer was closed.
// ErrNoLetter is for whoever looks for a dead letter that is not there; drivers do not return it.
var (
	ErrFull     = errors.New("queue is full")
	ErrClosed   = errors.New("queue is closed")
	ErrNoLetter = errors.New("there is no such dead letter")
)
