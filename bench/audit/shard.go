package audit

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"sluice/engine/order"
)

// shard is what one database says.
type shard struct {
	number int
	db     *sql.DB
	conn   *sql.Conn

	// The stock side.
	parts  map[order.Partition]part
	offers map[order.OfferID]*offer
	buyers map[holding]buyer
	log    map[order.Partition]*stockLog
	causes map[string]int    // how often
	given  map[order.ID]bool // orders with a give-back in the log
	second map[string]bool   // causes in the log of second claims given back
	parked []parked

	// The order side.
	orders   []stored
	events   []event
	recorded int64              // orders that the events of type recorded count
	fed      map[order.ID]int64 // events in the feed, by order
	live     map[order.OfferID]int64
	held     map[holding]int64
	due      map[order.OfferID]int64
	dueHeld  map[holding]int64
	money    finding
	state    finding
	leaked   finding
	feed     finding
	index    finding
}

type part struct {
	epoch, barrier, recorded, logged int64
}

type offer struct {
	shard       int
	p           order.Partition
	shop        int64
	group, sku  string
	kind        string
	currency    string
	limit       int64
	total, sold int64
	stocked     bool // it has a row of stock
	prices      map[int64]order.Money
}

type buyer struct{ units, lim int64 }

type stockLog struct{ rows, first, last int64 }

type parked struct {
	id     order.ID
	p      order.Partition
	status order.Status
	record order.Record
	bad    error
}

func openShard(ctx context.Context, o *Options, number int) (*shard, error) {
	s := &shard{
		number: number, parts: map[order.Partition]part{}, offers: map[order.OfferID]*offer{},
		buyers: map[holding]buyer{}, log: map[order.Partition]*stockLog{}, causes: map[string]int{},
		given: map[order.ID]bool{}, second: map[string]bool{}, live: map[order.OfferID]int64{}, held: map[holding]int64{},
		due: map[order.OfferID]int64{}, dueHeld: map[holding]int64{}, fed: map[order.ID]int64{},
	}
	var err error
	s.db, s.conn, err = openReadOnly(ctx, o.Dialect, o.Shards[number], o.TLS)
	return s, err
}

func (s *shard) close() {
	_ = s.conn.Close()
	_ = s.db.Close()
}

// each runs a query and calls row for every row.
func (s *shard) each(ctx context.Context, query string, row func(*sql.Rows) error) error {
	return each(ctx, s.conn, query, row)
}

func each(ctx context.Context, conn *sql.Conn, query string, row func(*sql.Rows) error) error {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// readHome reads the stock side.
func (s *shard) readHome(ctx context.Context) error {
	for _, read := range []func(context.Context) error{s.readParts, s.readOffers, s.readBuyers, s.readLog, s.readParked} {
		if err := read(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *shard) readParts(ctx context.Context) error {
	return s.each(ctx, "SELECT p, epoch, barrier, recorded, logged FROM part", func(rows *sql.Rows) error {
		var p order.Partition
		var x part
		err := rows.Scan(&p, &x.epoch, &x.barrier, &x.recorded, &x.logged)
		s.parts[p] = x
		return err
	})
}

func (s *shard) readOffers(ctx context.Context) error {
	err := s.each(ctx, "SELECT offer_id, p, shop_id, group_id, sku, kind, currency, lim FROM offer", func(rows *sql.Rows) error {
		var id int64
		o := &offer{shard: s.number, prices: map[int64]order.Money{}}
		err := rows.Scan(&id, &o.p, &o.shop, &o.group, &o.sku, &o.kind, &o.currency, &o.limit)
		s.offers[order.OfferID(id)] = o
		return err
	})
	if err != nil {
		return err
	}
	err = s.each(ctx, "SELECT offer_id, total, sold FROM offer_stock", func(rows *sql.Rows) error {
		var id, total, sold int64
		err := rows.Scan(&id, &total, &sold)
		o := s.offer(id)
		o.total, o.sold, o.stocked = total, sold, true
		return err
	})
	if err != nil {
		return err
	}
	return s.each(ctx, "SELECT offer_id, version, unit_price FROM offer_price", func(rows *sql.Rows) error {
		var id, version, price int64
		err := rows.Scan(&id, &version, &price)
		s.offer(id).prices[version] = order.Money(price)
		return err
	})
}

// offer is the offer of this id; an unknown one is noted, without what its own row would say.
func (s *shard) offer(id int64) *offer {
	o := s.offers[order.OfferID(id)]
	if o == nil {
		o = &offer{shard: s.number, prices: map[int64]order.Money{}}
		s.offers[order.OfferID(id)] = o
	}
	return o
}

func (s *shard) readBuyers(ctx context.Context) error {
	return s.each(ctx, "SELECT offer_id, user_id, units, lim FROM buyer", func(rows *sql.Rows) error {
		var o, u int64
		var b buyer
		err := rows.Scan(&o, &u, &b.units, &b.lim)
		s.buyers[holding{order.OfferID(o), order.UserID(u)}] = b
		return err
	})
}

func (s *shard) readLog(ctx context.Context) error {
	return s.each(ctx, "SELECT p, n, cause FROM stock_log ORDER BY p, n", func(rows *sql.Rows) error {
		var p order.Partition
		var n int64
		var cause sql.NullString
		if err := rows.Scan(&p, &n, &cause); err != nil {
			return err
		}
		l := s.log[p]
		if l == nil {
			l = &stockLog{first: n}
			s.log[p] = l
		}
		l.rows++
		l.last = n
		if cause.Valid {
			s.noteCause(cause.String)
		}
		return nil
	})
}

// noteCause keeps a cause and, if it is that of an order's event, that the order's units came back.
func (s *shard) noteCause(cause string) {
	s.causes[cause]++
	if id, ok := givenBack(cause); ok {
		s.given[id] = true
	} else {
		s.second[cause] = true
	}
}

func (s *shard) readParked(ctx context.Context) error {
	return s.each(ctx, "SELECT order_id, p, status, bytes FROM parked", func(rows *sql.Rows) error {
		var id int64
		var x parked
		var bytes []byte
		if err := rows.Scan(&id, &x.p, &x.status, &bytes); err != nil {
			return err
		}
		x.id = order.ID(id)
		rest, err := order.DecodeRecord(bytes, &x.record)
		switch {
		case err != nil:
			x.bad = err
		case len(rest) > 0 || x.record.ID != x.id:
			x.bad = fmt.Errorf("holds the record of order %d", x.record.ID)
		}
		s.parked = append(s.parked, x)
		return nil
	})
}

// givenBack reads the cause of an order's give-back, "order id/event number"; that of a second claim is
// "order id:batch id".
func givenBack(cause string) (order.ID, bool) {
	for i := range len(cause) {
		if c := cause[i]; c < '0' || c > '9' {
			n, err := strconv.ParseUint(cause[:i], 10, 63)
			return order.ID(n), err == nil && c == '/'
		}
	}
	return 0, false
}
