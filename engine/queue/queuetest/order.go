package queuetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"sluice/engine/order"
	"sluice/engine/queue"
)

func testOrderPerPartition(w *world) {
	q := w.open()
	const each = 100
	normal, flash := w.inbox(w.consumer(q, order.Normal)), w.inbox(w.consumer(q, order.Flash))
	var publishers sync.WaitGroup
	for _, p := range w.all() {
		publishers.Go(func() {
			for n := range each {
				if err := q.Publish(w.ctx, p, message("one", n, 0)); err != nil {
					w.Errorf("publish: %v", err)
				}
			}
		})
	}
	normal.until(each * w.Partitions.Normal)
	flash.until(each * w.Partitions.Flash)
	publishers.Wait()
	for _, in := range []*inbox{normal, flash} {
		in.quiet()
		in.ackAll()
	}
}

// Several publishers of one partition: each one's messages stay in its order, whoever commits them.
func testOrderPerPublisher(w *world) {
	q := w.open()
	const publishers, each = 16, 60
	in := w.inbox(w.consumer(q, order.Flash))
	var work sync.WaitGroup
	for i := range publishers {
		work.Go(func() {
			for n := range each {
				if err := q.Publish(w.ctx, w.flash(i%2), message(fmt.Sprint("p", i), n, 0)); err != nil {
					w.Errorf("publish: %v", err)
				}
			}
		})
	}
	in.until(publishers * each)
	work.Wait()
	in.quiet()
}

func testManyPublishers(w *world) {
	q := w.open()
	const publishers, each = 4, 30
	var work sync.WaitGroup
	for _, p := range w.all() {
		for i := range publishers {
			work.Go(func() {
				for n := range each {
					if err := q.Publish(w.ctx, p, message(fmt.Sprint(i), n, 700)); err != nil {
						w.Errorf("publish: %v", err)
					}
				}
			})
		}
	}
	work.Wait()
	w.inbox(w.consumer(q, order.Normal)).until(publishers * each * w.Partitions.Normal).ackAll().quiet()
	w.inbox(w.consumer(q, order.Flash)).until(publishers * each * w.Partitions.Flash).ackAll().quiet()
}

func testManySmall(w *world) {
	q := w.open()
	const publishers = 64
	each := (w.Small + publishers - 1) / publishers
	in := w.inbox(w.consumer(q, order.Normal))
	in.max = 1000
	var work sync.WaitGroup
	for i := range publishers {
		work.Go(func() {
			for n := range each {
				if err := q.Publish(w.ctx, w.normal(i%2), message(fmt.Sprint(i), n, 0)); err != nil {
					w.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	for len(in.first) < each*publishers {
		if err := in.receive(w.ctx); err != nil {
			w.Fatalf("%d messages came, then: %v", len(in.first), err)
		}
		in.ackAll()
	}
	work.Wait()
	in.quiet()
}

func testSizes(w *world) {
	q := w.open()
	c := w.consumer(q, order.Normal)
	p := w.normal(0)
	for _, size := range []int{1, 2, 17, 489, 4061, 4096, 8191, 8192, 65_535, 100_000, queue.MessageMax - 1, queue.MessageMax} {
		want := bytes.Repeat([]byte{byte(size), 0, 0xff, 7}, size/4+1)[:size]
		if err := q.Publish(w.ctx, p, want); err != nil {
			w.Fatalf("publish %d bytes: %v", size, err)
		}
		ctx, cancel := context.WithTimeout(w.ctx, w.Patience)
		for found := false; !found; { // repeats of earlier ones may come first
			got, err := c.Receive(ctx, 10, queue.MessageMax)
			if err != nil {
				w.Fatalf("a message of %d bytes: %v", size, err)
			}
			for _, d := range got {
				found = found || bytes.Equal(d.Body, want)
				w.ack(c, p, d.Position)
			}
		}
		cancel()
	}
	if err := q.Publish(w.ctx, p, make([]byte, queue.MessageMax+1)); err == nil {
		w.Error("a message above MessageMax was accepted")
	}
}

// The queue keeps nothing of what it is given, and what it gives is the caller's.
func testBodiesAreCopies(w *world) {
	q := w.open()
	p := w.flash(1)
	in := w.inbox(w.consumer(q, order.Flash))
	for n := range 20 {
		m := message("one", n, 50)
		if err := q.Publish(w.ctx, p, m); err != nil {
			w.Fatal(err)
		}
		clear(m)
		in.until(n + 1)
		clear(in.first[n].Body)
	}
	w.closeConsumer(in.c)
	w.inbox(w.consumer(q, order.Flash)).until(20)
}

func testLimits(w *world) {
	q := w.open()
	for n := range 40 {
		if err := q.Publish(w.ctx, w.normal(n%2), message("one", n/2, 1000)); err != nil {
			w.Fatal(err)
		}
	}
	c := w.consumer(q, order.Normal)
	in := w.inbox(c)
	in.max = 3
	in.await(func() bool { return len(in.first) >= 20 })
	for len(in.first) < 40 {
		got, err := c.Receive(w.ctx, 100, 4500)
		if err != nil {
			w.Fatal(err)
		}
		size := 0
		for _, d := range got {
			size += len(d.Body)
			in.book(d)
		}
		if size > 4500+1000 {
			w.Errorf("a receive of 4500 bytes returned %d", size)
		}
	}
	in.quiet()
}

// A kind whose consumer does nothing, with a backlog, does not delay the other kind.
func testKindsAreApart(w *world) {
	q := w.open()
	w.consumer(q, order.Flash)
	normal := w.inbox(w.consumer(q, order.Normal))
	for n := range 30 {
		if err := q.Publish(w.ctx, w.flash(n%2), message("flash", n/2, 500_000)); err != nil {
			w.Fatal(err)
		}
	}
	for n := range 20 {
		w.publish(q, w.normal(0), "one", n, n+1)
		normal.until(n + 1)
	}
	for _, d := range normal.first {
		if w.Partitions.Kind(d.Partition) != order.Normal {
			w.Errorf("the consumer of normal orders got a message of partition %d", d.Partition)
		}
	}
	normal.quiet()
}

func testUnknownPartitionOrKind(w *world) {
	q := w.open()
	none := order.Partition(w.Partitions.Count())
	if err := q.Publish(w.ctx, none, []byte("x")); err == nil {
		w.Error("published on a partition that does not exist")
	}
	if _, err := q.Backlog(w.ctx, none); err == nil {
		w.Error("the backlog of a partition that does not exist is known")
	}
	if c, err := q.Consumer(w.ctx, 0); err == nil {
		_ = c.Close()
		w.Error("consumed a kind that does not exist")
	}
	c := w.consumer(q, order.Normal)
	if err := c.Ack(w.ctx, w.flash(0), 1); err == nil {
		w.Error("a consumer of normal orders acknowledged on a flash partition")
	}
}
