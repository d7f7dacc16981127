package store

import (
	"context"
	"database/sql"
	"fmt"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Count is what a partition's fast stock has to be: units left of every offer, what users hold of limited ones, and the
// number of the last stock-log row that is in these figures.
type Count struct {
	Logged uint64
	Offers []stock.LoadOffer
	Buyers []stock.Buyer
}

// Count counts partition p in one consistent snapshot, while claims go on. It gives ErrNotMine unless e is the
// partition's epoch and its barrier has been claimed: before that, batches that fast stock has forgotten may still be
// claimed.
func (s *Store) Count(ctx context.Context, p order.Partition, e order.Epoch) (*Count, error) {
	// The first read of a REPEATABLE READ transaction fixes what all of it sees; so does that of a SQLite one.
	level := sql.LevelDefault
	if s.dialect.name == MySQL {
		level = sql.LevelRepeatableRead
	}
	t, err := s.shards[s.Home(p)].read.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("count partition %d: %w", p, err)
	}
	defer func() { _ = t.Rollback() }() // nothing was written
	c := new(Count)
	if err := c.read(ctx, t, p, e); err != nil {
		return nil, fmt.Errorf("count partition %d for epoch %d: %w", p, e, err)
	}
	return c, nil
}

func (c *Count) read(ctx context.Context, t *sql.Tx, p order.Partition, e order.Epoch) error {
	var epoch, barrier order.Epoch
	err := t.QueryRowContext(ctx, "SELECT epoch, barrier, logged FROM part WHERE p = ?", p).Scan(&epoch, &barrier, &c.Logged)
	if err != nil {
		return err
	}
	if epoch != e || barrier != e {
		return ErrNotMine
	}
	rows, err := t.QueryContext(ctx, `SELECT o.offer_id, s.total - s.sold, o.lim, o.opens_at, o.closes_at
		FROM offer o JOIN offer_stock s ON s.offer_id = o.offer_id WHERE o.p = ? ORDER BY o.offer_id`, p)
	err = each(rows, err, func(r *sql.Rows) error {
		var o stock.LoadOffer
		err := r.Scan(&o.Offer, &o.Left, &o.Limit, &o.Opens, &o.Closes)
		c.Offers = append(c.Offers, o)
		return err
	})
	if err != nil {
		return err
	}
	rows, err = t.QueryContext(ctx, `SELECT b.offer_id, b.user_id, b.units FROM offer o JOIN buyer b ON b.offer_id = o.offer_id
		WHERE o.p = ? AND o.lim > 0 AND b.units > 0 ORDER BY b.offer_id, b.user_id`, p)
	return each(rows, err, func(r *sql.Rows) error {
		var b stock.Buyer
		err := r.Scan(&b.Offer, &b.User, &b.Units)
		c.Buyers = append(c.Buyers, b)
		return err
	})
}
