package queuetest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Plan says how often what goes wrong. Chances are between 0 and 1, per publication or per delivered message. Each
// partition draws from generators of its own, seeded by Seed, so that a run with one caller per partition can be
// repeated.
type Plan struct {
	Seed uint64

	FailBefore   float64 // Publish returns ErrChaos and has done nothing
	Full         float64 // Publish returns queue.ErrFull and has done nothing
	FailAfter    float64 // Publish returns ErrChaos and has stored the message
	PublishTwice float64 // a copy of the message is stored again, in front of some later publication of the partition

	Duplicate      float64 // a message is delivered twice in a row
	DuplicateLater float64 // a message delivered before, acknowledged or not, is delivered again
	Replay         float64 // delivery goes on from an older message, acknowledged or not, in order

	Delay    float64       // Publish, before and after the message is stored, or Receive takes up to DelayMax longer
	DelayMax time.Duration // default 20 ms
}

// Stormy is a plan with some of everything.
func Stormy(seed uint64) Plan {
	return Plan{Seed: seed, FailBefore: 0.03, Full: 0.02, FailAfter: 0.05, PublishTwice: 0.05,
		Duplicate: 0.05, DuplicateLater: 0.05, Replay: 0.02, Delay: 0.1}
}

// ErrChaos is the error that a Chaos gives: unknown, as every error of Publish but queue.ErrFull.
var ErrChaos = errors.New("chaos: the outcome is unknown")

// historyMax is how far back a repeat may reach, in messages of a partition.
const historyMax = 256

// Chaos is a queue that passes everything to another one and misbehaves by a plan, within the contract: whoever works
// with every legal queue works with it. Repeats keep the position of the original; copies stored twice have their own.
type Chaos struct {
	inner queue.Queue
	plan  Plan
	calm  atomic.Bool

	mu     sync.Mutex
	lanes  map[order.Partition]*lane
	faults map[string]int
}

var _ queue.Queue = (*Chaos)(nil)

// lane is the chance and the memory of one partition.
type lane struct {
	publish, deliver *rand.Rand
	copies           [][]byte // to be stored a second time
}

// NewChaos wraps a queue. Closing it closes the queue.
func NewChaos(inner queue.Queue, plan Plan) *Chaos {
	if plan.DelayMax == 0 {
		plan.DelayMax = 20 * time.Millisecond
	}
	return &Chaos{inner: inner, plan: plan, lanes: map[order.Partition]*lane{}, faults: map[string]int{}}
}

// Calm ends the misbehaviour, so that a test can drain what is left. Copies not stored yet are forgotten.
func (c *Chaos) Calm() { c.calm.Store(true) }

// Faults counts what went wrong so far, by the name of the plan's field: a test whose faults are zero tested nothing.
func (c *Chaos) Faults() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.faults)
}

// lane is called with mu held.
func (c *Chaos) lane(p order.Partition) *lane {
	l := c.lanes[p]
	if l == nil {
		l = &lane{
			publish: rand.New(rand.NewPCG(c.plan.Seed, uint64(p)<<1)),
			deliver: rand.New(rand.NewPCG(c.plan.Seed, uint64(p)<<1|1)),
		}
		c.lanes[p] = l
	}
	return l
}

// happens draws whether a fault happens and counts it; mu is held.
func (c *Chaos) happens(r *rand.Rand, chance float64, name string) bool {
	hit := r.Float64() < chance && !c.calm.Load()
	if hit {
		c.faults[name]++
	}
	return hit
}

// delay draws a waiting time, often zero; mu is held.
func (c *Chaos) delay(r *rand.Rand) time.Duration {
	d := time.Duration(r.Int64N(int64(c.plan.DelayMax)))
	if !c.happens(r, c.plan.Delay, "Delay") {
		return 0
	}
	return d
}

// fate is what will happen to one publication.
type fate struct {
	before, after     time.Duration
	instead, answered error  // instead of storing it; although it is stored
	older             []byte // stored again in front of it
}

func (c *Chaos) draw(p order.Partition, message []byte) fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lane(p)
	f := fate{before: c.delay(l.publish), after: c.delay(l.publish)}
	if c.happens(l.publish, c.plan.FailBefore, "FailBefore") {
		f.instead = ErrChaos
	} else if c.happens(l.publish, c.plan.Full, "Full") {
		f.instead = queue.ErrFull
	} else if c.happens(l.publish, c.plan.FailAfter, "FailAfter") {
		f.answered = ErrChaos
	}
	if len(l.copies) > 0 && l.publish.IntN(8) == 0 && !c.calm.Load() {
		i := l.publish.IntN(len(l.copies))
		f.older = l.copies[i]
		l.copies = append(l.copies[:i], l.copies[i+1:]...)
		c.faults["PublishTwice"]++
	}
	if f.instead == nil && len(l.copies) < historyMax && l.publish.Float64() < c.plan.PublishTwice && !c.calm.Load() {
		l.copies = append(l.copies, bytes.Clone(message))
	}
	return f
}

// Publish stores the message, or does not, as the plan says.
func (c *Chaos) Publish(ctx context.Context, p order.Partition, message []byte) error {
	f := c.draw(p, message)
	if err := wait(ctx, f.before); err != nil {
		return err
	}
	if f.older != nil { // a copy that the broker made: nobody hears of its failure
		_ = c.inner.Publish(ctx, p, f.older)
	}
	if f.instead != nil {
		return f.instead
	}
	if err := c.inner.Publish(ctx, p, message); err != nil {
		return err
	}
	if err := wait(ctx, f.after); err != nil {
		return err
	}
	return f.answered
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Consumer wraps a consumer of the queue.
func (c *Chaos) Consumer(ctx context.Context, kind order.Kind) (queue.Consumer, error) {
	inner, err := c.inner.Consumer(ctx, kind)
	if err != nil {
		return nil, err
	}
	return &chaosConsumer{Consumer: inner, c: c, history: map[order.Partition][]queue.Delivery{}}, nil
}

// Bury passes on.
func (c *Chaos) Bury(ctx context.Context, d queue.Delivery, reason string) error {
	return c.inner.Bury(ctx, d, reason)
}

// Letters passes on.
func (c *Chaos) Letters(ctx context.Context, after queue.LetterID, limit int) ([]queue.Letter, error) {
	return c.inner.Letters(ctx, after, limit)
}

// Drop passes on.
func (c *Chaos) Drop(ctx context.Context, id queue.LetterID) error { return c.inner.Drop(ctx, id) }

// Backlog passes on.
func (c *Chaos) Backlog(ctx context.Context, p order.Partition) (queue.Backlog, error) {
	return c.inner.Backlog(ctx, p)
}

// Identity passes on.
func (c *Chaos) Identity() string { return c.inner.Identity() }

// Close passes on.
func (c *Chaos) Close() error { return c.inner.Close() }

// chaosConsumer passes Ack and Close on. What it still holds when it is closed was never acknowledged, so it comes back.
type chaosConsumer struct {
	queue.Consumer
	c       *Chaos
	pending []queue.Delivery
	history map[order.Partition][]queue.Delivery
}

// Receive delivers what the queue delivers, and repeats.
func (cc *chaosConsumer) Receive(ctx context.Context, max, maxBytes int) ([]queue.Delivery, error) {
	if len(cc.pending) == 0 {
		got, err := cc.Consumer.Receive(ctx, max, maxBytes)
		if err != nil {
			return nil, err
		}
		if err := wait(ctx, cc.disturb(got)); err != nil {
			return nil, err
		}
	}
	n, size := 0, 0
	for n < len(cc.pending) && n < max && size < maxBytes {
		size += len(cc.pending[n].Body)
		n++
	}
	got := cc.pending[:n:n]
	cc.pending = cc.pending[n:]
	return got, nil
}

// disturb appends what came to pending, with repeats of it and of older messages in between.
func (cc *chaosConsumer) disturb(got []queue.Delivery) (delay time.Duration) {
	cc.c.mu.Lock()
	defer cc.c.mu.Unlock()
	for _, d := range got {
		r := cc.c.lane(d.Partition).deliver
		past := append(cc.history[d.Partition], queue.Delivery{Partition: d.Partition, Position: d.Position, Body: bytes.Clone(d.Body)})
		past = past[max(0, len(past)-historyMax):]
		cc.history[d.Partition] = past
		cc.pending = append(cc.pending, d)
		if cc.c.happens(r, cc.c.plan.Duplicate, "Duplicate") {
			cc.again(past[len(past)-1:])
		}
		if from := r.IntN(len(past)); cc.c.happens(r, cc.c.plan.DuplicateLater, "DuplicateLater") {
			cc.again(past[from : from+1])
		}
		if from := r.IntN(len(past)); cc.c.happens(r, cc.c.plan.Replay, "Replay") {
			cc.again(past[from:])
		}
		delay = max(delay, cc.c.delay(r))
	}
	return delay
}

// again repeats messages; each repeat has a body of its own.
func (cc *chaosConsumer) again(past []queue.Delivery) {
	for _, d := range past {
		d.Body = bytes.Clone(d.Body)
		cc.pending = append(cc.pending, d)
	}
}
