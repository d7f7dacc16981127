package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/stock"
	"sluice/internal/crash"
	"sluice/persist/store"
)

const (
	renewEvery   = time.Second
	rebuildLead  = 2 * time.Second // of the lock; from its first step on the row says who rebuilds
	barrierEvery = 3 * time.Second // the barrier is published again until it was seen
	loadOffers   = 1_000           // offers of one page of a load: a millisecond or two of Redis, for which
	loadBuyers   = 1_000           // all partitions wait; and buyers of one
	againFirst   = 5 * time.Millisecond
	againLast    = 500 * time.Millisecond
)

// errGaveUp says that another rebuild has the partition now, or that fast stock changed under this one.
var errGaveUp = errors.New("the rebuild gave up")

// rebuild brings a new epoch: begin, shut, relay or wait, barrier, count, load (docs/design.md, section 8). Everything
// that it does to fast stock happens under a fence that only this rebuild can have shut, so it may die or sleep at any
// place, and any number of rebuilds may run against each other.
func (p *partition) rebuild(ctx context.Context, seen *store.Part) error {
	if !p.e.opts.Leader.Leads(ctx, p.rebuildJob(), rebuildLead) {
		return nil // another engine does it, or tries: the rows say so from its first step
	}
	defer p.e.opts.Leader.Leave(context.WithoutCancel(ctx), p.rebuildJob())
	e, ok, err := p.e.store.BeginRebuild(ctx, p.number, seen.Epoch, p.e.opts.Exclusive)
	if err != nil || !ok {
		return err
	}
	p.e.stats.rebuilds.Add(1)
	started := time.Now()
	ctx, stop := p.renewing(ctx, e)
	defer stop()
	p.passed("begin")
	st, err := p.bring(ctx, e)
	if err != nil {
		return fmt.Errorf("rebuild partition %d to epoch %d: %w", p.number, e, err)
	}
	p.e.log.Log(ctx, p.news, "partition rebuilt", "partition", p.number, "epoch", e, "took", time.Since(started).Round(time.Millisecond))
	return p.begin(ctx, st)
}

// bring does the steps behind begin.
func (p *partition) bring(ctx context.Context, e order.Epoch) (*stock.State, error) {
	intact, err := p.shutFence(ctx, e)
	if err != nil {
		return nil, err
	}
	p.passed("close")
	if intact {
		err = p.relayAll(ctx, e)
	} else if p.sold || !p.e.opts.Exclusive {
		sleep(ctx, p.e.opts.Deadline) // whatever is answered as placed is in the queue by then
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	p.passed("drain")
	if err := p.awaitBarrier(ctx, e); err != nil {
		return nil, err
	}
	p.passed("barrier")
	var count *store.Count
	err = p.insist(ctx, "lower totals", func() error { return p.e.store.LowerTotals(ctx, p.number, e) })
	if err == nil {
		err = p.insist(ctx, "count", func() (err error) {
			count, err = p.e.store.Count(ctx, p.number, e)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	p.passed("count")
	if err := p.load(ctx, e, count, !intact); err != nil {
		return nil, err
	}
	p.passed("load")
	st, err := p.e.stock.State(ctx, p.number)
	if err == nil && (!st.Ready || st.Fence.Epoch != e) {
		err = fmt.Errorf("%w: the fence changed after the load", errGaveUp)
	}
	return &st, err
}

// passed is called when a step has taken effect.
func (p *partition) passed(step string) {
	crash.At(step)
	p.tell(step)
}

func (p *partition) tell(step string) {
	if p.e.opts.Passed != nil {
		p.e.opts.Passed(p.number, step)
	}
}

func (p *partition) rebuildJob() string { return fmt.Sprintf("rebuild-%d", p.number) }

// insist does f again, after a pause, when it fails for a reason that may pass: whoever begins anew finds a shut fence
// and must take fast stock for lost. It ends with ctx, which ends when a later rebuild has begun, and with whatever
// says that this one is over.
func (p *partition) insist(ctx context.Context, what string, f func() error) error {
	failed := false
	for pause := againFirst; ; pause = min(2*pause, againLast) {
		err := f()
		var notReady *stock.NotReady
		switch {
		case err == nil && failed:
			p.e.log.Info("rebuild goes on", "partition", p.number, "step", what)
			return nil
		case err == nil:
			return nil
		case errors.As(err, &notReady), errors.Is(err, store.ErrNotMine), errors.Is(err, queue.ErrClosed), ctx.Err() != nil:
			return fmt.Errorf("%s: %w", what, err)
		case !failed:
			p.e.log.Warn("a step of the rebuild fails; it is tried again", "partition", p.number, "step", what, "error", err)
		}
		failed = true
		if sleep(ctx, pause); ctx.Err() != nil {
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), err)
		}
	}
}

// insistPublish publishes a message also when the queue is full for a while.
func (p *partition) insistPublish(ctx context.Context, message []byte) error {
	return p.insist(ctx, "publish", func() error { return p.publish(ctx, message) })
}

// shutFence shuts the fence and tells whether fast stock was intact. Only a call that had no effect may be repeated: a
// second one would find the fence shut, and nobody would know how it was before.
func (p *partition) shutFence(ctx context.Context, e order.Epoch) (intact bool, err error) {
	var ok bool
	var unknown error
	err = p.insist(ctx, "shut the fence", func() error {
		intact, ok, unknown = p.e.stock.Shut(ctx, p.number, e)
		if stock.NotExecuted(unknown) {
			return unknown
		}
		return nil
	})
	switch {
	case err != nil:
		return false, err
	case unknown != nil:
		return false, fmt.Errorf("shut the fence: %w", unknown)
	case !ok:
		return false, fmt.Errorf("%w: a later epoch has shut the fence", errGaveUp)
	}
	return intact, nil
}

// renewing keeps the rebuild's claim on the partition alive. The context ends when the claim is lost; stop gives the
// claim up and waits for the renewal to end.
func (p *partition) renewing(ctx context.Context, e order.Epoch) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if sleep(ctx, renewEvery); ctx.Err() != nil {
				return
			}
			p.tell("renew")
			if ok, err := p.e.store.RenewRebuild(ctx, p.number, e); err == nil && !ok {
				cancel(fmt.Errorf("%w: a later one has begun", errGaveUp))
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
		end, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer done()
		if err := p.e.store.EndRebuild(end, p.number, e); err != nil {
			p.e.log.Warn("busy_until stays until it runs out", "partition", p.number, "error", err)
		}
	}
}

// relayAll publishes the whole outbox of an intact fast stock, under the shut fence of e.
func (p *partition) relayAll(ctx context.Context, e order.Epoch) error {
	var batches []order.BatchID
	err := p.insist(ctx, "list the outbox", func() (err error) {
		batches, err = p.e.stock.BatchIDs(ctx, p.number, e, stock.Closed)
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(batches)
	for page := range slices.Chunk(batches, relayPage) {
		var entries []stock.Entry
		err := p.insist(ctx, "read the outbox", func() (err error) {
			entries, err = p.e.stock.Entries(ctx, p.number, e, stock.Closed, page)
			return err
		})
		if err != nil {
			return err
		}
		for i := range entries {
			if err := p.insistPublish(ctx, entries[i].Message(p.number)); err != nil {
				return err
			}
		}
		p.keepConfirmed(page)
		p.e.stats.relayed.Add(int64(len(entries)))
	}
	return nil
}

// awaitBarrier puts BARRIER(e) into the queue, again and again until persist has handled it: then every older batch has
// been claimed, or never will be.
func (p *partition) awaitBarrier(ctx context.Context, e order.Epoch) error {
	var sent time.Time
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if time.Since(sent) > barrierEvery {
			sent = time.Now()
			if err := p.insistPublish(ctx, order.AppendBarrier(nil, p.number, e, order.MilliOf(sent))); err != nil {
				return err
			}
		}
		sleep(ctx, pause)
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var part *store.Part
		err := p.insist(ctx, "await the barrier", func() (err error) {
			part, _, err = p.readPart(ctx)
			return err
		})
		switch {
		case err != nil:
			return err
		case part.Epoch != e || part.Barrier > e:
			return fmt.Errorf("%w: epoch %d has begun", errGaveUp, max(part.Epoch, part.Barrier))
		case part.Barrier == e:
			return nil
		}
	}
}

// load writes what was counted into fast stock, in pages, and opens it.
func (p *partition) load(ctx context.Context, e order.Epoch, count *store.Count, lost bool) error {
	put := func(page *stock.LoadPage) error {
		return p.insist(ctx, "load", func() error { return p.e.stock.Load(ctx, p.number, e, page) })
	}
	for offers := range slices.Chunk(count.Offers, loadOffers) {
		if err := put(&stock.LoadPage{Offers: offers}); err != nil {
			return err
		}
	}
	for buyers := range slices.Chunk(count.Buyers, loadBuyers) {
		if err := put(&stock.LoadPage{Buyers: buyers}); err != nil {
			return err
		}
	}
	return put(&stock.LoadPage{Last: true, Logged: count.Logged, Lost: lost})
}
