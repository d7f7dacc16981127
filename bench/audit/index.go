package audit

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
)

// indexed is an entry of a SQLite shard's index of orders by user and key (persist/store/keys.go), or what an order's
// row wants there; key 0 is none.
type indexed struct{ id, user, key int64 }

func byOrder(a, b indexed) int {
	return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.user, b.user), cmp.Compare(a.key, b.key))
}

// readIndex looks whether a shard finds its orders by user and key. On MySQL a unique index of the table sees to it.
func (s *shard) readIndex(ctx context.Context, dialect string) error {
	if dialect == "sqlite" {
		return s.readEntries(ctx)
	}
	const query = `SELECT count(*) FROM information_schema.statistics WHERE table_schema = database() AND table_name = 'orders'
		AND index_name = 'orders_by_user_key' AND non_unique = 0`
	return s.each(ctx, query, func(rows *sql.Rows) error {
		var columns int
		err := rows.Scan(&columns)
		s.index.checked(1)
		if columns != 2 {
			s.index.violation("shard %d has no unique index of user and key", s.number)
		}
		return err
	})
}

// readEntries compares orders with the merged and the unmerged part of their index. Entries of orders that are not stored
// are allowed: they are of transactions that were rolled back.
func (s *shard) readEntries(ctx context.Context) error {
	var have, want []indexed
	read := func(into *[]indexed) func(*sql.Rows) error {
		return func(rows *sql.Rows) error {
			var e indexed
			err := rows.Scan(&e.id, &e.user, &e.key)
			*into = append(*into, e)
			return err
		}
	}
	if err := s.each(ctx, "SELECT order_id, user_id, key_hash FROM order_key", read(&have)); err != nil {
		return err
	}
	// The index holds 1 for a hash that is 0.
	const wanted = "SELECT order_id, user_id, CASE WHEN key_hash = 0 THEN 1 ELSE coalesce(key_hash, 0) END FROM orders ORDER BY order_id"
	if err := s.each(ctx, wanted, read(&want)); err != nil {
		return err
	}
	err := s.each(ctx, "SELECT n, entries FROM order_key_run", func(rows *sql.Rows) error {
		var n int64
		var b sql.RawBytes
		if err := rows.Scan(&n, &b); err != nil {
			return err
		}
		if len(b)%24 != 0 {
			return fmt.Errorf("run %d of the index has %d bytes", n, len(b))
		}
		for ; len(b) > 0; b = b[24:] {
			number := func(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
			have = append(have, indexed{user: number(0), key: number(8), id: number(16)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(have, byOrder)
	s.index.checked(len(want))
	for _, w := range want {
		if _, ok := slices.BinarySearchFunc(have, w, byOrder); !ok {
			s.index.violation("order %d is not found by its user and key", w.id)
		}
	}
	return nil
}
