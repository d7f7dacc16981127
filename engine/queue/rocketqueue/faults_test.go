package rocketqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/internal/rocketmqtest"
)

// TestFaults does to a broker of its own what happens to brokers.
func TestFaults(t *testing.T) {
	t.Parallel()
	nameServer(t)
	r := rocketmqtest.Start(t, "serverChannelMaxIdleTimeSeconds=15")
	o := func(t *testing.T) Options {
		o := options(t)
		o.NameServers = []string{r.NameServer.Addr}
		return o
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *rocketmqtest.RocketMQ, Options)
		slow bool
	}{
		{"BrokerKilled", testBrokerKilled, false},
		{"BrokerPaused", testBrokerPaused, false},
		{"NameServerGone", testNameServerGone, true},
		{"LogLosesItsEnd", testLogLosesItsEnd, false},
		{"BodyDamaged", testBodyDamaged, false},
		{"ConsumerFrozen", testConsumerFrozen, true},
		{"BrokerTakesSmallOnes", testBrokerTakesSmallOnes, false},
	} {
		if !test.slow || !testing.Short() {
			t.Run(test.name, func(t *testing.T) { test.run(t, r, o(t)) })
		}
	}
}

// patience bounds what must come.
const patience = 90 * time.Second

// receive receives until done says so, and acknowledges nothing.
func receive(t *testing.T, c queue.Consumer, done func(got []queue.Delivery) bool) (all []queue.Delivery) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !done(all) {
		got, err := c.Receive(ctx, 100, 1<<20)
		if ctx.Err() != nil {
			t.Fatalf("%d messages came, then no more: %q", len(all), texts(all))
		}
		if err != nil {
			t.Log("receive: ", err)
		}
		all = append(all, got...)
	}
	return all
}

func texts(list []queue.Delivery) (texts []string) {
	for i := range list {
		texts = append(texts, string(list[i].Body))
	}
	return texts
}

// has tells whether all of the texts have come.
func has(want ...string) func([]queue.Delivery) bool {
	return func(got []queue.Delivery) bool {
		came := texts(got)
		return !slices.ContainsFunc(want, func(text string) bool { return !slices.Contains(came, text) })
	}
}

func numbered(name string, from, to int) (texts []string) {
	for n := from; n < to; n++ {
		texts = append(texts, fmt.Sprintf("%s/%d.", name, n))
	}
	return texts
}

func consume(t *testing.T, q *Queue, kind order.Kind) queue.Consumer {
	t.Helper()
	c, err := q.Consumer(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A broker that is killed under load and comes back has lost nothing that was answered with nil, publishers and consumers
// go on by themselves, and first deliveries are in order.
func testBrokerKilled(t *testing.T, r *rocketmqtest.RocketMQ, o Options) {
	q := open(t, o)
	c := consume(t, q, order.Normal)
	parts := partitions.Each(order.Normal)
	stop := publishNumbers(t, q, parts)
	next := map[order.Partition]int{}
	book := func(got []queue.Delivery) {
		for _, d := range got {
			var n int
			if _, err := fmt.Sscan(string(d.Body), &n); err != nil || n > next[d.Partition] {
				t.Fatalf("partition %d delivered %q, %d was next: %v", d.Partition, d.Body, next[d.Partition], err)
			}
			next[d.Partition] = max(next[d.Partition], n+1)
			if err := c.Ack(t.Context(), d.Partition, d.Position); err != nil {
				t.Fatal(err)
			}
		}
	}
	until := func(what string, done func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for !done() {
			got, err := c.Receive(ctx, 100, 1<<20)
			if ctx.Err() != nil {
				t.Fatalf("%s: not before %v", what, next)
			}
			if err != nil {
				t.Log("receive: ", err)
			}
			book(got)
		}
	}
	until("at first", func() bool { return !slices.ContainsFunc(parts, func(p order.Partition) bool { return next[p] < 100 }) })
	r.Broker.Kill()
	r.Broker.Start()
	since, here := time.Now(), next[parts[0]]
	until("when it is back", func() bool { return next[parts[0]] > here+5 })
	t.Logf("deliveries go on %v after the broker", time.Since(since))
	published := stop()
	until("the rest", func() bool {
		for i, p := range parts {
			if next[p] < published[i] {
				return false
			}
		}
		return true
	})
}

// publishNumbers publishes ascending numbers on each partition, each until the answer is nil. stop says how many it were.
func publishNumbers(t *testing.T, q *Queue, parts []order.Partition) (stop func() []int) {
	ended := make(chan struct{})
	var work sync.WaitGroup
	published := make([]int, len(parts))
	for i, p := range parts {
		work.Go(func() {
			for n := 0; ; n++ {
				for q.Publish(t.Context(), p, fmt.Appendf(nil, "%d", n)) != nil && t.Context().Err() == nil {
					_ = pause(t.Context(), 50*time.Millisecond)
				}
				published[i] = n + 1
				select {
				case <-ended:
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	}
	return func() []int {
		close(ended)
		work.Wait()
		return published
	}
}

// A send that runs out of time is unknown: here it was stored, and comes.
func testBrokerPaused(t *testing.T, r *rocketmqtest.RocketMQ, o Options) {
	q := open(t, o)
	c := consume(t, q, order.Flash)
	p := partitions.Each(order.Flash)[0]
	publish(t, q, p, "before")
	receive(t, c, has("before"))
	r.Broker.Pause()
	var work sync.WaitGroup
	for _, text := range []string{"late 1", "late 2"} {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := q.Publish(ctx, p, []byte(text)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("publish to a paused broker: %v", err)
			}
		})
	}
	work.Wait()
	r.Broker.Resume()
	receive(t, c, has("late 1", "late 2"))
	publish(t, q, p, "after")
	receive(t, c, has("after"))
}

// Without name servers everything goes on, and consumers join. A topic that a new one does not know yet, and the broker has,
// is not made anew with other numbers.
func testNameServerGone(t *testing.T, r *rocketmqtest.RocketMQ, o Options) {
	q := open(t, o)
	p := partitions.Each(order.Normal)[1]
	c := consume(t, q, order.Normal)
	publish(t, q, p, "a")
	receive(t, c, has("a"))
	r.NameServer.Kill()
	publish(t, q, p, "b")
	receive(t, c, has("b"))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	publish(t, q, p, "c")
	receive(t, consume(t, q, order.Normal), has("a", "b", "c"))
	if b, err := q.Backlog(t.Context(), p); err != nil || b.Messages != 3 {
		t.Errorf("the backlog is %+v, %v", b, err)
	}
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "name server") {
		t.Errorf("opened without a name server: %v", err)
	}
	r.NameServer.Start() // the broker tells it of its topics within ten seconds
	o.Partitions.Normal++
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "has 3 queues, engine.partitions.normal says 4") {
		t.Errorf("opened with other partitions: %v", err)
	}
}

// A log that has lost its end gives the same offsets again: whoever consumed beyond them must not miss what gets them now.
// On one partition nobody consumes meanwhile, everything being acknowledged; on the other the consumer lives on, and has
// acknowledged the half.
func testLogLosesItsEnd(t *testing.T, r *rocketmqtest.RocketMQ, o Options) {
	q := open(t, o)
	gone, lives := partitions.Each(order.Flash)[1], partitions.Each(order.Normal)[0]
	text := func(p order.Partition) string { return fmt.Sprintf("%s-%d-old", o.Name, p) }
	for from := 0; from < 20; from += 15 {
		for _, p := range []order.Partition{gone, lives} {
			publish(t, q, p, numbered(text(p), from, min(from+15, 20))...)
		}
	}
	c, living := consume(t, q, order.Flash), consume(t, q, order.Normal)
	last := receive(t, c, has(numbered(text(gone), 0, 20)...))[19]
	if err := errors.Join(c.Ack(t.Context(), gone, last.Position), c.Close()); err != nil {
		t.Fatal(err)
	}
	before := receive(t, living, has(numbered(text(lives), 0, 20)...))
	if err := living.Ack(t.Context(), lives, before[9].Position); err != nil {
		t.Fatal(err)
	}
	at := o.place(gone)
	r.AwaitOffset(at.topic, at.group, at.queue, 20)
	r.Broker.Kill()
	r.LoseFrom(numbered(text(gone), 15, 16)[0])
	r.Broker.Start()

	again := numbered("new", 0, 8)
	publish(t, q, gone, again...)
	publish(t, q, lives, again...)
	expect := func(what string, c queue.Consumer, behind uint64) {
		t.Helper()
		got := receive(t, c, has(again[len(again)-1]))
		if !slices.Equal(texts(got), again) || got[0].Position <= behind {
			t.Errorf("%s: %q came from position %d on, want %q behind %d", what, texts(got), got[0].Position, again, behind)
		}
	}
	expect("a new consumer", consume(t, q, order.Flash), last.Position)
	expect("the one that lived on", living, before[19].Position)
	// What the broker has lost this consumer has stored. It covers nothing that came later.
	if err := errors.Join(living.Ack(t.Context(), lives, before[19].Position), living.Close()); err != nil {
		t.Fatal(err)
	}
	expect("the next one", consume(t, q, order.Normal), before[19].Position)
}

// A body that was damaged in the broker's log is delivered as it is: who decodes it finds out.
func testBodyDamaged(t *testing.T, r *rocketmqtest.RocketMQ, o Options) {
	q := open(t, o)
	p := partitions.Each(order.Normal)[0]
	text := fmt.Sprintf("%x", o.Name)
	body := order.AppendBatch(nil, p, 7, 1, []byte(text))
	publish(t, q, p, string(body))
	r.Deface(text)
	got := receive(t, consume(t, q, order.Normal), func(got []queue.Delivery) bool { return len(got) > 0 })
	if _, err := order.DecodeMessage(got[0].Body); !errors.Is(err, order.ErrDamaged) || len(got[0].Body) != len(body) {
		t.Errorf("%q came, which decodes with %v", got[0].Body, err)
	}
}
