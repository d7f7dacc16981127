package queuetest

import (
	"cmp"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

func testDurable(w *world) {
	q := w.open()
	for _, p := range w.all() {
		w.publish(q, p, "one", 0, 25)
	}
	q = w.reopen(q)
	w.inbox(w.consumer(q, order.Flash)).until(25 * w.Partitions.Flash).quiet()
	w.inbox(w.consumer(q, order.Normal)).until(25 * w.Partitions.Normal).quiet()
}

// The inbox checks that positions grow; here everything is acknowledged before each restart, so that an empty queue
// must remember them.
func testPositionsGrow(w *world) {
	q := w.open()
	in := w.inbox(nil)
	for life := range 3 {
		in.join(w.consumer(q, order.Normal))
		w.publish(q, w.normal(1), "one", life*10, life*10+10)
		in.until(life*10 + 10).ackAll()
		w.closeConsumer(in.c)
		q = w.reopen(q)
	}
	in.join(w.consumer(q, order.Normal))
	in.quiet()
}

func testUnackedComeBack(w *world) {
	q := w.open()
	p := w.flash(0)
	in := w.inbox(w.consumer(q, order.Flash))
	w.publish(q, p, "one", 0, 20)
	in.until(20)
	w.ack(in.c, p, in.positionOf(p, "one", 7))
	in.quiet() // never by time alone
	w.closeConsumer(in.c)
	in.join(w.consumer(q, order.Flash))
	w.publish(q, p, "one", 20, 25)
	in.comeBack(p, "one", 8, 25).quiet()
}

func testUnackedSurviveReopen(w *world) {
	q := w.open()
	acked, kept := w.normal(0), w.normal(1)
	in := w.inbox(w.consumer(q, order.Normal))
	w.publish(q, acked, "one", 0, 30)
	w.publish(q, kept, "one", 0, 30)
	in.until(60)
	w.ack(in.c, acked, in.positionOf(acked, "one", 29))
	w.closeConsumer(in.c)
	q = w.reopen(q)
	w.publish(q, acked, "one", 30, 31)
	in.join(w.consumer(q, order.Normal)).comeBack(kept, "one", 0, 30).comeBack(acked, "one", 30, 31).quiet()
}

func testCumulativeAck(w *world) {
	q := w.open()
	p := w.normal(0)
	in := w.inbox(w.consumer(q, order.Normal))
	w.publish(q, p, "one", 0, 10)
	w.publish(q, w.normal(1), "other", 0, 5)
	in.until(15)
	w.ack(in.c, p, in.positionOf(p, "one", 9))
	w.closeConsumer(in.c)
	in.join(w.consumer(q, order.Normal)).comeBack(w.normal(1), "other", 0, 5)
	w.publish(q, p, "one", 10, 11)
	in.comeBack(p, "one", 10, 11).quiet()
}

func testOldAckIsIgnored(w *world) {
	q := w.open()
	p := w.flash(1)
	in := w.inbox(w.consumer(q, order.Flash))
	w.publish(q, p, "one", 0, 10)
	in.until(10)
	for _, n := range []int{7, 2, 7, 0} {
		w.ack(in.c, p, in.positionOf(p, "one", n))
	}
	w.closeConsumer(in.c)
	in.join(w.consumer(q, order.Flash)).comeBack(p, "one", 8, 10).quiet()
	w.ack(in.c, p, in.positionOf(p, "one", 1))
	w.closeConsumer(in.c)
	q = w.reopen(q)
	in.join(w.consumer(q, order.Flash)).comeBack(p, "one", 8, 10).quiet()
}

// A consumer that stops acknowledging still receives, and everything it did not acknowledge comes back.
func testConsumerStopsAcking(w *world) {
	q := w.open()
	p := w.flash(0)
	in := w.inbox(w.consumer(q, order.Flash))
	const each = 2000
	for n := range each {
		if err := q.Publish(w.ctx, p, message("one", n, 300)); err != nil {
			w.Fatal(err)
		}
		if n == each/2 {
			in.until(n + 1).ackAll()
		}
	}
	in.until(each)
	w.closeConsumer(in.c)
	in.join(w.consumer(q, order.Flash)).comeBack(p, "one", each/2+1, each).quiet()
}

// Two consumers of a kind: together they get everything; what the first did not acknowledge comes to the second when
// the first leaves, and the second serves every partition then.
func testHandOver(w *world) {
	q := w.open()
	first := w.consumer(q, order.Flash)
	in := w.inbox(first)
	w.publish(q, w.flash(0), "one", 0, 10)
	w.publish(q, w.flash(1), "one", 0, 10)
	in.until(20)
	w.ack(first, w.flash(1), in.positionOf(w.flash(1), "one", 9))
	second := w.consumer(q, order.Flash)
	if w.OneConsumer {
		w.inbox(second).quiet()
	} else {
		w.Log("the driver declares that consumers of a kind may share its partitions")
	}
	w.closeConsumer(first)
	in.join(second).comeBack(w.flash(0), "one", 0, 10)
	w.publish(q, w.flash(0), "one", 10, 20)
	w.publish(q, w.flash(1), "one", 10, 20)
	in.comeBack(w.flash(0), "one", 0, 20).comeBack(w.flash(1), "one", 10, 20).quiet()
}

// Many restarts at random moments of acknowledging lose nothing and keep the order.
func testManyLives(w *world) {
	q := w.open()
	rnd := rand.New(rand.NewPCG(1, 2))
	in := w.inbox(nil)
	published := 0
	ps := w.Partitions.Each(order.Normal)
	acked := make([]int, len(ps)) // per partition: numbers below it are acknowledged
	for range 6 {
		in.join(w.consumer(q, order.Normal))
		more := 5 + rnd.IntN(40)
		for _, p := range ps {
			w.publish(q, p, "one", published, published+more)
		}
		published += more
		for i, p := range ps {
			in.comeBack(p, "one", acked[i], published)
		}
		for i, p := range ps {
			if n := acked[i] + rnd.IntN(published-acked[i]+1); n > acked[i] {
				w.ack(in.c, p, in.positionOf(p, "one", n-1))
				acked[i] = n
			}
		}
		w.closeConsumer(in.c)
		if rnd.IntN(2) == 0 {
			q = w.reopen(q)
		}
	}
}

func testBury(w *world) {
	q := w.open()
	p := w.normal(1)
	in := w.inbox(w.consumer(q, order.Normal))
	w.publish(q, p, "one", 0, 3)
	in.until(3)
	bad := queue.Delivery{Partition: p, Position: in.first[1].Position, Body: in.first[1].Body}
	for range 2 { // a repeat may be buried again
		if err := q.Bury(w.ctx, bad, "it is damaged"); err != nil {
			w.Fatal("bury: ", err)
		}
	}
	w.closeConsumer(in.c)
	q = w.reopen(q)
	in.join(w.consumer(q, order.Normal)).comeBack(p, "one", 0, 3).ackAll() // burying acknowledges nothing
	letter, err := queue.FindLetter(w.ctx, q, queue.LetterID{Partition: p, Position: bad.Position})
	if err != nil || letter == nil || string(letter.Body) != string(bad.Body) || letter.Reason != "it is damaged" ||
		time.Since(letter.At).Abs() > w.Patience*10 {
		w.Errorf("message %d was buried and reads as %+v, %v", bad.Position, letter, err)
	}
}

// Dead letters are read page by page in order, over partitions and over lives of the queue, until they are dropped.
func testDeadLetters(w *world) {
	q := w.open()
	letters := func(after queue.LetterID, limit int) (ids []queue.LetterID) {
		w.Helper()
		list, err := q.Letters(w.ctx, after, limit)
		if err != nil {
			w.Fatal("letters: ", err)
		}
		for i := range list {
			ids = append(ids, list[i].ID())
		}
		return ids
	}
	if ids := letters(queue.LetterID{}, 10); len(ids) != 0 {
		w.Errorf("an empty queue has the dead letters %v", ids)
	}
	var want []queue.LetterID
	for _, p := range w.all() {
		for _, position := range []uint64{1, 2, 9} {
			want = append(want, queue.LetterID{Partition: p, Position: position})
		}
	}
	slices.SortFunc(want, func(a, b queue.LetterID) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Position, b.Position))
	})
	for i := range want {
		id := want[len(want)-1-i]
		if err := q.Bury(w.ctx, queue.Delivery{Partition: id.Partition, Position: id.Position, Body: []byte(id.String())}, "why"); err != nil {
			w.Fatal("bury: ", err)
		}
	}
	expect := func() {
		w.Helper()
		var got []queue.LetterID
		for page := letters(queue.LetterID{}, 2); len(page) > 0; page = letters(got[len(got)-1], 2) {
			got = append(got, page...)
		}
		if !slices.Equal(got, want) {
			w.Errorf("dead letters %v, want %v", got, want)
		}
	}
	expect()
	gone := want[1]
	for range 2 { // what is not there can be dropped
		if err := q.Drop(w.ctx, gone); err != nil {
			w.Fatal("drop: ", err)
		}
	}
	want = slices.Delete(want, 1, 2)
	expect()
	q = w.reopen(q)
	expect()
	for _, id := range want {
		l, err := queue.FindLetter(w.ctx, q, id)
		if err != nil || l == nil || string(l.Body) != id.String() {
			w.Errorf("letter %s: %+v, %v", id, l, err)
		}
	}
	if l, err := queue.FindLetter(w.ctx, q, gone); l != nil || err != nil {
		w.Errorf("the dropped letter: %+v, %v", l, err)
	}
}

func testBacklog(w *world) {
	q := w.open()
	p := w.flash(0)
	w.backlog(q, p, 0)
	w.publish(q, p, "one", 0, 12)
	w.backlog(q, p, 12)
	w.backlog(q, w.flash(1), 0)
	in := w.inbox(w.consumer(q, order.Flash)).until(12)
	w.backlog(q, p, 12)
	w.ack(in.c, p, in.positionOf(p, "one", 6))
	w.backlog(q, p, 5)
	w.closeConsumer(in.c)
	q = w.reopen(q)
	w.backlog(q, p, 5)
	in.join(w.consumer(q, order.Flash)).comeBack(p, "one", 7, 12).ackAll()
	w.backlog(q, p, 0)
}

// testIdentity: a queue has the same name for ever, and no other queue has it.
func testIdentity(w *world) {
	q, other := w.open(), w.open()
	name := q.Identity()
	if !regexp.MustCompile("^[!-~]{1,200}$").MatchString(name) {
		w.Errorf("the identity is %q", name)
	}
	if other.Identity() == name {
		w.Errorf("two queues are %q", name)
	}
	w.publish(q, w.flash(0), "one", 0, 3)
	for range 2 {
		if q = w.reopen(q); q.Identity() != name {
			w.Errorf("reopened, queue %q is %q", name, q.Identity())
		}
	}
}

func (w *world) backlog(q queue.Queue, p order.Partition, want int64) {
	w.Helper()
	got, err := q.Backlog(w.ctx, p)
	if err != nil {
		w.Fatal("backlog: ", err)
	}
	switch {
	case !w.ExactBacklog:
		w.Log("the driver declares that its backlog is not exact")
	case got.Messages != want:
		w.Errorf("partition %d has a backlog of %d, want %d", p, got.Messages, want)
	}
	switch {
	case !w.BacklogAge:
		w.Log("the driver declares that it does not know the age of its backlog")
	case got.Oldest < 0 || got.Oldest > w.Patience*10 || want == 0 && got.Oldest != 0:
		w.Errorf("the oldest of %d messages is %v old", want, got.Oldest)
	}
}
