package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

const logPage = 500 // rows of the stock log read at once

// follow reads the `part` rows of one home shard for the keepers until ctx ends.
func (e *Engine) follow(ctx context.Context, home int) {
	for failed := false; ctx.Err() == nil; sleep(ctx, untilBeat()) {
		parts, _, err := e.store.Parts(ctx, home)
		if err != nil {
			if !failed && ctx.Err() == nil {
				e.log.Warn("home shard does not answer", "shard", home, "error", err)
			}
			failed = true
			continue
		}
		failed = false
		for i := range parts {
			if p := e.partitionAt(parts[i].Partition); p != nil {
				p.part.Store(&parts[i])
			}
		}
	}
}

// apply brings the stock log into the catalogue and into fast stock. Fast stock has the only cursor for itself: rows
// that another engine applied are not applied again.
func (p *partition) apply(ctx context.Context, s *session, part *store.Part) error {
	for {
		from := min(p.seen, s.applied.Load())
		if from >= part.Logged {
			return nil
		}
		rows, err := p.e.store.StockLog(ctx, p.number, from, logPage)
		if err != nil {
			return fmt.Errorf("read the stock log of partition %d above %d: %w", p.number, from, err)
		}
		if len(rows) == 0 {
			return nil // the row of `part` was newer than this read's view
		}
		if err := p.applyRows(ctx, s, rows); err != nil {
			return err
		}
	}
}

func (p *partition) applyRows(ctx context.Context, s *session, rows []order.LogRow) error {
	last := rows[len(rows)-1].N
	if news := rowsAbove(rows, p.seen); len(news) > 0 {
		if err := p.noteOffers(ctx, news); err != nil {
			return err
		}
		p.seen = last
	}
	news := rowsAbove(rows, s.applied.Load())
	if len(news) == 0 {
		return nil
	}
	applied, err := p.e.stock.Apply(ctx, p.number, s.epoch, news)
	if err != nil {
		return fmt.Errorf("apply rows %d to %d of the stock log: %w", news[0].N, last, err)
	}
	if applied < last {
		return fmt.Errorf("fast stock has applied the log up to %d and refused rows %d to %d", applied, news[0].N, last)
	}
	raise(&s.applied, applied)
	return p.readLeft(ctx, s, p.offersOf(news))
}

func rowsAbove(rows []order.LogRow, n uint64) []order.LogRow {
	for i := range rows {
		if rows[i].N > n {
			return rows[i:]
		}
	}
	return nil
}

// offersOf is the catalogue's entries of the offers that rows change, each once.
func (p *partition) offersOf(rows []order.LogRow) []*Offer {
	var ids []order.OfferID
	for i := range rows {
		for j := range rows[i].Items {
			ids = append(ids, rows[i].Items[j].Offer)
		}
	}
	slices.Sort(ids)
	var offers []*Offer
	for _, id := range slices.Compact(ids) {
		if o := p.e.Offer(id); o != nil {
			offers = append(offers, o)
		}
	}
	return offers
}

// readLeft asks fast stock for the units left of offers and sets or clears their sold-out flags.
func (p *partition) readLeft(ctx context.Context, s *session, offers []*Offer) error {
	for page := range slices.Chunk(offers, catalogPage) {
		ids := make([]order.OfferID, len(page))
		for i, o := range page {
			ids[i] = o.ID
		}
		left, err := p.e.stock.Left(ctx, p.number, s.epoch, ids)
		if err != nil {
			return fmt.Errorf("read the units left of %d offers of partition %d: %w", len(ids), p.number, err)
		}
		for i, o := range page {
			if left[i] >= 0 {
				o.counts.set(left[i])
			}
		}
	}
	return nil
}

// lookAtLeft refreshes the offers that are flagged sold out and those that somebody asked for in the last minute.
func (p *partition) lookAtLeft(ctx context.Context, s *session, now time.Time) {
	var offers []*Offer
	for _, o := range p.offers {
		if o.SoldOut() || now.Unix()-o.counts.asked.Load() <= 60 {
			offers = append(offers, o)
		}
	}
	if err := p.readLeft(ctx, s, offers); err != nil {
		p.suspect(s, err)
	}
}
