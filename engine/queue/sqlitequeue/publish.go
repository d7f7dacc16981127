package sqlitequeue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// commitBytesMax bounds one transaction, so that nobody waits for a very long one.
const commitBytesMax = 8 << 20

// A sale's small messages ride along with the commits of ordinary orders, as long as there are any: of a sale that gets
// little through, each message would be one more commit that ordinary orders find before them.
const (
	rideMax     = 2 * time.Millisecond  // what a message waits for such a commit at most
	rideBytes   = 8 << 10               // one that is larger is worth a commit
	ordinaryFor = 20 * time.Millisecond // how long after an ordinary message another one is expected
)

// entry is one publication on its way. It is pooled unless its caller left early.
type entry struct {
	part     *part
	body     []byte
	position uint64
	err      error
	leads    bool      // guarded by Queue.mu: the lead was handed to it
	turn     chan bool // capacity 1: true = lead, false = done
}

var entries = sync.Pool{New: func() any { return &entry{turn: make(chan bool, 1)} }}

// Publish returns after the commit that holds the message. A caller whose ctx ends while its commit runs leaves with
// ctx.Err(): unknown. A commit itself is never interrupted.
func (q *Queue) Publish(ctx context.Context, p order.Partition, message []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	part, err := q.part(p)
	if err != nil {
		return err
	}
	if len(message) == 0 || len(message) > queue.MessageMax {
		return fmt.Errorf("a message of %d bytes cannot be published: 1 to %d", len(message), queue.MessageMax)
	}
	if err := q.space.check(); err != nil {
		return err
	}
	e := entries.Get().(*entry)
	e.part, e.body, e.leads = part, bytes.Clone(message), false

	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return queue.ErrClosed
	}
	leads, rides := q.enter(e)
	q.mu.Unlock()

	if leads {
		q.lead()
	} else if !q.follow(ctx, e, rides) {
		return fmt.Errorf("publish on partition %d: %w", p, ctx.Err())
	}
	err = e.err
	e.part, e.body, e.err = nil, nil, nil
	entries.Put(e)
	if err != nil {
		return fmt.Errorf("publish on partition %d: %w", p, err)
	}
	return nil
}

// enter puts e where the next commit finds it, or among the riders; leads: the caller is to commit it. Under mu.
func (q *Queue) enter(e *entry) (leads, rides bool) {
	now, ordinary := time.Now(), int(e.part.number) < q.options.Partitions.Normal
	if !ordinary && len(e.body) <= rideBytes && now.Sub(q.ordinaryAt) < ordinaryFor {
		q.riders = append(q.riders, e)
		return false, true
	}
	if ordinary {
		q.ordinaryAt = now
	}
	q.waiting = append(append(q.waiting, e), q.riders...)
	q.riders = q.riders[:0]
	leads, q.leading = !q.leading, true
	return leads, false
}

// follow waits until e is committed, leading if it is asked to. false: ctx ended first, and e belongs to nobody or to
// the running commit.
func (q *Queue) follow(ctx context.Context, e *entry, rides bool) bool {
	var late <-chan time.Time
	if rides {
		timer := time.NewTimer(q.rideMax)
		defer timer.Stop()
		late = timer.C
	}
	for waits := true; waits; {
		select {
		case lead := <-e.turn:
			if lead {
				q.lead()
			}
			return true
		case <-late:
			q.mu.Lock()
			q.release(e)
			q.mu.Unlock()
		case <-ctx.Done():
			waits = false
		}
	}
	q.mu.Lock()
	leads := e.leads
	if !leads {
		remove(&q.waiting, e)
		remove(&q.riders, e)
	}
	q.mu.Unlock()
	if leads { // the lead cannot be refused: others wait behind it
		<-e.turn
		q.lead()
	}
	return leads
}

func remove(list *[]*entry, e *entry) {
	if i := slices.Index(*list, e); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
}

// release lets the riders go, if e is one of them still: no ordinary message has come. Under mu.
func (q *Queue) release(e *entry) {
	if !slices.Contains(q.riders, e) {
		return
	}
	q.waiting = append(q.waiting, q.riders...)
	q.riders = q.riders[:0]
	if !q.leading {
		q.leading = true
		q.handOn()
	}
}

// handOn makes the first that waits the leader. Under mu.
func (q *Queue) handOn() {
	q.waiting[0].leads = true
	q.waiting[0].turn <- true
}

// lead commits what waits, hands the lead on and wakes those whose messages are stored. The caller's own entry is the
// first that waits.
func (q *Queue) lead() {
	q.mu.Lock()
	batch := q.takeBatch()
	q.mu.Unlock()

	err := q.commit(batch)

	q.mu.Lock()
	if len(q.waiting) > 0 {
		q.handOn()
	} else {
		q.leading = false
		q.idle.Broadcast()
	}
	q.mu.Unlock()
	batch[0].err = err
	for _, e := range batch[1:] {
		e.err = err
		e.turn <- false
	}
}

// takeBatch removes the front of what waits, one message at least.
func (q *Queue) takeBatch() []*entry {
	n, size := 0, 0
	for n < len(q.waiting) && (n == 0 || size+len(q.waiting[n].body) <= commitBytesMax) {
		size += len(q.waiting[n].body)
		n++
	}
	batch := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return batch
}

// Acked rows ride along with a commit in pieces of retireMin to retireMax: few enough not to be felt, more than arrive.
const (
	retireMin = 16
	retireMax = 64
)

// commit stores a batch in one transaction and gives it to the consumers. An error other than queue.ErrFull means
// unknown.
func (q *Queue) commit(batch []*entry) error {
	q.write.Lock()
	defer q.write.Unlock()
	if q.broken != nil {
		return q.broken
	}
	for _, e := range batch {
		e.part.given++
		e.position = e.part.given
	}
	retired := q.nextRetirement(uint64(max(retireMax, 4*len(batch))))
	if err := q.transact(batch, retired); err != nil {
		for _, e := range batch {
			e.part.given = e.part.last // changes only under write
		}
		return err
	}
	q.mu.Lock()
	for _, e := range batch {
		e.part.arrive(e.position, e.body)
	}
	q.wakeConsumers(batch)
	q.mu.Unlock()
	q.countWAL(batch, retired)
	return nil
}

// transact runs a transaction of the file under write and books the outcome.
func (q *Queue) transact(batch []*entry, retired []retirement) error {
	notStored, undone, err := q.file.transact(batch, retired)
	if err != nil && !undone {
		q.broken = fmt.Errorf("the queue is closed to publishers: a transaction could not be undone: %w", err)
		return q.broken
	}
	q.mu.Lock()
	for _, r := range retired {
		q.retired(r, err == nil)
	}
	q.mu.Unlock()
	if err != nil && notStored && isDiskFull(err) {
		return errors.Join(queue.ErrFull, err)
	}
	return err
}
