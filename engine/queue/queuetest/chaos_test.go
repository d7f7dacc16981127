package queuetest_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/queuetest"
	"sluice/engine/queue/sqlitequeue"
)

var partitions = order.Partitions{Normal: 2, Flash: 2}

func open(t *testing.T, path string) queue.Queue {
	t.Helper()
	q, err := sqlitequeue.Open(t.Context(), sqlitequeue.Options{Path: path, Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

// A queue that repeats is still a legal queue: the suite must say so.
func TestSuiteAllowsRepeats(t *testing.T) {
	var paths sync.Map
	at := func(t *testing.T, path string) queue.Queue {
		q := queuetest.NewChaos(open(t, path), queuetest.Plan{
			Seed: 7, Duplicate: 0.1, DuplicateLater: 0.05, Replay: 0.01, Delay: 0.01, DelayMax: time.Millisecond,
		})
		paths.Store(q, path)
		return q
	}
	queuetest.Run(t, queuetest.Harness{
		Partitions: partitions,
		Small:      5000,
		New:        func(t *testing.T) queue.Queue { return at(t, filepath.Join(t.TempDir(), "queue.db")) },
		Reopen: func(t *testing.T, q queue.Queue) queue.Queue {
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			path, _ := paths.Load(q)
			return at(t, path.(string))
		},
	})
}

// Whatever the plan does: nil means delivered, ErrFull and FailBefore mean not stored, first deliveries are in order,
// and every kind of fault happens.
func TestChaos(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			plan := queuetest.Stormy(seed)
			plan.DelayMax = time.Millisecond
			testChaos(t, queuetest.NewChaos(open(t, filepath.Join(t.TempDir(), "queue.db")), plan))
		})
	}
}

func testChaos(t *testing.T, q *queuetest.Chaos) {
	const messages = 300
	p := partitions.Each(order.Flash)[1]
	var accepted, refused []int
	for n := range messages {
		switch err := q.Publish(t.Context(), p, []byte(strconv.Itoa(n))); {
		case err == nil:
			accepted = append(accepted, n)
		case errors.Is(err, queue.ErrFull):
			refused = append(refused, n)
		case !errors.Is(err, queuetest.ErrChaos):
			t.Fatal(err)
		}
	}
	c, err := q.Consumer(t.Context(), order.Flash)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	came := map[int]int{}
	for highest := -1; highest < accepted[len(accepted)-1]; {
		got, err := c.Receive(t.Context(), 16, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range got {
			n, err := strconv.Atoi(string(d.Body))
			if err != nil {
				t.Fatal(err)
			}
			if came[n]++; came[n] == 1 && n < highest {
				t.Errorf("%d came first after %d", n, highest)
			}
			highest = max(highest, n)
			if err := c.Ack(t.Context(), p, d.Position); err != nil {
				t.Errorf("ack of %d: %v", d.Position, err)
			}
		}
	}
	for _, n := range accepted {
		if came[n] == 0 {
			t.Errorf("%d was accepted and did not come", n)
		}
	}
	for _, n := range refused {
		if came[n] > 0 {
			t.Errorf("%d was refused and came", n)
		}
	}
	faults := q.Faults()
	for _, name := range strings.Fields("FailBefore Full FailAfter PublishTwice Duplicate DuplicateLater Replay Delay") {
		if faults[name] == 0 {
			t.Errorf("no %s happened: %v", name, faults)
		}
	}
}
