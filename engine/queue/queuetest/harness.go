package queuetest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Harness tells the suite how to make a driver's queues and what the driver declares.
type Harness struct {
	Partitions order.Partitions // of every queue made: two of each kind at least

	New    func(t *testing.T) queue.Queue                // a fresh, empty queue
	Reopen func(t *testing.T, q queue.Queue) queue.Queue // closes q as a process that ends would, and opens what it stored

	Patience time.Duration // how long to wait for what must come next; default 30 s
	Quiet    time.Duration // how long to watch that nothing comes; default 50 ms
	Small    int           // number of messages of the test with many small ones; default 100,000

	ExactAcks    bool // after a Close in good order nothing acknowledged comes again, and nothing comes twice without cause
	ExactBacklog bool // Backlog.Messages is exact at rest
	BacklogAge   bool // Backlog.Oldest is known
	OneConsumer  bool // a second consumer of a kind gets nothing while the first lives
}

// Run runs the whole suite. Its tests run in parallel, each on queues of its own.
func Run(t *testing.T, h Harness) {
	if h.Partitions.Normal < 2 || h.Partitions.Flash < 2 {
		t.Fatal("the suite needs two partitions of each kind")
	}
	if h.Patience == 0 {
		h.Patience = 30 * time.Second
	}
	if h.Quiet == 0 {
		h.Quiet = 50 * time.Millisecond
	}
	if h.Small == 0 {
		h.Small = 100_000
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), h.Patience*10)
			defer cancel()
			test(&world{T: t, Harness: h, ctx: ctx})
		})
	}
}

var tests = map[string]func(*world){
	"OrderPerPartition":      testOrderPerPartition,
	"OrderPerPublisher":      testOrderPerPublisher,
	"ManyPublishers":         testManyPublishers,
	"ManySmall":              testManySmall,
	"Sizes":                  testSizes,
	"BodiesAreCopies":        testBodiesAreCopies,
	"Limits":                 testLimits,
	"Durable":                testDurable,
	"PositionsGrow":          testPositionsGrow,
	"UnackedComeBack":        testUnackedComeBack,
	"UnackedSurviveReopen":   testUnackedSurviveReopen,
	"CumulativeAck":          testCumulativeAck,
	"OldAckIsIgnored":        testOldAckIsIgnored,
	"ConsumerStopsAcking":    testConsumerStopsAcking,
	"HandOver":               testHandOver,
	"ManyLives":              testManyLives,
	"KindsAreApart":          testKindsAreApart,
	"ReceiveIsCancelled":     testReceiveIsCancelled,
	"PublishIsCancelled":     testPublishIsCancelled,
	"ConsumerIsClosed":       testConsumerIsClosed,
	"QueueIsClosed":          testQueueIsClosed,
	"CloseWhilePublishing":   testCloseWhilePublishing,
	"Bury":                   testBury,
	"DeadLetters":            testDeadLetters,
	"Backlog":                testBacklog,
	"Identity":               testIdentity,
	"UnknownPartitionOrKind": testUnknownPartitionOrKind,
}

// world is one test's view of the driver.
type world struct {
	*testing.T
	Harness
	ctx context.Context
}

func (w *world) open() queue.Queue {
	w.Helper()
	q := w.New(w.T)
	w.Cleanup(func() { _ = q.Close() })
	return q
}

func (w *world) reopen(q queue.Queue) queue.Queue {
	w.Helper()
	q = w.Reopen(w.T, q)
	w.Cleanup(func() { _ = q.Close() })
	return q
}

// normal and flash are partitions of the two kinds.
func (w *world) normal(i int) order.Partition { return w.Partitions.Each(order.Normal)[i] }
func (w *world) flash(i int) order.Partition  { return w.Partitions.Each(order.Flash)[i] }

func (w *world) all() []order.Partition {
	return slices.Concat(w.Partitions.Each(order.Normal), w.Partitions.Each(order.Flash))
}

// message is what the tests publish: who published it, the how manieth of that publisher it is, and padding.
func message(publisher string, n, size int) []byte {
	m := fmt.Sprintf("%s/%d/", publisher, n)
	return []byte(m + strings.Repeat("x", max(0, size-len(m))))
}

func parse(body []byte) (publisher string, n int, err error) {
	parts := strings.SplitN(string(body), "/", 3)
	if len(parts) != 3 {
		return "", 0, fmt.Errorf("%.40q is no message of this test", body)
	}
	n, err = strconv.Atoi(parts[1])
	return parts[0], n, err
}

func (w *world) publish(q queue.Queue, p order.Partition, publisher string, from, to int) {
	w.Helper()
	for n := from; n < to; n++ {
		if err := q.Publish(w.ctx, p, message(publisher, n, 0)); err != nil {
			w.Fatalf("publish %s/%d: %v", publisher, n, err)
		}
	}
}

func (w *world) consumer(q queue.Queue, kind order.Kind) queue.Consumer {
	w.Helper()
	c, err := q.Consumer(w.ctx, kind)
	if err != nil {
		w.Fatal("consumer: ", err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) ack(c queue.Consumer, p order.Partition, position uint64) {
	w.Helper()
	if err := c.Ack(w.ctx, p, position); err != nil {
		w.Fatalf("ack of %d: %v", position, err)
	}
}

func (w *world) closeConsumer(c queue.Consumer) {
	w.Helper()
	if err := c.Close(); err != nil {
		w.Fatal("close of a consumer: ", err)
	}
}
