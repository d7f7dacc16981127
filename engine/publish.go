package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/stock"
	"sluice/internal/crash"
)

// publishAll puts into the queue what must be there before f.tickets may be answered: the batch that res accepted, and
// older batches that are still in the outbox.
func (f *flight) publishAll(s *session, res *stock.Reserved, older []order.BatchID) error {
	p := f.p
	ctx, cancel := context.WithTimeout(context.Background(), p.e.opts.Deadline)
	defer cancel()
	if res.Batch != 0 {
		if err := p.publish(ctx, f.message(s, res)); err != nil {
			return err
		}
		crash.At("publish")
		p.keepConfirmed([]order.BatchID{res.Batch})
		p.e.stats.batched.Add(int64(f.accepted), 1)
	}
	slices.Sort(older)
	return p.publishOlder(ctx, s, slices.Compact(older))
}

// message is the queue message of what res accepted: the same bytes that the outbox entry gives.
func (f *flight) message(s *session, res *stock.Reserved) []byte {
	f.records, f.accepted = f.records[:0], 0
	for i := range res.Outcomes {
		if res.Outcomes[i].Code == order.Accepted {
			f.records = append(f.records, f.call.Requests[i].Record...)
			f.accepted++
		}
	}
	f.queued = order.AppendBatch(f.queued[:0], f.p.number, s.epoch, res.Batch, f.records)
	return f.queued
}

// publishOlder publishes batches that the outbox still holds. What is gone from there was confirmed in between.
func (p *partition) publishOlder(ctx context.Context, s *session, batches []order.BatchID) error {
	if len(batches) == 0 {
		return nil
	}
	entries, err := p.e.stock.Entries(ctx, p.number, s.epoch, stock.Open, batches)
	if err != nil {
		return fmt.Errorf("read %d outbox entries of partition %d: %w", len(batches), p.number, err)
	}
	for i := range entries {
		if err := p.publish(ctx, entries[i].Message(p.number)); err != nil {
			return err
		}
		p.keepConfirmed([]order.BatchID{entries[i].Batch})
	}
	return nil
}

// publish publishes a message, again after an unknown outcome until ctx ends: the same bytes twice are harmless.
func (p *partition) publish(ctx context.Context, message []byte) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := p.e.queue.Publish(ctx, p.number, message)
		p.publishing(err)
		if err == nil {
			p.traffic.Add(1)
			return nil
		}
		if errors.Is(err, queue.ErrFull) || errors.Is(err, queue.ErrClosed) || ctx.Err() != nil {
			return fmt.Errorf("publish on partition %d: %w", p.number, err)
		}
		p.e.stats.publishRepeats.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// publishing tells when publishing begins to fail and when it is well again, and not of each time in between.
func (p *partition) publishing(err error) {
	switch {
	case err == nil && p.unwell.Load():
		if p.unwell.CompareAndSwap(true, false) {
			p.e.log.Info("publishing is well again", "partition", p.number)
		}
	case err != nil && !errors.Is(err, context.Canceled) && p.unwell.CompareAndSwap(false, true):
		p.e.log.Warn("publishing fails; it is tried again", "partition", p.number, "error", err)
	}
}

// failure is how loud it is to be told that something was not published: it was, when publishing began to fail.
func (p *partition) failure() slog.Level {
	if p.unwell.Load() {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// keepConfirmed remembers batches that the queue has; takeConfirmed hands them to the next reserve, which deletes their
// outbox entries. Deleting twice, or never, is harmless: the relay publishes what stays.
func (p *partition) keepConfirmed(batches []order.BatchID) {
	if len(batches) == 0 {
		return
	}
	p.confirmedMu.Lock()
	p.confirmed = append(p.confirmed, batches...)
	p.confirmedMu.Unlock()
}

func (p *partition) takeConfirmed(into []order.BatchID) []order.BatchID {
	p.confirmedMu.Lock()
	defer p.confirmedMu.Unlock()
	into = append(into, p.confirmed...)
	p.confirmed = p.confirmed[:0]
	return into
}

// confirmRest deletes outbox entries for which no reserve came along.
func (p *partition) confirmRest(ctx context.Context, s *session) {
	batches := p.takeConfirmed(nil)
	if len(batches) == 0 {
		return
	}
	if err := p.e.stock.Confirm(ctx, p.number, s.epoch, batches); err != nil {
		p.keepConfirmed(batches)
		p.suspect(s, err)
	}
}
