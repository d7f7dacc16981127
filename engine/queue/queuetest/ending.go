package queuetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

func testReceiveIsCancelled(w *world) {
	q := w.open()
	in := w.inbox(w.consumer(q, order.Normal))
	ended, end := context.WithCancel(w.ctx)
	end()
	if _, err := in.c.Receive(ended, 10, 1000); !errors.Is(err, context.Canceled) {
		w.Errorf("receive with an ended context: %v", err)
	}
	for n := range 50 { // a cancelled receive loses nothing, wherever it stood
		ctx, cancel := context.WithTimeout(w.ctx, time.Duration(n)*100*time.Microsecond)
		var publishing sync.WaitGroup
		publishing.Go(func() {
			if err := q.Publish(w.ctx, w.normal(0), message("one", n, 0)); err != nil {
				w.Errorf("publish: %v", err)
			}
		})
		if err := in.receive(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("receive: %v, want its context's error", err)
		}
		cancel()
		publishing.Wait()
	}
	in.until(50).quiet()
}

// An error of Publish means unknown, nil means that it is there.
func testPublishIsCancelled(w *world) {
	q := w.open()
	p := w.flash(0)
	ended, end := context.WithCancel(w.ctx)
	end()
	if err := q.Publish(ended, p, []byte("x/0/")); !errors.Is(err, context.Canceled) {
		w.Errorf("publish with an ended context: %v", err)
	}
	const publishers, each = 12, 40
	var work sync.WaitGroup
	var accepted [publishers]map[int]bool
	for i := range publishers {
		accepted[i] = map[int]bool{}
		work.Go(func() {
			for n := range each {
				ctx, cancel := context.WithTimeout(w.ctx, time.Duration((n*7+i)%11)*150*time.Microsecond)
				err := q.Publish(ctx, w.flash(i%2), message(fmt.Sprint(i), n, 0))
				cancel()
				if err == nil {
					accepted[i][n] = true
				} else if !errors.Is(err, context.DeadlineExceeded) {
					w.Errorf("publish: %v, want its context's error", err)
				}
			}
		})
	}
	work.Wait()
	for _, p := range w.Partitions.Each(order.Flash) {
		w.publish(q, p, "last", 0, 1)
	}
	w.checkAccepted(q, accepted[:])
}

// checkAccepted receives flash messages until every accepted one and the message "last" of every partition are there.
func (w *world) checkAccepted(q queue.Queue, accepted []map[int]bool) {
	w.Helper()
	c := w.consumer(q, order.Flash)
	came := map[string]bool{}
	missing := func() (n int) {
		for i, numbers := range accepted {
			for m := range numbers {
				if !came[fmt.Sprint(i, "/", m)] {
					n++
				}
			}
		}
		return n
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.Patience)
	defer cancel()
	for last := 0; last < w.Partitions.Flash || missing() > 0; {
		got, err := c.Receive(ctx, 256, 1<<20)
		if err != nil {
			w.Fatalf("%d accepted messages did not come: %v", missing(), err)
		}
		for _, d := range got {
			publisher, n, err := parse(d.Body)
			if err != nil {
				w.Fatal(err)
			}
			if publisher == "last" {
				last++
			}
			came[fmt.Sprint(publisher, "/", n)] = true
		}
	}
}

func testConsumerIsClosed(w *world) {
	q := w.open()
	p := w.normal(0)
	in := w.inbox(w.consumer(q, order.Normal))
	w.publish(q, p, "one", 0, 1)
	in.until(1)
	waiting := make(chan error, 1)
	go func() {
		_, err := in.c.Receive(w.ctx, 10, 1000)
		waiting <- err
	}()
	w.closeConsumer(in.c)
	if err := <-waiting; !errors.Is(err, queue.ErrClosed) {
		w.Errorf("a receive that waits while its consumer is closed: %v", err)
	}
	if _, err := in.c.Receive(w.ctx, 10, 1000); !errors.Is(err, queue.ErrClosed) {
		w.Errorf("receive after close: %v", err)
	}
	if err := in.c.Ack(w.ctx, p, in.first[0].Position); !errors.Is(err, queue.ErrClosed) {
		w.Errorf("ack after close: %v", err)
	}
	w.closeConsumer(in.c) // closing twice does nothing
	in.join(w.consumer(q, order.Normal)).comeBack(p, "one", 0, 1)
}

func testQueueIsClosed(w *world) {
	q := w.open()
	w.publish(q, w.normal(0), "one", 0, 1)
	if err := q.Close(); err != nil {
		w.Fatal("close: ", err)
	}
	_, consumer := q.Consumer(w.ctx, order.Normal)
	_, backlog := q.Backlog(w.ctx, w.normal(0))
	_, letters := q.Letters(w.ctx, queue.LetterID{}, 1)
	for what, err := range map[string]error{
		"publish":  q.Publish(w.ctx, w.normal(0), []byte("x")),
		"consumer": consumer,
		"backlog":  backlog,
		"letters":  letters,
		"drop":     q.Drop(w.ctx, queue.LetterID{Partition: w.normal(0), Position: 1}),
		"bury":     q.Bury(w.ctx, queue.Delivery{Partition: w.normal(0), Position: 1, Body: []byte("x")}, "reason"),
	} {
		if !errors.Is(err, queue.ErrClosed) {
			w.Errorf("%s on a closed queue: %v", what, err)
		}
	}
	if err := q.Close(); err != nil {
		w.Errorf("second close: %v", err)
	}
}

// Publications that run while the queue is closed are stored or refused; those answered nil are there afterwards.
func testCloseWhilePublishing(w *world) {
	q := w.open()
	const publishers = 8
	var work sync.WaitGroup
	var accepted [publishers]map[int]bool
	var count atomic.Int64
	enough := make(chan struct{})
	for i := range publishers {
		accepted[i] = map[int]bool{}
		work.Go(func() {
			for n := 0; ; n++ {
				if err := q.Publish(w.ctx, w.flash(i%2), message(fmt.Sprint(i), n, 0)); err != nil {
					return
				}
				accepted[i][n] = true
				if count.Add(1) == 200 {
					close(enough)
				}
			}
		})
	}
	<-enough
	again := w.reopen(q) // q itself is what the publishers go on with
	work.Wait()
	for _, p := range w.Partitions.Each(order.Flash) {
		w.publish(again, p, "last", 0, 1)
	}
	w.checkAccepted(again, accepted[:])
}
