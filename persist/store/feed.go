package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"sluice/engine/order"
)

// The feed of a user shard is its order_event rows in the order of their numbers. There is no cursor over rows that are
// not numbered: a lower id may commit later. A row of new orders holds one event for each of them, with a number each;
// feed_n is the last of them.

// feedRowsMax bounds the rows that are numbered in one transaction; feedRowsRead those that one query reads, of which one
// may hold the ids of thousands of orders.
const (
	feedRowsMax  = 500
	feedRowsRead = 100
)

// feedRow is a row of order_event in the feed.
type feedRow struct {
	orderEvent
	orders []order.ID // the row's events, one each; none where an older program recorded orders and did not name them
	number int64      // of the last of them; 0: none
}

func (s *Store) feedRows(each func(string, func(*sql.Rows) error, ...any) error, where string, args ...any) (rows []feedRow, err error) {
	err = each("SELECT order_id, n, at, type, actor, data, COALESCE(feed_n, 0) FROM order_event WHERE "+where, func(r *sql.Rows) error {
		var f feedRow
		err := r.Scan(&f.id, &f.n, &f.at, &f.kind, &f.actor, &f.data, &f.number)
		f.orders = []order.ID{f.id}
		if err == nil && f.kind == eventRecorded {
			f.orders, err = flushOrders(f.id, f.data)
		}
		rows = append(rows, f)
		return err
	}, args...)
	return rows, err
}

// NumberEvents gives the next numbers of a user shard's feed to events that have none, and returns how many it gave; more
// says that there may be others left. Of one order, what happened first gets the lower number: rows are taken in the order
// of their keys, and whoever sees a row sees those that it came of.
func (s *Store) NumberEvents(ctx context.Context, shard int) (given int, more bool, err error) {
	waiting := false
	err = s.query(ctx, shard, "SELECT 1 FROM order_event WHERE feed_n IS NULL LIMIT 1", func(r *sql.Rows) error { return r.Scan(&waiting) })
	if err == nil && waiting { // at rest nothing is written
		err = s.update(ctx, shard, order.Flash, func(t *tx) error { // no ordinary order waits for it
			given, more, err = t.numberEvents()
			return err
		})
	}
	if err != nil {
		return 0, false, onShard(err, "number events", shard)
	}
	return given, more, nil
}

func (t *tx) numberEvents() (given int, more bool, err error) {
	var next int64
	if err := t.row("SELECT next FROM counter WHERE name = 'feed'" + t.d.forUpdate).Scan(&next); err != nil {
		return 0, false, err
	}
	rows, err := t.store.feedRows(t.query, "feed_n IS NULL ORDER BY order_id, n LIMIT ?", feedRowsMax)
	if err != nil || len(rows) == 0 {
		return 0, false, err
	}
	var values []any
	for i := range rows {
		f := &rows[i]
		if given += len(f.orders); len(f.orders) > 0 {
			f.number = next + int64(given) - 1
		}
		values = append(values, int64(f.id), f.n, int64(f.at), f.kind, f.actor, f.number)
	}
	numbered := insert{"order_event (order_id, n, at, type, actor, feed_n)", 6, t.d.upsert("order_id, n", "feed_n = new(feed_n)")}
	if err := t.insertRows(numbered, values); err != nil {
		return 0, false, err
	}
	_, err = t.exec("UPDATE counter SET next = ? WHERE name = 'feed'", next+int64(given))
	return given, len(rows) == feedRowsMax, err
}

// FeedEvents reads at most limit events of a user shard's feed, those that follow number after, in order. Events without
// a number are not in the feed yet.
func (s *Store) FeedEvents(ctx context.Context, shard int, after int64, limit int) ([]order.Event, error) {
	query := func(query string, scan func(*sql.Rows) error, args ...any) error {
		return s.query(ctx, shard, query, scan, args...)
	}
	var events []order.Event
	for from := after; len(events) < limit; {
		rows, err := s.feedRows(query, "feed_n > ? ORDER BY feed_n LIMIT ?", from, feedRowsRead)
		if err != nil {
			return nil, onShard(err, "read the feed", shard)
		}
		for i := range rows {
			f := &rows[i]
			for j, id := range f.orders {
				if number := f.number - int64(len(f.orders)-1-j); number > after && len(events) < limit {
					events = append(events, order.Event{Shard: shard, Number: number, Order: id, N: int(f.n), Type: f.kind, At: f.at, Actor: f.actor})
				}
			}
			from = f.number
		}
		if len(rows) < feedRowsRead {
			break
		}
	}
	return events, onShard(s.completeEvents(ctx, shard, events), "read the orders of the feed", shard)
}

// completeEvents adds what events say of their orders. Nothing of it depends on when it is read: an event that is read
// again is the same.
func (s *Store) completeEvents(ctx context.Context, shard int, events []order.Event) error {
	of := make(map[order.ID][]*order.Event, len(events))
	for i := range events {
		of[events[i].Order] = append(of[events[i].Order], &events[i])
	}
	err := in(sortedKeys(of), func(marks string, args []any) error {
		const columns = "SELECT order_id, user_id, shop_id, status, reason, details FROM orders WHERE order_id IN "
		return s.query(ctx, shard, columns+marks, func(r *sql.Rows) error {
			var o order.Order
			if err := r.Scan(&o.ID, &o.User, &o.Shop, &o.Status, &o.Reason, &o.Details); err != nil {
				return err
			}
			details := order.MaskDetails(o.Details)
			for _, e := range of[o.ID] {
				e.User, e.Shop, e.Details, e.Status = o.User, o.Shop, details, statusAfter(e.Type, o.Status)
				if e.Status == order.Rejected {
					e.Reason = o.Reason
				}
			}
			delete(of, o.ID)
			return nil
		}, args...)
	})
	if err == nil && len(of) > 0 {
		err = fmt.Errorf("%d orders that have events are not stored, such as %s", len(of), sortedKeys(of)[0])
	}
	return err
}

// statusAfter is the status behind an event of an order, which has status now; empty if the event changed none.
func statusAfter(event string, now order.Status) order.Status {
	switch status := order.Status(event); {
	case status.Known():
		return status
	case event == eventSecondClaim:
		return ""
	case now == order.Rejected: // from its first event to its last
		return order.Rejected
	}
	return order.AwaitingPayment
}

// FeedPublished is the highest number of a user shard's feed that is known to be published.
func (s *Store) FeedPublished(ctx context.Context, shard int) (number int64, err error) {
	err = s.query(ctx, shard, "SELECT next - 1 FROM counter WHERE name = 'feed_published'", func(r *sql.Rows) error { return r.Scan(&number) })
	return number, onShard(err, "read what is published of the feed", shard)
}

// SetFeedPublished notes that everything up to number is published. It never goes back: another process may be further.
func (s *Store) SetFeedPublished(ctx context.Context, shard int, number int64) error {
	err := s.update(ctx, shard, order.Flash, func(t *tx) error {
		_, err := t.exec("UPDATE counter SET next = ? WHERE name = 'feed_published' AND next < ?", number+1, number+1)
		return err
	})
	return onShard(err, "note what is published of the feed", shard)
}

// flushIDsMax bounds the orders of one event of new orders: in the longest form their ids still fit a BLOB of MySQL.
const flushIDsMax = 4000

// flushData is what an event of new orders holds beside its order, the lowest id: how many there are, and the others, in
// ascending order, as varints of what each has more than the one before it.
type flushData struct {
	Count int     `json:"count"`
	IDs   *[]byte `json:"ids"` // nil: an older program did not name them
}

// flushEvents are the events of all new orders of a flush, which it sorts.
func flushEvents(ids []order.ID, now order.Milli) (rows []any) {
	slices.Sort(ids)
	for chunk := range slices.Chunk(ids, flushIDsMax) {
		others := make([]byte, 0, 4*len(chunk))
		for i, id := range chunk[1:] {
			others = binary.AppendUvarint(others, uint64(id-chunk[i]))
		}
		data, err := json.Marshal(flushData{len(chunk), &others})
		if err != nil {
			panic("BUG: an event of new orders does not encode: " + err.Error())
		}
		rows = append(rows, orderEvent{id: chunk[0], n: 0, at: now, kind: eventRecorded, actor: actorRecord, data: data}.row()...)
	}
	return rows
}

// flushOrders are the orders of an event of new orders.
func flushOrders(first order.ID, data []byte) ([]order.ID, error) {
	var d flushData
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("event of the flush that begins with order %s: %w", first, err)
	}
	if d.IDs == nil {
		return nil, nil
	}
	ids := []order.ID{first}
	for others := *d.IDs; len(others) > 0; {
		more, n := binary.Uvarint(others)
		if n <= 0 {
			return nil, fmt.Errorf("event of the flush that begins with order %s: its ids do not read", first)
		}
		first += order.ID(more)
		ids, others = append(ids, first), others[n:]
	}
	return ids, nil
}
