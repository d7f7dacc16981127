package sqlitequeue

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Bury keeps a damaged message in the table dead. Burying it again changes nothing.
func (q *Queue) Bury(ctx context.Context, d queue.Delivery, reason string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.write.Lock()
	defer q.write.Unlock()
	if q.isClosed() {
		return queue.ErrClosed
	}
	// An empty body is bound as NULL.
	err := q.file.exec("INSERT INTO dead(p, position, at, reason, body) VALUES(?, ?, ?, ?, coalesce(?, x'')) ON CONFLICT DO NOTHING",
		int64(d.Partition), int64(d.Position), time.Now().UnixMilli(), reason, d.Body)
	if err != nil {
		return fmt.Errorf("bury message %d of partition %d: %w", d.Position, d.Partition, err)
	}
	return nil
}

// Letters reads from the table dead.
func (q *Queue) Letters(ctx context.Context, after queue.LetterID, limit int) ([]queue.Letter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.look.Lock()
	defer q.look.Unlock()
	if q.isClosed() {
		return nil, queue.ErrClosed
	}
	letters, err := q.backlog.letters(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	return letters, nil
}

// Drop deletes from the table dead.
func (q *Queue) Drop(ctx context.Context, id queue.LetterID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.write.Lock()
	defer q.write.Unlock()
	if q.isClosed() {
		return queue.ErrClosed
	}
	if id.Position > math.MaxInt64 {
		return nil
	}
	if err := q.file.exec("DELETE FROM dead WHERE p = ? AND position = ?", int64(id.Partition), int64(id.Position)); err != nil {
		return fmt.Errorf("drop dead letter %s: %w", id, err)
	}
	return nil
}

func (r *reader) letters(ctx context.Context, after queue.LetterID, limit int) ([]queue.Letter, error) {
	position := int64(min(after.Position, math.MaxInt64))
	rows, err := r.Conn.(driver.QueryerContext).QueryContext(ctx,
		"SELECT p, position, at, reason, body FROM dead WHERE (p, position) > (?, ?) ORDER BY p, position LIMIT ?",
		named(nil, []any{int64(after.Partition), position, int64(limit)}))
	if err != nil {
		return nil, err
	}
	var letters []queue.Letter
	values := make([]driver.Value, 5)
	for err = rows.Next(values); err == nil; err = rows.Next(values) {
		l := queue.Letter{At: time.UnixMilli(values[2].(int64)), Reason: values[3].(string)}
		l.Partition, l.Position = order.Partition(values[0].(int64)), uint64(values[1].(int64))
		l.Body, _ = values[4].([]byte) // nil if empty
		letters = append(letters, l)
	}
	if err == io.EOF {
		err = nil
	}
	return letters, errors.Join(err, rows.Close())
}
