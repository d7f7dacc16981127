package sqlitequeue

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
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

// Letter is a buried message.
type Letter struct {
	queue.Delivery
	At     time.Time
	Reason string
}

// Letters lists at most limit buried messages by partition and position, for the person who looks at them.
func (q *Queue) Letters(ctx context.Context, limit int) ([]Letter, error) {
	q.look.Lock()
	defer q.look.Unlock()
	if q.isClosed() {
		return nil, queue.ErrClosed
	}
	return q.backlog.letters(ctx, limit)
}

func (r *reader) letters(ctx context.Context, limit int) ([]Letter, error) {
	rows, err := r.Conn.(driver.QueryerContext).QueryContext(ctx,
		"SELECT p, position, at, reason, body FROM dead ORDER BY p, position LIMIT ?", named(nil, []any{int64(limit)}))
	if err != nil {
		return nil, err
	}
	var letters []Letter
	values := make([]driver.Value, 5)
	for err = rows.Next(values); err == nil; err = rows.Next(values) {
		l := Letter{At: time.UnixMilli(values[2].(int64)), Reason: values[3].(string)}
		l.Partition, l.Position = order.Partition(values[0].(int64)), uint64(values[1].(int64))
		l.Body, _ = values[4].([]byte) // nil if empty
		letters = append(letters, l)
	}
	if err == io.EOF {
		err = nil
	}
	return letters, errors.Join(err, rows.Close())
}
