package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"sluice/engine/order"
)

// ParkedOrder is an accepted or rejected order that waits on the home shard of its partition, because its user shard is
// down or refuses it.
type ParkedOrder struct {
	Order     order.ID
	Batch     order.BatchID
	Shard     int // the user shard that it belongs to
	Partition order.Partition
	Epoch     order.Epoch
	Status    order.Status
	Reason    order.Reason
	Error     string // not empty: poison, why its shard refuses it
	Bytes     []byte // wire form of its record
}

// errorMax bounds the error kept with a poison order, in bytes.
const errorMax = 2000

// Park stores orders on the home shard of their partitions. One that is parked already stays as it is, except that it
// takes on an error.
func (s *Store) Park(ctx context.Context, home int, parked []ParkedOrder) error {
	if len(parked) == 0 {
		return nil
	}
	parked = slices.Clone(parked)
	slices.SortFunc(parked, compareParked)
	partitions := make([]order.Partition, len(parked))
	values := make([]any, 0, 9*len(parked))
	for i := range parked {
		o := &parked[i]
		partitions[i] = o.Partition
		values = append(values, int64(o.Order), int64(o.Batch), int64(o.Shard), int64(o.Partition), int64(o.Epoch),
			string(o.Status), string(o.Reason), errorText(o.Error), o.Bytes)
	}
	const columns = "parked (order_id, batch_id, shard, p, epoch, status, reason, error, bytes)"
	keepError := "error = CASE WHEN new(error) <> '' THEN new(error) ELSE parked.error END"
	err := s.update(ctx, home, s.opts.Partitions.Kind(parked[0].Partition), func(t *tx) error {
		if _, err := t.lockParts(partitions...); err != nil {
			return err
		}
		return t.insertRows(insert{columns, 9, t.d.upsert("order_id, batch_id", keepError)}, values)
	})
	return onShard(err, fmt.Sprintf("park %d orders", len(parked)), home)
}

func compareParked(a, b ParkedOrder) int {
	return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Batch, b.Batch))
}

// errorText is s as it is kept beside what it speaks of: not longer than errorMax, without what a database may refuse as text.
func errorText(s string) string {
	b := []byte(s[:min(len(s), errorMax)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// Parked reads orders of one user shard that are parked on a home shard, poison excepted, oldest first. There are a few
// more than limit if the last one was claimed in several batches: all of them come together.
func (s *Store) Parked(ctx context.Context, home int, shard int, limit int) ([]ParkedOrder, error) {
	var list []ParkedOrder
	scan := func(r *sql.Rows) error {
		o, err := scanParked(r)
		list = append(list, o)
		return err
	}
	const query = selectParked + " WHERE shard = ? AND error = ''"
	err := s.query(ctx, home, query+" ORDER BY order_id, batch_id LIMIT ?", scan, shard, limit)
	if err == nil && len(list) == limit && limit > 0 {
		last := list[limit-1]
		err = s.query(ctx, home, query+" AND order_id = ? AND batch_id > ? ORDER BY batch_id", scan, shard, last.Order, last.Batch)
	}
	if err != nil {
		return nil, onShard(err, "read parked orders", home)
	}
	return list, nil
}

// Unpark deletes parked orders that have been recorded, each as it was claimed in its batch: another claim of the same
// order may have been parked meanwhile. Poison stays.
func (s *Store) Unpark(ctx context.Context, home int, recorded []ParkedOrder) error {
	return s.unpark(ctx, home, recorded, "error = '' AND ")
}

// unpark deletes parked orders of a home shard; and narrows them.
func (s *Store) unpark(ctx context.Context, home int, list []ParkedOrder, and string) error {
	if len(list) == 0 {
		return nil
	}
	claims := make([]pair, len(list))
	for i := range list {
		claims[i] = pair{int64(list[i].Order), int64(list[i].Batch)}
	}
	slices.SortFunc(claims, func(a, b pair) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	err := s.update(ctx, home, 0, func(t *tx) error {
		return t.d.inPairs(claims, func(pairs string, args []any) error {
			_, err := t.exec("DELETE FROM parked WHERE "+and+"(order_id, batch_id) IN "+pairs, args...)
			return err
		})
	})
	return onShard(err, fmt.Sprintf("unpark %d orders", len(list)), home)
}

// poisonMax bounds what LivePoison reads.
const poisonMax = 1000

// LivePoison reads the live orders of one user shard that are poison on a home shard. Their keys are taken, although no
// row of orders says so. More than a thousand are an error: that shard refuses everything, and a person is needed.
func (s *Store) LivePoison(ctx context.Context, home int, shard int) ([]*order.Record, error) {
	var list []*order.Record
	scan := func(r *sql.Rows) error {
		var wire []byte
		if err := r.Scan(&wire); err != nil {
			return err
		}
		record := new(order.Record)
		_, err := order.DecodeRecord(wire, record)
		list = append(list, record)
		return err
	}
	const query = "SELECT bytes FROM parked WHERE shard = ? AND error <> '' AND status = ? LIMIT ?"
	err := s.query(ctx, home, query, scan, shard, string(order.AwaitingPayment), poisonMax+1)
	if err == nil && len(list) > poisonMax {
		err = fmt.Errorf("there are more than %d", poisonMax)
	}
	if err != nil {
		return nil, onShard(err, fmt.Sprintf("read the poison of shard %d", shard), home)
	}
	return list, nil
}

// ParkedEpochs is, per partition of a home shard, the lowest epoch of which an order is parked, poison excepted.
func (s *Store) ParkedEpochs(ctx context.Context, home int) (map[order.Partition]order.Epoch, error) {
	epochs := make(map[order.Partition]order.Epoch)
	err := s.query(ctx, home, "SELECT p, MIN(epoch) FROM parked WHERE error = '' GROUP BY p", func(r *sql.Rows) error {
		var p order.Partition
		var e order.Epoch
		err := r.Scan(&p, &e)
		epochs[p] = e
		return err
	})
	if err != nil {
		return nil, onShard(err, "read the epochs of parked orders", home)
	}
	return epochs, nil
}

// AnyParked tells whether any order is parked anywhere, poison included.
func (s *Store) AnyParked(ctx context.Context) (bool, error) {
	for home := range s.shards {
		var any bool
		err := s.shards[home].read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM parked)").Scan(&any)
		if err != nil || any {
			return any, onShard(err, "look for parked orders", home)
		}
	}
	return false, nil
}

// parkedCountMax bounds the rows that CountParked looks at on each home shard.
const parkedCountMax = 100_000

// CountParked counts the orders that are parked, those of shards that are down and poison apart. On each home shard
// parkedCountMax rows are counted at most.
func (s *Store) CountParked(ctx context.Context) (parked, poison int64, err error) {
	const query = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN error <> '' THEN 1 ELSE 0 END), 0) FROM (SELECT error FROM parked LIMIT ?) AS some"
	for home := range s.shards {
		var all, refused int64
		if err := s.shards[home].read.QueryRowContext(ctx, query, parkedCountMax).Scan(&all, &refused); err != nil {
			return 0, 0, onShard(err, "count parked orders", home)
		}
		parked, poison = parked+all-refused, poison+refused
	}
	return parked, poison, nil
}
