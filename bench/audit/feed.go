package audit

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"sluice/engine/order"
)

// readFeed reads a user shard's feed of events in the order of its numbers, and notes what readers of it could not rely on.
func (s *shard) readFeed(ctx context.Context) error {
	numbered, err := s.numbered(ctx)
	if err != nil || !numbered {
		return err
	}
	next, unnamed := int64(1), false
	const query = "SELECT order_id, n, type, data, feed_n FROM order_event WHERE feed_n IS NOT NULL ORDER BY feed_n, order_id, n"
	return s.each(ctx, query, func(rows *sql.Rows) error {
		var id, n, number int64
		var typ string
		var data []byte
		if err := rows.Scan(&id, &n, &typ, &data, &number); err != nil {
			return err
		}
		if number == 0 { // of orders that an older program recorded
			unnamed = true
			return nil
		}
		ids, err := named(order.ID(id), typ, data)
		if err != nil {
			return err
		}
		if s.feed.checked(len(ids)); number != next+int64(len(ids))-1 {
			s.feed.violation("shard %d: number %d with %d events comes behind number %d", s.number, number, len(ids), next-1)
		}
		next = number + 1
		for _, id := range ids {
			had, known := s.fed[id]
			if n != had && (known || !unnamed) {
				s.feed.violation("shard %d, number %d: event %d of order %d comes behind %d of its events", s.number, number, n, id, had)
			}
			s.fed[id] = n + 1
		}
		return nil
	})
}

// numbered tells whether the tables are of a program that has a feed.
func (s *shard) numbered(ctx context.Context) (bool, error) {
	rows, err := s.conn.QueryContext(ctx, "SELECT * FROM order_event WHERE 1 = 0")
	if err != nil {
		return false, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	return slices.Contains(columns, "feed_n"), err
}

// named are the orders that an event is of: one, or all that a flush has recorded, in varints of what each has more than the
// one before it.
func named(first order.ID, typ string, data []byte) ([]order.ID, error) {
	ids := []order.ID{first}
	if typ != recordedEvent {
		return ids, nil
	}
	var flush struct {
		Count int
		IDs   []byte
	}
	if err := json.Unmarshal(data, &flush); err != nil {
		return nil, fmt.Errorf("event of the flush that begins with order %d: %w", first, err)
	}
	for len(flush.IDs) > 0 {
		more, n := binary.Uvarint(flush.IDs)
		if n <= 0 {
			break
		}
		ids, flush.IDs = append(ids, ids[len(ids)-1]+order.ID(more)), flush.IDs[n:]
	}
	if len(ids) != flush.Count || len(flush.IDs) > 0 {
		return nil, fmt.Errorf("event of the flush that begins with order %d names %d orders of %d", first, len(ids), flush.Count)
	}
	return ids, nil
}

func checkFeed(c *evidence, f *finding) {
	for _, s := range c.shards {
		f.take(&s.feed)
		for id := range s.fed {
			if len(c.find(id)) == 0 {
				f.violation("shard %d: its feed tells of order %d, which is not stored", s.number, id)
			}
		}
	}
}
