package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/engine/order"
)

// GiveBack is a claim, or the claim of a dead order, whose units are to come back.
type GiveBack struct {
	Order     order.ID
	Event     int           // number of the order's event that is due
	Batch     order.BatchID // the claim to give back
	User      order.UserID
	Partition order.Partition
	Items     []order.Line
	Cause     string // unique for ever: what makes a repeat a no-op
}

// selectGiveBacks reads events, for scanGiveBack, with what is known of their orders.
const selectGiveBacks = `SELECT e.order_id, e.n, e.type, e.data, o.batch_id, o.user_id, o.kind, o.group_id, o.items
		FROM order_event e LEFT JOIN orders o ON o.order_id = e.order_id`

// GiveBacksDue reads at most limit give-backs of a user shard that are due by the database's clock, oldest first.
func (s *Store) GiveBacksDue(ctx context.Context, shard int, limit int) ([]GiveBack, error) {
	query := selectGiveBacks + " WHERE e.due <= " + s.dialect.now + " ORDER BY e.due, e.order_id, e.n LIMIT ?"
	var list []GiveBack
	err := s.query(ctx, shard, query, func(r *sql.Rows) error {
		g, err := s.scanGiveBack(r)
		list = append(list, g)
		return err
	}, limit)
	if err != nil {
		return nil, onShard(err, "read give-backs", shard)
	}
	return list, nil
}

func (s *Store) scanGiveBack(r *sql.Rows) (GiveBack, error) {
	var g GiveBack
	var event, kind, group sql.NullString
	var batch, user sql.NullInt64
	var data, items []byte
	err := r.Scan(&g.Order, &g.Event, &event, &data, &batch, &user, &kind, &group, &items)
	if err != nil {
		return g, err
	}
	if event.String == eventSecondClaim || event.String == eventRefused {
		var c claimData
		if err := json.Unmarshal(data, &c); err != nil {
			return g, fmt.Errorf("event %d of order %s: %w", g.Event, g.Order, err)
		}
		g.Batch, g.User, g.Partition, g.Items = c.Batch, c.User, c.Partition, c.Lines
		if g.Cause = fmt.Sprintf("%d/%d", g.Order, g.Event); event.String == eventSecondClaim {
			g.Cause = fmt.Sprintf("%d:%d", g.Order, c.Batch)
		}
		return g, nil
	}
	k, ok := order.ParseKind(kind.String)
	if !ok {
		return g, fmt.Errorf("event %d belongs to order %s, which has kind %q", g.Event, g.Order, kind.String)
	}
	list, err := decodeItems(items)
	if err != nil {
		return g, fmt.Errorf("order %s: %w", g.Order, err)
	}
	g.Batch, g.User, g.Items = order.BatchID(batch.Int64), order.UserID(user.Int64), linesOf(list)
	g.Partition = s.opts.Partitions.Of(k, group.String)
	g.Cause = fmt.Sprintf("%d/%d", g.Order, g.Event)
	return g, nil
}

// GiveBack gives units back on one home shard, in one transaction: the offers have sold less, the buyers hold less, and
// one row per give-back, under its cause, goes into the stock log of its partition. Give-backs whose cause is in the
// log already are left out, so a repeat changes nothing.
func (s *Store) GiveBack(ctx context.Context, home int, g []GiveBack) error {
	if len(g) == 0 {
		return nil
	}
	partitions := make([]order.Partition, len(g))
	for i := range g {
		if partitions[i] = g[i].Partition; s.Home(g[i].Partition) != home {
			panic(fmt.Sprintf("BUG: partition %d is not at home on shard %d", g[i].Partition, home))
		}
	}
	err := s.update(ctx, home, 0, func(t *tx) error {
		if _, err := t.lockParts(partitions...); err != nil {
			return err
		}
		fresh, err := t.notGivenBack(g)
		if err != nil {
			return err
		}
		if err := t.lowerSold(fresh); err != nil {
			return err
		}
		if err := t.lowerBuyers(fresh); err != nil {
			return err
		}
		return t.logGiveBacks(fresh)
	})
	return onShard(err, fmt.Sprintf("give back %d claims", len(g)), home)
}

// GiveBackRefused tells of an error of GiveBack that the database works, but refuses a row: an offer has not sold, or a
// buyer does not hold, what is to come back. It cannot happen by the protocol; the row needs a person.
func GiveBackRefused(err error) bool { return guardRefused(err) || errors.Is(err, ErrNoOffer) }

// notGivenBack leaves out what the log has, and what g has twice.
func (t *tx) notGivenBack(g []GiveBack) ([]GiveBack, error) {
	causes := make([]string, len(g))
	for i := range g {
		causes[i] = g[i].Cause
	}
	logged, err := t.causesLogged(causes)
	if err != nil {
		return nil, err
	}
	fresh := make([]GiveBack, 0, len(g))
	for i := range g {
		if !logged[g[i].Cause] {
			logged[g[i].Cause] = true
			fresh = append(fresh, g[i])
		}
	}
	return fresh, nil
}

func (t *tx) lowerSold(g []GiveBack) error {
	units := make(map[order.OfferID]int64)
	for i := range g {
		for _, l := range g[i].Items {
			units[l.Offer] += int64(l.Quantity)
		}
	}
	for _, offer := range sortedKeys(units) {
		n, err := t.exec("UPDATE offer_stock SET sold = sold - ? WHERE offer_id = ?", units[offer], offer)
		if err != nil {
			return fmt.Errorf("%d units of offer %d: %w", units[offer], offer, err)
		}
		if n != 1 {
			return fmt.Errorf("%d units of offer %d: %w", units[offer], offer, ErrNoOffer)
		}
	}
	return nil
}

// share is a number of units of an offer that several users give back.
type share struct {
	offer order.OfferID
	units int64
}

// lowerBuyers lowers what users hold of limited offers, with one statement for all users that give back as many units of
// an offer. Offers without a limit have no buyers.
func (t *tx) lowerBuyers(g []GiveBack) error {
	units := make(map[holder]int64)
	for i := range g {
		for _, l := range g[i].Items {
			units[holder{l.Offer, g[i].User}] += int64(l.Quantity)
		}
	}
	users := make(map[share][]order.UserID)
	for h, n := range units {
		users[share{h.offer, n}] = append(users[share{h.offer, n}], h.user)
	}
	shares := make([]share, 0, len(users))
	for sh := range users {
		shares = append(shares, sh)
	}
	slices.SortFunc(shares, func(a, b share) int {
		return cmp.Or(cmp.Compare(a.offer, b.offer), cmp.Compare(a.units, b.units))
	})
	for _, sh := range shares {
		slices.Sort(users[sh])
		err := in(users[sh], func(marks string, args []any) error {
			_, err := t.exec("UPDATE buyer SET units = units - ? WHERE offer_id = ? AND user_id IN "+marks,
				append([]any{sh.units, sh.offer}, args...)...)
			return err
		})
		if err != nil {
			return fmt.Errorf("%d units of offer %d from %d users: %w", sh.units, sh.offer, len(users[sh]), err)
		}
	}
	return nil
}

func (t *tx) logGiveBacks(g []GiveBack) error {
	entries := make(map[order.Partition][]logEntry)
	for i := range g {
		items := make([]order.LogItem, len(g[i].Items))
		for j, l := range g[i].Items {
			items[j] = order.LogItem{Op: order.OpGive, Offer: l.Offer, User: g[i].User, Units: int64(l.Quantity)}
		}
		entries[g[i].Partition] = append(entries[g[i].Partition], logEntry{cause: g[i].Cause, items: items})
	}
	for _, p := range sortedKeys(entries) {
		if _, err := t.appendLog(p, entries[p]); err != nil {
			return err
		}
	}
	return nil
}

// GaveBack marks the events of give-backs of one user shard as handled.
func (s *Store) GaveBack(ctx context.Context, shard int, g []GiveBack) error {
	err := s.updateEvents(ctx, shard, g, "due = NULL")
	return onShard(err, fmt.Sprintf("mark %d give-backs as handled", len(g)), shard)
}

// PutOffGiveBacks makes give-backs of one user shard due only after d, by the database's clock: those of a home shard
// that is down must not stand in the way of others. One that was handled meanwhile stays so.
func (s *Store) PutOffGiveBacks(ctx context.Context, shard int, g []GiveBack, d time.Duration) error {
	later := fmt.Sprintf("due = CASE WHEN due IS NULL THEN NULL ELSE %s + %d END", s.dialect.now, d.Milliseconds())
	err := s.updateEvents(ctx, shard, g, later)
	return onShard(err, fmt.Sprintf("put off %d give-backs", len(g)), shard)
}

func (s *Store) updateEvents(ctx context.Context, shard int, g []GiveBack, assign string) error {
	if len(g) == 0 {
		return nil
	}
	events := make([]pair, len(g))
	for i := range g {
		events[i] = pair{int64(g[i].Order), int64(g[i].Event)}
	}
	slices.SortFunc(events, func(a, b pair) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return s.update(ctx, shard, 0, func(t *tx) error {
		return t.d.inPairs(events, func(pairs string, args []any) error {
			_, err := t.exec("UPDATE order_event SET "+assign+" WHERE (order_id, n) IN "+pairs, args...)
			return err
		})
	})
}
