package engine

import (
	"context"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/persist/store"
)

const (
	keysLifetime = 48 * time.Hour // of an idempotency record: two periods
	lookQueue    = 4_096          // looks that may wait
	lookBatch    = 512
	lookFor      = 2 * time.Second
)

// look is one look before a 409: fast stock has forgotten keys, so a refusal of a key that it does not know may hide an
// order. The ticket is answered by what the user shard says.
type look struct {
	t   *Ticket
	s   *session
	out stock.Outcome // the refusal, if there is no order
}

// mustLook tells whether the refusal o of t could be wrong because a lossy load dropped the key: it has a client's key,
// the loss is younger than keys live, and the offer is older than the loss.
func (p *partition) mustLook(s *session, t *Ticket, o *stock.Outcome) bool {
	since := &s.keysSince
	if t.Key == "" || since.Epoch == 0 || o.Code == order.KeyReused {
		return false
	}
	if time.Since(since.At.Time()) > keysLifetime {
		return false
	}
	for _, line := range t.Lines {
		if offer := p.e.Offer(line.Offer); offer == nil || offer.Created > since.Logged {
			return false // its order would name this offer, and it was made after the loss
		}
	}
	return true
}

// lookKeyLater hands the ticket to the look's goroutine, which answers it; a full queue answers Unknown.
func (e *Engine) lookKeyLater(t *Ticket, s *session, o *stock.Outcome) {
	e.looksMu.RLock()
	defer e.looksMu.RUnlock()
	if e.looksOver {
		t.answer(Unknown)
		return
	}
	select {
	case e.looks <- look{t: t, s: s, out: *o}:
	default:
		t.answer(Unknown)
	}
}

// lookKey is lookKeyLater for a caller that waits.
func (e *Engine) lookKey(t *Ticket, s *session, o *stock.Outcome) Verdict {
	e.lookKeyLater(t, s, o)
	<-t.done
	return t.Answer.Verdict
}

// lookKeys answers looks, many at once, until e.looks is closed.
func (e *Engine) lookKeys() {
	batch := make([]look, 0, lookBatch)
	for first := range e.looks {
		batch = append(batch[:0], first)
		for len(batch) < lookBatch {
			select {
			case l, ok := <-e.looks:
				if ok {
					batch = append(batch, l)
					continue
				}
			default:
			}
			break
		}
		e.lookAll(batch)
		clear(batch)
	}
}

// lookAll answers a batch of looks: without the database where the user holds nothing of a limited offer.
func (e *Engine) lookAll(batch []look) {
	ctx, cancel := context.WithTimeout(context.Background(), lookFor)
	defer cancel()
	e.stats.looks.Add(int64(len(batch)))
	byShard := make(map[int][]look)
	for _, l := range batch {
		switch holds, err := e.mayHold(ctx, &l); {
		case err != nil:
			l.t.answer(Unknown)
		case !holds:
			l.t.refuse(&l.out)
		case l.t.partition.part.Load().Recorded < l.s.keysSince.Epoch:
			l.t.answer(Unknown) // rows of before the loss may still be on their way
		default:
			shard := e.store.UserShard(l.t.User)
			byShard[shard] = append(byShard[shard], l)
		}
	}
	for shard, looks := range byShard {
		e.lookAt(ctx, shard, looks)
	}
}

// mayHold tells whether the user can own an order of these offers: always, unless one of them is limited and the user
// holds none of it.
func (e *Engine) mayHold(ctx context.Context, l *look) (bool, error) {
	for _, line := range l.t.Lines {
		offer := e.Offer(line.Offer)
		if offer == nil || offer.Limit == 0 {
			continue
		}
		units, err := e.stock.Holdings(ctx, l.t.partition.number, l.s.epoch,
			[]stock.Buyer{{Offer: line.Offer, User: l.t.User}})
		if err != nil || units[0] == 0 {
			return false, err
		}
	}
	return true, nil
}

func (e *Engine) lookAt(ctx context.Context, shard int, looks []look) {
	refs := make([]store.KeyRef, len(looks))
	for i, l := range looks {
		refs[i] = store.KeyRef{User: l.t.User, Key: l.t.Record.KeyHash()}
	}
	found, err := e.store.OrdersOfKeys(ctx, shard, refs)
	if err != nil {
		e.log.Warn("look before a refusal failed", "shard", shard, "looks", len(looks), "error", err)
	}
	for i, l := range looks {
		switch {
		case err != nil:
			l.t.answer(Unknown)
		case found[i] == nil:
			l.t.refuse(&l.out)
		case found[i].Fingerprint != l.t.Fingerprint:
			l.t.refuse(&stock.Outcome{Code: order.KeyReused})
		default:
			l.t.Answer.Order = found[i].ID
			l.t.answer(Replayed)
		}
	}
}
