package store

import (
	"context"
	"database/sql"
	"fmt"

	"sluice/engine/order"
)

const selectOrder = `SELECT order_id, batch_id, epoch, user_id, shop_id, group_id, idem_key, fingerprint, kind, status, reason,
	duplicate_of, goods, discount, freight, amount, currency, items, details, unpaid_until, created_at, updated_at, paid_at FROM orders`

// Order reads an order as it is stored; nil if it is not. A rejected duplicate is returned as such: DuplicateOf names
// the order that its buyer is to be shown.
func (s *Store) Order(ctx context.Context, id order.ID) (*order.Order, error) {
	rows, err := s.shards[s.OrderShard(id)].rows(ctx, selectOrder+" WHERE order_id = ?", id)
	o, err := scanOne(rows, err)
	if err != nil {
		return nil, fmt.Errorf("read order %s: %w", id, err)
	}
	return o, nil
}

// OrdersByID reads orders of one user shard. The result is index-aligned with ids: nil for one that is not stored.
func (s *Store) OrdersByID(ctx context.Context, shard int, ids []order.ID) ([]*order.Order, error) {
	byID := make(map[order.ID]*order.Order, len(ids))
	err := in(ids, func(marks string, args []any) error {
		return s.query(ctx, shard, selectOrder+" WHERE order_id IN "+marks, func(r *sql.Rows) error {
			o, err := scanOrder(r)
			if err == nil {
				byID[o.ID] = o
			}
			return err
		}, args...)
	})
	if err != nil {
		return nil, onShard(err, fmt.Sprintf("read %d orders", len(ids)), shard)
	}
	orders := make([]*order.Order, len(ids))
	for i, id := range ids {
		orders[i] = byID[id]
	}
	return orders, nil
}

// ListFilter narrows a list of orders; zero values do not. From is inclusive, To exclusive, of the time of creation.
type ListFilter struct {
	Status   order.Status
	From, To order.Milli
	Before   order.ID // only smaller ids: the last of the page before
	Limit    int
}

// List reads a user's orders, newest first. Rejected duplicates are left out: they read as the order they repeat.
func (s *Store) List(ctx context.Context, u order.UserID, f ListFilter) ([]*order.Order, error) {
	where, args := s.shards[s.UserShard(u)].ofUser(u)
	query := selectOrder + " WHERE " + where + " AND reason <> 'duplicate'"
	and := func(condition string, v any) {
		query += " AND " + condition
		args = append(args, v)
	}
	if f.Status != "" {
		and("status = ?", string(f.Status))
	}
	if f.From != 0 {
		and("created_at >= ?", f.From)
	}
	if f.To != 0 {
		and("created_at < ?", f.To)
	}
	if f.Before != 0 {
		and("order_id < ?", f.Before)
	}
	query += " ORDER BY order_id DESC LIMIT ?"
	orders, err := s.orders(ctx, s.UserShard(u), query, append(args, f.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("list orders of user %d: %w", u, err)
	}
	return orders, nil
}

// OrdersByKey reads the user's orders that hold an idempotency key, one per group at most, newest first. It scans the
// user's rows.
func (s *Store) OrdersByKey(ctx context.Context, u order.UserID, key string) ([]*order.Order, error) {
	where, args := s.shards[s.UserShard(u)].ofUser(u)
	query := selectOrder + " WHERE " + where + " AND key_hash IS NOT NULL AND idem_key = ? ORDER BY order_id DESC"
	orders, err := s.orders(ctx, s.UserShard(u), query, append(args, key)...)
	if err != nil {
		return nil, fmt.Errorf("read orders of user %d by key: %w", u, err)
	}
	return orders, nil
}

// KeyRef names an idempotency key: its user and the hash of group and key (order.KeyHash).
type KeyRef struct {
	User order.UserID
	Key  uint64
}

// OrdersOfKeys reads the orders that hold keys, all of one user shard. The result is index-aligned: nil for a key that
// no order holds.
func (s *Store) OrdersOfKeys(ctx context.Context, shard int, keys []KeyRef) ([]*order.Order, error) {
	byKey := make(map[KeyRef]*order.Order, len(keys))
	err := s.shards[shard].ofKeys(s.dialect, keys, func(where string, args []any) error {
		return s.query(ctx, shard, selectOrder+" WHERE "+where, func(r *sql.Rows) error {
			o, err := scanOrder(r)
			if err == nil {
				byKey[KeyRef{o.User, order.KeyHash(o.Group, o.Key)}] = o
			}
			return err
		}, args...)
	})
	if err != nil {
		return nil, onShard(err, fmt.Sprintf("read the orders of %d keys", len(keys)), shard)
	}
	orders := make([]*order.Order, len(keys))
	for i, key := range keys {
		orders[i] = byKey[key]
	}
	return orders, nil
}

func (s *Store) orders(ctx context.Context, shard int, query string, args ...any) ([]*order.Order, error) {
	var orders []*order.Order
	rows, err := s.shards[shard].rows(ctx, query, args...)
	err = each(rows, err, func(r *sql.Rows) error {
		o, err := scanOrder(r)
		orders = append(orders, o)
		return err
	})
	return orders, err
}

// scanOne reads one order and closes rows; nil if there is none.
func scanOne(rows *sql.Rows, err error) (o *order.Order, _ error) {
	err = each(rows, err, func(r *sql.Rows) (err error) {
		o, err = scanOrder(r)
		return err
	})
	return o, err
}

// scanOrder reads the present row, a selectOrder.
func scanOrder(r *sql.Rows) (*order.Order, error) {
	o := new(order.Order)
	var fingerprint int64
	var kind string
	var items sql.RawBytes
	var unpaid sql.NullInt64
	err := r.Scan(&o.ID, &o.Batch, &o.Epoch, &o.User, &o.Shop, &o.Group, &o.Key, &fingerprint, &kind, &o.Status, &o.Reason,
		&o.DuplicateOf, &o.Goods, &o.Discount, &o.Freight, &o.Amount, &o.Currency, &items, &o.Details, &unpaid,
		&o.Created, &o.Updated, &o.Paid)
	if err != nil {
		return nil, err
	}
	o.Fingerprint, o.Expires = uint64(fingerprint), order.Milli(unpaid.Int64)
	var ok bool
	if o.Kind, ok = order.ParseKind(kind); !ok {
		return nil, fmt.Errorf("order %s has kind %q", o.ID, kind)
	}
	if o.Items, err = decodeItems(items); err != nil {
		return nil, fmt.Errorf("order %s: %w", o.ID, err)
	}
	return o, nil
}

// pair is two columns of a key.
type pair [2]int64

func keyPairs(keys []KeyRef) []pair {
	pairs := make([]pair, len(keys))
	for i, key := range keys {
		pairs[i] = pair{int64(key.User), int64(key.Key)}
	}
	return pairs
}

// inPairs calls f with pieces of list for "(a, b) IN ..." and arguments.
func (d *dialect) inPairs(list []pair, f func(pairs string, args []any) error) error {
	for len(list) > 0 {
		n := min(len(list), listMax/2)
		args := make([]any, 0, 2*n)
		text := []byte("(")
		if d.name == SQLite {
			text = append(text, "VALUES "...)
		}
		for i, p := range list[:n] {
			if i > 0 {
				text = append(text, ',')
			}
			text = append(text, "(?,?)"...)
			args = append(args, p[0], p[1])
		}
		if err := f(string(append(text, ')')), args); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}
