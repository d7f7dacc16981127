package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Letters keeps the dead letters of a queue whose broker deletes by age, on shard 0.
type Letters struct{ store *Store }

// Letters is where the dead letters of such a queue are kept. Its methods do what queue.Queue says of them.
func (s *Store) Letters() *Letters { return &Letters{s} }

// Bury keeps a message, durably. One that is there already stays as it is.
func (l *Letters) Bury(ctx context.Context, d queue.Delivery, reason string) error {
	body := append([]byte{}, d.Body...) // nil would be NULL
	err := l.store.update(ctx, 0, 0, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		_, err = t.exec("INSERT INTO dead_letter (p, position, at, reason, body) VALUES (?, ?, ?, ?, ?)"+t.d.upsert("p, position", ""),
			int64(d.Partition), int64(d.Position), now, errorText(reason), body)
		return err
	})
	if err != nil {
		return fmt.Errorf("bury message %d of partition %d: %w", d.Position, d.Partition, err)
	}
	return nil
}

// Letters lists at most limit of them behind an id.
func (l *Letters) Letters(ctx context.Context, after queue.LetterID, limit int) ([]queue.Letter, error) {
	var list []queue.Letter
	position := int64(min(after.Position, math.MaxInt64))
	scan := func(r *sql.Rows) error {
		var letter queue.Letter
		var p, position, at int64
		if err := r.Scan(&p, &position, &at, &letter.Reason, &letter.Body); err != nil {
			return err
		}
		letter.Partition, letter.Position, letter.At = order.Partition(p), uint64(position), time.UnixMilli(at)
		list = append(list, letter)
		return nil
	}
	const query = "SELECT p, position, at, reason, body FROM dead_letter WHERE p > ? OR p = ? AND position > ? ORDER BY p, position LIMIT ?"
	err := l.store.query(ctx, 0, query, scan, int64(after.Partition), int64(after.Partition), position, limit)
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	return list, nil
}

// Drop deletes one.
func (l *Letters) Drop(ctx context.Context, id queue.LetterID) error {
	if id.Position > math.MaxInt64 {
		return nil
	}
	err := l.store.update(ctx, 0, 0, func(t *tx) error {
		_, err := t.exec("DELETE FROM dead_letter WHERE p = ? AND position = ?", int64(id.Partition), int64(id.Position))
		return err
	})
	if err != nil {
		return fmt.Errorf("drop dead letter %s: %w", id, err)
	}
	return nil
}
