package store

import (
	"cmp"
	"slices"

	"sluice/engine/order"
)

// This file is the pure part of Claim: what happens to each batch, and which orders get their units.

// batchKey names a batch.
type batchKey struct {
	p     order.Partition
	batch order.BatchID
}

func keyOf(m *order.Message) batchKey { return batchKey{m.Partition, m.Batch} }

func compareKeys(a, b batchKey) int {
	return cmp.Or(cmp.Compare(a.p, b.p), cmp.Compare(a.batch, b.batch))
}

// claims is what one call of Claim has to do.
type claims struct {
	verdicts map[batchKey]Verdict
	decided  []*order.Message                // batches that were not claimed before: each becomes a row
	fresh    []*order.Message                // those of them that the guards decide, in queue order
	barriers map[order.Partition]order.Epoch // raised ones
}

// sortOut walks the messages in queue order and applies the cut: a batch of an epoch below the barrier that was not
// claimed before it came is rejected whole.
func sortOut(messages []*order.Message, parts map[order.Partition]*Part, before map[batchKey]Verdict) (*claims, error) {
	c := &claims{verdicts: make(map[batchKey]Verdict, len(messages)), barriers: make(map[order.Partition]order.Epoch)}
	for _, m := range messages {
		part, key := parts[m.Partition], keyOf(m)
		barrier := max(part.Barrier, c.barriers[m.Partition])
		if m.Kind == order.BarrierMessage {
			if m.Epoch > part.Epoch {
				return nil, &AheadError{m.Partition, m.Epoch, part.Epoch}
			}
			if m.Epoch > barrier {
				c.barriers[m.Partition] = m.Epoch
			}
			continue
		}
		if _, twice := c.verdicts[key]; twice {
			continue
		}
		earlier, claimed := before[key]
		switch {
		case m.Epoch < part.Recorded:
			c.verdicts[key] = Verdict{Stale: true}
		case claimed:
			c.verdicts[key] = earlier
		case m.Epoch > barrier:
			return nil, &AheadError{m.Partition, m.Epoch, barrier}
		case m.Epoch < barrier:
			c.verdicts[key] = Verdict{Rejects: rejectAll(m.Records)}
			c.decided = append(c.decided, m)
		default:
			c.verdicts[key] = Verdict{}
			c.decided = append(c.decided, m)
			c.fresh = append(c.fresh, m)
		}
	}
	return c, nil
}

func rejectAll(records []order.Record) []Reject {
	rejects := make([]Reject, len(records))
	for i := range rejects {
		rejects[i] = Reject{i, order.ReasonCut}
	}
	return rejects
}

// aligned lists the verdicts in the order of the messages.
func (c *claims) aligned(messages []*order.Message) []Verdict {
	verdicts := make([]Verdict, len(messages))
	for i, m := range messages {
		if m.Kind == order.BatchMessage {
			verdicts[i] = c.verdicts[keyOf(m)]
		}
	}
	return verdicts
}

// holder is a user of a limited offer.
type holder struct {
	offer order.OfferID
	user  order.UserID
}

// holding is the units that a holder gets more.
type holding struct {
	holder
	units int64
}

// demand is what accepted orders take: sums per offer, and per buyer of a limited offer; both sorted.
type demand struct {
	offers   []order.OfferID
	units    map[order.OfferID]int64
	holdings []holding
}

// demand sums up the fresh orders that are not rejected.
func (c *claims) demand(limits map[order.OfferID]uint32) *demand {
	d := &demand{units: make(map[order.OfferID]int64)}
	for _, m := range c.fresh {
		rejects := c.verdicts[keyOf(m)].Rejects
		for i := range m.Records {
			if len(rejects) > 0 && rejects[0].Index == i {
				rejects = rejects[1:]
				continue
			}
			d.add(&m.Records[i], limits)
		}
	}
	d.offers = sortedKeys(d.units)
	slices.SortFunc(d.holdings, func(a, b holding) int {
		return cmp.Or(cmp.Compare(a.offer, b.offer), cmp.Compare(a.user, b.user))
	})
	d.holdings = merge(d.holdings)
	return d
}

func (d *demand) add(r *order.Record, limits map[order.OfferID]uint32) {
	for i := range r.Items {
		l := r.Items[i].Line
		d.units[l.Offer] += int64(l.Quantity)
		if limits[l.Offer] > 0 {
			d.holdings = append(d.holdings, holding{holder{l.Offer, r.User}, int64(l.Quantity)})
		}
	}
}

// merge adds up neighbours of the same holder.
func merge(sorted []holding) []holding {
	out := sorted[:0]
	for _, h := range sorted {
		if n := len(out); n > 0 && out[n-1].holder == h.holder {
			out[n-1].units += h.units
			continue
		}
		out = append(out, h)
	}
	return out
}

// guards is what the home shard still has to give. Offers that it does not know have nothing left.
type guards struct {
	left map[order.OfferID]int64
	room map[holder]int64 // of limited offers: every holder that is asked about has an entry
}

// decide takes the units of orders one after the other: all lines of an order or none. It lowers what is left.
func (g *guards) decide(records []order.Record) []Reject {
	var rejects []Reject
	for i := range records {
		if reason := g.take(&records[i]); reason != order.ReasonNone {
			rejects = append(rejects, Reject{i, reason})
		}
	}
	return rejects
}

// take takes the units of one order, or says why it cannot and takes nothing. The limit is looked at first, as fast
// stock does.
func (g *guards) take(r *order.Record) order.Reason {
	reason := order.ReasonNone
	for i := range r.Items {
		g.give(r.User, r.Items[i].Line, -1)
	}
	for i := range r.Items {
		l := r.Items[i].Line
		if room, limited := g.room[holder{l.Offer, r.User}]; limited && room < 0 {
			reason = order.ReasonOverLimit
			break
		}
		if g.left[l.Offer] < 0 {
			reason = order.ReasonSoldOut
		}
	}
	if reason != order.ReasonNone {
		for i := range r.Items {
			g.give(r.User, r.Items[i].Line, 1)
		}
	}
	return reason
}

// give adds a line's units, sign times.
func (g *guards) give(u order.UserID, l order.Line, sign int64) {
	g.left[l.Offer] += sign * int64(l.Quantity)
	h := holder{l.Offer, u}
	if room, limited := g.room[h]; limited {
		g.room[h] = room + sign*int64(l.Quantity)
	}
}
