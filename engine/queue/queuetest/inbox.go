package queuetest

import (
	"context"
	"errors"
	"maps"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// stream names the messages of one publisher on one partition.
type stream struct {
	p         order.Partition
	publisher string
}

// inbox receives, from one consumer after the other, and holds what the contract says about first deliveries: in order
// per publisher and partition, nothing left out, positions growing.
type inbox struct {
	w        *world
	c        queue.Consumer
	max      int
	first    []queue.Delivery           // first deliveries
	next     map[stream]int             // number of the next first delivery
	position map[order.Partition]uint64 // of the last first delivery
	life     map[stream]map[int]int     // times that each number came since the consumer joined
	highest  map[order.Partition]uint64 // position that came since the consumer joined
}

func (w *world) inbox(c queue.Consumer) *inbox {
	in := &inbox{w: w, max: 256, next: map[stream]int{}, position: map[order.Partition]uint64{}}
	return in.join(c)
}

// join goes on with another consumer.
func (in *inbox) join(c queue.Consumer) *inbox {
	in.c, in.life, in.highest = c, map[stream]map[int]int{}, map[order.Partition]uint64{}
	return in
}

// receive makes one call and books it.
func (in *inbox) receive(ctx context.Context) error {
	in.w.Helper()
	got, err := in.c.Receive(ctx, in.max, 4<<20)
	if err != nil {
		return err
	}
	if len(got) == 0 || len(got) > in.max {
		in.w.Errorf("a receive of at most %d returned %d", in.max, len(got))
	}
	for _, d := range got {
		in.book(d)
	}
	return nil
}

func (in *inbox) book(d queue.Delivery) {
	in.w.Helper()
	publisher, n, err := parse(d.Body)
	if err != nil {
		in.w.Fatal(err)
	}
	s := stream{d.Partition, publisher}
	if in.life[s] == nil {
		in.life[s] = map[int]int{}
	}
	in.life[s][n]++
	in.highest[s.p] = max(in.highest[s.p], d.Position)
	next := in.next[s]
	if n < next {
		return
	}
	if n > next {
		in.w.Fatalf("partition %d delivered %s/%d, %s/%d did not come before", s.p, publisher, n, publisher, next)
	}
	if last := in.position[s.p]; d.Position <= last {
		in.w.Fatalf("partition %d: position %d of a first delivery is not behind %d", s.p, d.Position, last)
	}
	in.next[s] = n + 1
	in.position[s.p] = d.Position
	in.first = append(in.first, d)
}

// until receives until n first deliveries are there, and fails if there are more.
func (in *inbox) until(n int) *inbox {
	in.w.Helper()
	in.await(func() bool { return len(in.first) >= n })
	if len(in.first) > n {
		in.w.Fatalf("%d messages came, %d were published", len(in.first), n)
	}
	return in
}

// comeBack receives until numbers from <= n < to of a publisher have all come since the consumer joined. Of a driver
// with ExactAcks nothing below from may come.
func (in *inbox) comeBack(p order.Partition, publisher string, from, to int) *inbox {
	in.w.Helper()
	s := stream{p, publisher}
	in.await(func() bool {
		for n := from; n < to; n++ {
			if in.life[s][n] == 0 {
				return false
			}
		}
		return true
	})
	for n := range in.life[s] {
		if in.w.ExactAcks && n < from {
			in.w.Errorf("partition %d: %s/%d came again, it was acknowledged", p, publisher, n)
		}
	}
	return in
}

func (in *inbox) await(done func() bool) {
	in.w.Helper()
	for !done() {
		ctx, cancel := context.WithTimeout(in.w.ctx, in.w.Patience)
		err := in.receive(ctx)
		cancel()
		if err != nil {
			in.w.Fatalf("%d first deliveries came, %v since the consumer joined, then: %v", len(in.first), in.life, err)
		}
	}
}

// quiet checks that nothing new comes for a while, and that a driver with ExactAcks repeated nothing without cause.
func (in *inbox) quiet() *inbox {
	in.w.Helper()
	n := len(in.first)
	ctx, cancel := context.WithTimeout(in.w.ctx, in.w.Quiet)
	defer cancel()
	var err error
	for err == nil {
		err = in.receive(ctx)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		in.w.Errorf("receive on an empty queue: %v, want the error of its context", err)
	}
	if len(in.first) > n {
		in.w.Errorf("%d messages came that should not", len(in.first)-n)
	}
	for s, numbers := range in.life {
		for n, times := range numbers {
			if in.w.ExactAcks && times > 1 {
				in.w.Errorf("partition %d: %s/%d came %d times to one consumer", s.p, s.publisher, n, times)
			}
		}
	}
	return in
}

// ackAll acknowledges everything that came since the consumer joined.
func (in *inbox) ackAll() *inbox {
	in.w.Helper()
	for p, position := range maps.Clone(in.highest) {
		in.w.ack(in.c, p, position)
	}
	return in
}

// positionOf is the position of the first delivery of number n.
func (in *inbox) positionOf(p order.Partition, publisher string, n int) uint64 {
	in.w.Helper()
	for _, d := range in.first {
		if who, m, _ := parse(d.Body); d.Partition == p && who == publisher && m == n {
			return d.Position
		}
	}
	in.w.Fatalf("partition %d: %s/%d did not come", p, publisher, n)
	return 0
}
