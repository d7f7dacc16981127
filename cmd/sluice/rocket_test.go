package main

import (
	"crypto/rand"
	"strings"
	"testing"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/lifecycle/feed"
	"sluice/lifecycle/feed/feedtest"
	"sluice/persist/store"
)

// ownRocketMQ is onRocketMQ with a name that nobody else has.
func ownRocketMQ(t *testing.T) []string {
	t.Helper()
	return onRocketMQ(t, "test-"+strings.ToLower(rand.Text()))
}

// TestRocketMQ runs orders through RocketMQ: they are stored, a restart goes on, and a damaged message becomes a dead letter
// of the store, which holds nothing up.
func TestRocketMQ(t *testing.T) {
	t.Parallel()
	set, dir := ownRocketMQ(t), t.TempDir()
	s, stop := open(t, dir, set...)
	s.set = set
	offer := s.offer("flash", 100, 2)
	buy := func(from, to int) {
		for user := from; user < to; user++ {
			s.must(201, "POST", s.gateway+"/v1/orders?wait=10", s.token(order.UserID(user)), line(offer, 1), "Idempotency-Key", "k")
		}
	}
	buy(1, 9)
	s.remaining(offer, "92")
	s.audited(true)
	stop()

	s, stop = open(t, dir, set...)
	s.set = set
	buy(20, 24)
	publishGarbage(t, dir, set)
	var id string
	if !await(func() bool {
		out, _, err := cli(t, s, "deadletter", "list")
		if i := strings.Index(out, "0-"); err == nil && i >= 0 {
			id = strings.Fields(out[i:])[0]
		}
		return id != ""
	}) {
		t.Fatal("the damaged message was not buried")
	}
	buy(30, 34)
	s.remaining(offer, "84")
	if out, _, err := cli(t, s, "deadletter", "show", id); err != nil || !strings.Contains(out, "damaged") {
		t.Errorf("the letter: %v\n%s", err, out)
	}
	if _, errs, err := cli(t, s, "deadletter", "drop", "--yes", id); err != nil {
		t.Errorf("drop: %v %s", err, errs)
	}
	s.audited(true)
	stop()
	s.audited(false)
}

// publishGarbage puts a message that is none of ours into the queue of partition 0.
func publishGarbage(t *testing.T, dir string, set []string) {
	t.Helper()
	q := rocketMQ(t, dir, set)
	if err := q.Publish(t.Context(), 0, []byte("not a batch")); err != nil {
		t.Fatal(err)
	}
}

// rocketMQ opens the queue of a deployment, which is closed with the test. It buries nothing.
func rocketMQ(t *testing.T, dir string, set []string) queue.Queue {
	t.Helper()
	c, d := config(t, dir, set...)
	q, err := d.openQueue(t.Context(), c, &store.Store{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

// TestFeedOnRocketMQ runs the suite of feeds on the topic NAME-order-events.
func TestFeedOnRocketMQ(t *testing.T) {
	t.Parallel()
	ownRocketMQ(t)
	feedtest.Run(t, func(t *testing.T, _ *store.Store) feedtest.Feed {
		p := publisher(rocketMQ(t, t.TempDir(), ownRocketMQ(t)))
		return feedtest.Feed{Publisher: p, Read: func(t *testing.T, shard int) (all []order.Event) {
			bodies, err := p.(eventTopic).Read(t.Context(), shard)
			if err != nil {
				t.Fatal(err)
			}
			for _, body := range bodies {
				events, err := feed.Events(body)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, events...)
			}
			return all
		}}
	})
}

// TestCheckRocketMQ: the check and a start say the same.
func TestCheckRocketMQ(t *testing.T) {
	t.Parallel()
	set := ownRocketMQ(t)
	const missing = "does not exist yet: the first start makes it, with 4 queues"
	if lines, ok := looked(t, t.TempDir(), set...); !ok || !strings.Contains(strings.Join(lines, "\n"), missing) {
		t.Errorf("%v %q", ok, lines)
	}
	_, stop := open(t, t.TempDir(), set...)
	stop()
	if lines, ok := looked(t, t.TempDir(), set...); !ok || !strings.Contains(strings.Join(lines, "\n"), "-orders-flash: 4 queues on broker ") {
		t.Errorf("%v %q", ok, lines)
	}
	refuses(t, "has 4 queues, engine.partitions.flash says 2: it cannot change", append(set, "engine.partitions.flash=2")...)
	refuses(t, "engine.max_queue_age, 9000h0m0s, may be half of that at most", append(set, "engine.max_queue_age=9000h")...)
	refuses(t, "is it running, and is queue.rocketqueue.name_servers right?", append(set, "queue.rocketqueue.name_servers=127.0.0.1:1")...)
}
