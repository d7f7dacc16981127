package store

import (
	"context"
	"database/sql"
	"fmt"

	"sluice/engine/order"
)

// logEntry is a row that is about to get its number. cause is empty for changes that nobody repeats; otherwise it is
// unique for ever, and the caller has looked, under the lock of the partition, that it is not there yet.
type logEntry struct {
	cause string
	items []order.LogItem
}

// appendLog gives rows of partition p the next numbers and returns the first. The transaction holds the lock of the
// partition's row, so numbers have no gaps and are in commit order.
func (t *tx) appendLog(p order.Partition, entries []logEntry) (first uint64, err error) {
	if len(entries) == 0 {
		return 0, nil
	}
	var logged uint64
	if err := t.row("SELECT logged FROM part WHERE p = ?"+t.d.forUpdate, p).Scan(&logged); err != nil {
		return 0, err
	}
	values := make([]any, 0, 4*len(entries))
	for i, e := range entries {
		var cause any
		if e.cause != "" {
			cause = e.cause
		}
		values = append(values, p, logged+1+uint64(i), cause, order.EncodeLogItems(e.items))
	}
	if err := t.insertRows(insert{"stock_log (p, n, cause, items)", 4, ""}, values); err != nil {
		return 0, err
	}
	_, err = t.exec("UPDATE part SET logged = logged + ? WHERE p = ?", len(entries), p)
	return logged + 1, err
}

// causesLogged tells which of the causes are in the log of this shard already.
func (t *tx) causesLogged(causes []string) (map[string]bool, error) {
	logged := make(map[string]bool)
	err := in(causes, func(marks string, args []any) error {
		return t.query("SELECT cause FROM stock_log WHERE cause IN "+marks, func(r *sql.Rows) error {
			var cause string
			err := r.Scan(&cause)
			logged[cause] = true
			return err
		}, args...)
	})
	return logged, err
}

// StockLog reads at most limit rows of partition p with numbers above after, in order. A row that is seen has every
// earlier one before it.
func (s *Store) StockLog(ctx context.Context, p order.Partition, after uint64, limit int) ([]order.LogRow, error) {
	var rows []order.LogRow
	err := s.query(ctx, s.Home(p), "SELECT n, items FROM stock_log WHERE p = ? AND n > ? ORDER BY n LIMIT ?",
		func(r *sql.Rows) error {
			var row order.LogRow
			var items []byte
			if err := r.Scan(&row.N, &items); err != nil {
				return err
			}
			var err error
			row.Items, err = order.DecodeLogItems(items)
			rows = append(rows, row)
			return err
		}, p, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the stock log of partition %d after %d: %w", p, after, err)
	}
	return rows, nil
}
