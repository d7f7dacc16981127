package engine

import (
	"context"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Place takes the ticket through its batch and returns when t.Answer is set. It blocks until the deadline of the ticket
// plus D at most, whatever ctx does: a client that has left does not stop its order. ctx bounds only look-ups.
func (e *Engine) Place(ctx context.Context, t *Ticket) {
	e.stats.in.Add(1)
	t.entered = time.Now()
	if t.Deadline.IsZero() {
		t.Deadline = t.entered.Add(e.tuning().RequestDeadline)
	}
	if verdict := e.enter(ctx, t); verdict != 0 {
		t.Answer.Verdict = verdict
	} else {
		<-t.done // from its entering on, the ticket belongs to the engine
	}
	e.stats.answered(&t.Answer)
}

// enter checks the ticket and puts it into its partition's intake. A verdict other than zero ends it here.
func (e *Engine) enter(ctx context.Context, t *Ticket) Verdict {
	if verdict := e.fill(t); verdict != 0 {
		return verdict
	}
	p := t.partition
	if verdict, known := p.shortCut(ctx, t); known {
		return verdict
	}
	var err error
	if t.Record.ID, err = e.ids.Next(t.User); err != nil {
		return NotReady
	}
	t.encoded = order.AppendRecord(t.encoded[:0], &t.Record)
	if e.full.Load() || p.stale.Load() || !p.intake.put(t, e.tuning().WaitingMax) {
		return Overloaded
	}
	return 0
}

// fill makes t.Record of the ticket's lines and the catalogue.
func (e *Engine) fill(t *Ticket) Verdict {
	r := &t.Record
	r.User, r.Key, r.Fingerprint, r.Details = t.User, t.Key, t.Fingerprint, t.Details
	r.Items = r.Items[:0]
	var first *Offer
	for i, line := range t.Lines {
		o := e.Offer(line.Offer)
		t.Answer.Line = i
		switch {
		case o == nil:
			return OfferNotFound
		case first == nil:
			first = o
		case o.Group != first.Group || o.Partition != first.Partition || o.Currency != first.Currency:
			return MixedGroups
		}
		r.Items = append(r.Items, order.Item{Line: line, UnitPrice: o.UnitPrice, PriceVersion: o.PriceVersion, SKU: o.SKU})
	}
	if first == nil {
		panic("BUG: an order without lines")
	}
	r.Shop, r.Group, r.Currency = first.Shop, first.Group, first.Currency
	t.partition = e.partitions[first.Partition]
	return 0
}

// shortCut answers without a reserve what is known to be sold out. A request with a key is looked up first, because the
// retry of an accepted order must find its order. known is false if the ticket must go through a batch.
func (p *partition) shortCut(ctx context.Context, t *Ticket) (verdict Verdict, known bool) {
	line := p.soldOutLine(t)
	s := p.session.Load()
	if line < 0 || s == nil {
		return 0, false
	}
	out := stock.Outcome{Code: order.SoldOut, Line: line}
	if t.Key != "" {
		query := [1]stock.KeyQuery{{User: t.User, Key: t.Record.KeyHash(), Fingerprint: t.Fingerprint}}
		found, err := p.e.stock.Lookup(ctx, p.number, s.epoch, query[:])
		switch {
		case err != nil:
			return 0, false // the batch will find out what is wrong
		case found[0].Code == order.Repeated && found[0].Outboxed:
			return 0, false // it must be published first
		case found[0].Code == order.Repeated:
			t.Answer.Order = found[0].Order
			return Replayed, true
		case found[0].Code == order.KeyReused:
			out = found[0]
		case p.mustLook(s, t, &out):
			return p.e.lookKey(t, s, &out), true
		}
	}
	t.Answer.Code, t.Answer.Line = out.Code, out.Line
	return Refused, true
}

// soldOutLine is the index of a line whose offer is open and known to be sold out, or -1.
func (p *partition) soldOutLine(t *Ticket) int {
	for i, line := range t.Lines {
		o := p.e.Offer(line.Offer)
		if o == nil || !o.SoldOut() {
			continue
		}
		now := order.MilliOf(t.entered)
		if now >= o.Opens && (o.Closes == 0 || now < o.Closes) {
			return i
		}
	}
	return -1
}
