package store

import (
	"context"
	"database/sql"
	"fmt"

	"sluice/engine/order"
)

// books is what orders hold: live ones, and dead ones whose units have not come back yet.
type books struct {
	limited map[order.OfferID]bool
	units   map[order.OfferID]int64
	holders map[holder]int64 // of limited offers
}

func (b *books) add(user order.UserID, lines []order.Line) {
	for _, l := range lines {
		b.units[l.Offer] += int64(l.Quantity)
		if b.limited[l.Offer] {
			b.holders[holder{l.Offer, user}] += int64(l.Quantity)
		}
	}
}

// returnLost gives back what was claimed for orders that are nowhere: a claim comes before its orders are recorded, and
// their message is gone. Nobody may write meanwhile. Units of more orders than were sold are left as they are: that is
// no loss, and the audit tells it.
func (s *Store) returnLost(ctx context.Context) (units int64, err error) {
	b := &books{limited: map[order.OfferID]bool{}, units: map[order.OfferID]int64{}, holders: map[holder]int64{}}
	due := make([][]GiveBack, len(s.shards)) // by home shard
	for home := range s.shards {
		if err := s.readLimited(ctx, home, b); err != nil {
			return 0, onShard(err, "read offers", home)
		}
	}
	for shard := range s.shards {
		if err := s.readLive(ctx, shard, b); err != nil {
			return 0, onShard(err, "read orders", shard)
		}
		if err := s.readDue(ctx, shard, due); err != nil {
			return 0, onShard(err, "read give-backs", shard)
		}
		if err := s.readParked(ctx, shard, b); err != nil {
			return 0, onShard(err, "read parked orders", shard)
		}
	}
	for home := range s.shards {
		n, err := s.lowerTo(ctx, home, b, due[home])
		if units += n; err != nil {
			return units, onShard(err, "give back lost units", home)
		}
	}
	return units, nil
}

func (s *Store) readLimited(ctx context.Context, home int, b *books) error {
	return s.query(ctx, home, "SELECT offer_id FROM offer WHERE lim > 0", func(r *sql.Rows) error {
		var offer order.OfferID
		err := r.Scan(&offer)
		b.limited[offer] = true
		return err
	})
}

func (s *Store) readLive(ctx context.Context, shard int, b *books) error {
	return s.query(ctx, shard, "SELECT user_id, status, items FROM orders", func(r *sql.Rows) error {
		var user order.UserID
		var status order.Status
		var items sql.RawBytes
		if err := r.Scan(&user, &status, &items); err != nil || !status.Live() {
			return err
		}
		list, err := decodeItems(items)
		b.add(user, linesOf(list))
		return err
	})
}

func (s *Store) readDue(ctx context.Context, shard int, due [][]GiveBack) error {
	return s.query(ctx, shard, selectGiveBacks+" WHERE e.due IS NOT NULL", func(r *sql.Rows) error {
		g, err := s.scanGiveBack(r)
		if err == nil {
			home := s.Home(g.Partition)
			due[home] = append(due[home], g)
		}
		return err
	})
}

// readParked adds the orders parked on a home shard that are not stored on their user shard, each once.
func (s *Store) readParked(ctx context.Context, home int, b *books) error {
	parked := map[order.ID]ParkedOrder{}
	err := s.query(ctx, home, selectParked, func(r *sql.Rows) error {
		o, err := scanParked(r)
		if o.Status.Live() {
			parked[o.Order] = o
		}
		return err
	})
	if err != nil {
		return err
	}
	ids := make([][]order.ID, len(s.shards))
	for _, id := range sortedKeys(parked) {
		ids[parked[id].Shard] = append(ids[parked[id].Shard], id)
	}
	for shard, list := range ids {
		err := in(list, func(marks string, args []any) error {
			return s.query(ctx, shard, "SELECT order_id FROM orders WHERE order_id IN "+marks, func(r *sql.Rows) error {
				var id order.ID
				err := r.Scan(&id)
				delete(parked, id)
				return err
			}, args...)
		})
		if err != nil {
			return err
		}
	}
	for id, o := range parked {
		var record order.Record
		if _, err := order.DecodeRecord(o.Bytes, &record); err != nil {
			return fmt.Errorf("parked order %s: %w", id, err)
		}
		b.add(record.User, linesOf(record.Items))
	}
	return nil
}

// lowerTo lowers what offers of a home shard have sold, and buyers hold, to what orders do.
func (s *Store) lowerTo(ctx context.Context, home int, b *books, due []GiveBack) (units int64, err error) {
	err = s.update(ctx, home, 0, func(t *tx) error {
		units = 0
		if err := t.lockHome(); err != nil {
			return err
		}
		fresh, err := t.notGivenBack(due)
		if err != nil {
			return err
		}
		held := &books{limited: b.limited, units: map[order.OfferID]int64{}, holders: map[holder]int64{}}
		for i := range fresh {
			held.add(fresh[i].User, fresh[i].Items)
		}
		if units, err = t.lowerOffersTo(b, held); err != nil {
			return err
		}
		return t.lowerBuyersTo(b, held)
	})
	return units, err
}

// lockHome locks every partition of the home shard.
func (t *tx) lockHome() error {
	return t.query("SELECT p FROM part ORDER BY p"+t.d.forUpdate, func(*sql.Rows) error { return nil })
}

func (t *tx) lowerOffersTo(b, due *books) (units int64, err error) {
	lower := map[order.OfferID]int64{}
	err = t.query("SELECT offer_id, sold FROM offer_stock", func(r *sql.Rows) error {
		var offer order.OfferID
		var sold int64
		err := r.Scan(&offer, &sold)
		if held := b.units[offer] + due.units[offer]; sold > held {
			lower[offer] = held
			units += sold - held
		}
		return err
	})
	for _, offer := range sortedKeys(lower) {
		if err == nil {
			_, err = t.exec("UPDATE offer_stock SET sold = ? WHERE offer_id = ?", lower[offer], offer)
		}
	}
	return units, err
}

func (t *tx) lowerBuyersTo(b, due *books) error {
	lower := map[holder]int64{}
	err := t.query("SELECT offer_id, user_id, units FROM buyer", func(r *sql.Rows) error {
		var h holder
		var units int64
		err := r.Scan(&h.offer, &h.user, &units)
		if held := b.holders[h] + due.holders[h]; units > held {
			lower[h] = held
		}
		return err
	})
	for h, held := range lower {
		if err == nil {
			_, err = t.exec("UPDATE buyer SET units = ? WHERE offer_id = ? AND user_id = ?", held, h.offer, h.user)
		}
	}
	return err
}
