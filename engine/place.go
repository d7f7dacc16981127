package engine

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Place takes the ticket through its batch and returns when t.Answer is set. It blocks until the deadline of the ticket
// plus D at most, whatever ctx does: a client that has left does not stop its order. ctx bounds only look-ups.
func (e *Engine) Place(ctx context.Context, t *Ticket) {
	t.waiting = t.own
	one := [1]*Ticket{t}
	e.place(ctx, one[:], t.waiting)
}

// PlaceAll is Place for many tickets at once, which are answered one by one and share nothing but the wait: what can go
// together goes in one batch. The slice is reordered.
func (e *Engine) PlaceAll(ctx context.Context, tickets []*Ticket) {
	var waiting sync.WaitGroup
	for _, t := range tickets {
		t.waiting = &waiting
	}
	e.place(ctx, tickets, &waiting)
}

func (e *Engine) place(ctx context.Context, tickets []*Ticket, waiting *sync.WaitGroup) {
	e.stats.in.Add(int64(len(tickets)))
	waiting.Add(len(tickets))
	filled := e.fillAll(tickets)
	if len(filled) > 1 {
		slices.SortStableFunc(filled, func(a, b *Ticket) int { return cmp.Compare(a.partition.number, b.partition.number) })
	}
	for len(filled) > 0 {
		p, n := filled[0].partition, 1
		for n < len(filled) && filled[n].partition == p {
			n++
		}
		p.enter(ctx, filled[:n])
		filled = filled[n:]
	}
	waiting.Wait()
	for _, t := range tickets {
		e.stats.answered(&t.Answer)
	}
}

// fillAll fills the tickets, answers those that cannot be sold, and returns the others, moved to the front.
func (e *Engine) fillAll(tickets []*Ticket) []*Ticket {
	now := time.Now()
	deadline := now.Add(e.tuning().RequestDeadline)
	return tickets[:toFront(tickets, func(t *Ticket) bool {
		t.entered = now
		if t.Deadline.IsZero() {
			t.Deadline = deadline
		}
		verdict := e.fill(t)
		if verdict != 0 {
			t.answer(verdict)
		}
		return verdict == 0
	})]
}

// enter puts tickets of this partition into its intake, but for those that can be answered at once. From its entering
// on, a ticket belongs to the engine until it is answered.
func (p *partition) enter(ctx context.Context, tickets []*Ticket) {
	entering := p.shortCut(ctx, tickets)
	for i, t := range entering {
		var err error
		if t.Record.ID, err = p.e.ids.Next(t.User); err != nil {
			answerAll(entering[i:], NotReady)
			entering = entering[:i]
			break
		}
		t.encoded = order.AppendRecord(t.encoded[:0], &t.Record)
	}
	taken := 0
	if !p.e.full.Load() && !p.stale.Load() {
		taken = p.intake.put(entering, p.e.tuning().WaitingMax)
	}
	answerAll(entering[taken:], Overloaded)
}

func answerAll(tickets []*Ticket, v Verdict) {
	for _, t := range tickets {
		t.answer(v)
	}
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

// shortCut answers without a reserve what is known to be sold out, or not sold now, and returns the tickets that must go
// through a batch, moved to the front. A request with a key is looked up first, because the retry of an accepted order
// must find its order.
func (p *partition) shortCut(ctx context.Context, tickets []*Ticket) (through []*Ticket) {
	s, sells := p.session.Load(), p.e.sells(p.e.opts.Partitions.Kind(p.number))
	if s == nil && !sells {
		answerAll(tickets, NotSold)
		return nil
	}
	if s == nil {
		return tickets
	}
	n := 0
	if sells {
		n = toFront(tickets, func(t *Ticket) bool {
			line := p.soldOutLine(t)
			t.Answer.Line = max(0, line)
			return line < 0
		})
	}
	refused := tickets[n:]
	keyed := refused[:toFront(refused, func(t *Ticket) bool { return t.Key != "" })]
	for _, t := range refused[len(keyed):] {
		if !sells {
			t.answer(NotSold)
			continue
		}
		t.refuse(&stock.Outcome{Code: order.SoldOut, Line: t.Answer.Line})
	}
	if len(keyed) == 0 {
		return tickets[:n]
	}
	queries := make([]stock.KeyQuery, len(keyed))
	for i, t := range keyed {
		queries[i] = stock.KeyQuery{User: t.User, Key: t.Record.KeyHash(), Fingerprint: t.Fingerprint}
	}
	found, err := p.e.stock.Lookup(ctx, p.number, s.epoch, queries)
	if err != nil && !sells {
		answerAll(keyed, NotSold)
		return nil
	}
	if err != nil {
		return tickets[:n+len(keyed)] // the batch will find out what is wrong
	}
	i := -1
	return tickets[:n+toFront(keyed, func(t *Ticket) bool {
		i++
		return !p.answerFound(s, t, &found[i], sells)
	})]
}

// answerFound answers a ticket of which one line is sold out, or whose kind is not sold now, by what fast stock knows of
// its key. It returns false if the ticket must go through a batch: its order has to be published first.
func (p *partition) answerFound(s *session, t *Ticket, found *stock.Outcome, sells bool) bool {
	out := stock.Outcome{Code: order.SoldOut, Line: t.Answer.Line}
	switch {
	case found.Code == order.Repeated && found.Outboxed:
		return false
	case found.Code == order.Repeated:
		t.Answer.Order = found.Order
		t.answer(Replayed)
	case found.Code == order.KeyReused:
		t.refuse(found)
	case !sells:
		t.answer(NotSold)
	case p.mustLook(s, t, &out):
		p.e.lookKey(t, s, &out)
	default:
		t.refuse(&out)
	}
	return true
}

// toFront moves the tickets for which f is true to the front, in their order, and returns how many they are. f is called
// for one ticket after the other.
func toFront(tickets []*Ticket, f func(*Ticket) bool) (n int) {
	for i, t := range tickets {
		if f(t) {
			tickets[i], tickets[n] = tickets[n], t
			n++
		}
	}
	return n
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
