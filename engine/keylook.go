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
	lookQueue    = 4_096          // looks that may wait for one user shard
	lookBatch    = 512
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

// lookKey hands the ticket to the goroutine of its user shard, which answers it; a full queue answers Unknown.
func (e *Engine) lookKey(t *Ticket, s *session, o *stock.Outcome) {
	e.looksMu.RLock()
	defer e.looksMu.RUnlock()
	if e.looksOver {
		t.answer(Unknown)
		return
	}
	select {
	case e.looks[e.store.UserShard(t.User)] <- look{t: t, s: s, out: *o}:
	default:
		t.answer(Unknown)
	}
}

// lookKeys answers the looks of one user shard, many at once, until its channel is closed. Each shard has a goroutine of
// its own: one that hangs delays no look on another.
func (e *Engine) lookKeys(shard int) {
	batch := make([]look, 0, lookBatch)
	for first := range e.looks[shard] {
		batch = append(batch[:0], first)
		for len(batch) < lookBatch {
			select {
			case l, ok := <-e.looks[shard]:
				if ok {
					batch = append(batch, l)
					continue
				}
			default:
			}
			break
		}
		e.lookAll(shard, batch)
		clear(batch)
	}
}

// until is when the look has to be answered.
func (e *Engine) until(l *look) time.Time { return l.t.Deadline.Add(e.opts.Deadline) }

// lookAll answers a batch of looks: without the database where the user holds nothing of a limited offer. It ends with
// the first deadline of the batch: a shard that has not answered by then is not waited for.
func (e *Engine) lookAll(shard int, batch []look) {
	e.stats.looks.Add(int64(len(batch)))
	now := time.Now()
	var end time.Time
	inTime := batch[:0]
	for _, l := range batch {
		until := e.until(&l)
		if !until.After(now) {
			l.t.answer(Unknown)
			continue
		}
		if end.IsZero() || until.Before(end) {
			end = until
		}
		inTime = append(inTime, l)
	}
	if len(inTime) == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	looks := inTime[:0]
	for _, l := range inTime {
		switch holds, err := e.mayHold(ctx, &l); {
		case err != nil:
			l.t.answer(Unknown)
		case !holds:
			l.t.refuse(&l.out)
		case l.t.partition.part.Load().Recorded < l.s.keysSince.Epoch:
			l.t.answer(Unknown) // rows of before the loss may still be on their way
		default:
			looks = append(looks, l)
		}
	}
	if len(looks) > 0 {
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

// lookAt answers looks by what their user shard and the home shards say.
func (e *Engine) lookAt(ctx context.Context, shard int, looks []look) {
	found, err := e.holders(ctx, shard, looks)
	if err != nil {
		e.log.Warn("look before a refusal failed", "shard", shard, "looks", len(looks), "error", err)
	}
	for i, l := range looks {
		switch {
		case err != nil:
			l.t.answer(Unknown)
		case found[i] == holder{}:
			l.t.refuse(&l.out)
		case found[i].fingerprint != l.t.Fingerprint:
			l.t.refuse(&stock.Outcome{Code: order.KeyReused})
		default:
			l.t.Answer.Order = found[i].order
			l.t.answer(Replayed)
		}
	}
}

// holder is the order that holds a key; zero if there is none.
type holder struct {
	order       order.ID
	fingerprint uint64
}

// holders finds the orders that hold the keys of looks: rows of the user shard, and the poison that it refuses. Poison
// is read first: the only way out of there leads to the rows.
func (e *Engine) holders(ctx context.Context, shard int, looks []look) ([]holder, error) {
	refs := make([]store.KeyRef, len(looks))
	poison := make(map[store.KeyRef]holder)
	read := make(map[int]bool)
	for i, l := range looks {
		refs[i] = store.KeyRef{User: l.t.User, Key: l.t.Record.KeyHash()}
		home := e.store.Home(l.t.partition.number)
		if read[home] {
			continue
		}
		read[home] = true
		records, err := e.store.LivePoison(ctx, home, shard)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			poison[store.KeyRef{User: r.User, Key: r.KeyHash()}] = holder{r.ID, r.Fingerprint}
		}
	}
	rows, err := e.ordersOfKeys(ctx, shard, refs)
	if err != nil {
		return nil, err
	}
	found := make([]holder, len(looks))
	for i, row := range rows {
		found[i] = poison[refs[i]]
		if row != nil {
			found[i] = holder{row.ID, row.Fingerprint}
		}
	}
	return found, nil
}
