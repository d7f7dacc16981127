package audit

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/engine/order"
)

// stored is what is kept of a stored order after its row was checked.
type stored struct {
	id          order.ID
	user        order.UserID
	key         uint64 // hash of the client's key; 0: it has none
	scope       uint64 // hash of group and key; 0: it has none
	duplicateOf order.ID
	status      order.Status
	reason      order.Reason
	shard       int32
	holds       bool // it has a hash of a key
	guarded     bool // that is the hash of its group and key
	parked      bool // not a row of orders but parked
}

// item is a line as it is stored. Ids are numbers or strings.
type item struct {
	Offer    json.RawMessage `json:"offer_id"`
	SKU      string          `json:"sku"`
	Quantity int64           `json:"quantity"`
	Price    order.Money     `json:"unit_price"`
	Version  int64           `json:"price_version"`
}

func (it *item) offer() order.OfferID {
	n, _ := strconv.ParseUint(strings.Trim(string(it.Offer), `"`), 10, 63)
	return order.OfferID(n)
}

// row is one row of orders.
type row struct {
	id, user, shop, duplicateOf      int64
	group, key, kind, status, reason string
	hash                             sql.NullInt64 // of group and key
	unpaid                           bool
	goods, discount, freight, amount order.Money
	currency                         string
	items                            []byte
}

const selectOrders = `SELECT order_id, user_id, shop_id, duplicate_of, group_id, idem_key, kind, status, reason,
	key_hash, unpaid_until IS NOT NULL, goods, discount, freight, amount, currency, items
	FROM orders ORDER BY order_id`

// judge checks rows of orders against offers. given are the orders whose give-back is in a stock log, seconds the causes
// of the second claims that are.
type judge struct {
	s       *shard
	offers  map[order.OfferID]*offer
	given   map[order.ID]bool
	seconds map[string]bool
	scratch []item
	names   map[string]string
}

func (s *shard) readOrders(ctx context.Context, j *judge) error {
	for _, read := range []func(context.Context) error{s.readEvents, s.readFeed} {
		if err := read(ctx); err != nil {
			return err
		}
	}
	events := s.events
	return s.each(ctx, selectOrders, func(rows *sql.Rows) error {
		var r row
		err := rows.Scan(&r.id, &r.user, &r.shop, &r.duplicateOf, &r.group, &r.key, &r.kind, &r.status, &r.reason,
			&r.hash, &r.unpaid, &r.goods, &r.discount, &r.freight, &r.amount, &r.currency, &r.items)
		if err != nil {
			return err
		}
		for len(events) > 0 && events[0].order < order.ID(r.id) {
			s.state.violation("order %d has events but is not stored on shard %d", events[0].order, s.number)
			events = skip(events, events[0].order)
		}
		mine := events[:count(events, order.ID(r.id))]
		events = events[len(mine):]
		j.row(&r, mine)
		return nil
	})
}

// row checks one order and keeps what the rules across orders need.
func (j *judge) row(r *row, events []event) {
	s := j.s
	x := stored{
		id: order.ID(r.id), user: order.UserID(r.user), duplicateOf: order.ID(r.duplicateOf), shard: int32(s.number),
		status: order.Status(j.name(r.status)), reason: order.Reason(j.name(r.reason)), holds: r.hash.Valid,
	}
	if r.key != "" {
		x.key, x.scope = keyHash(r.key), scopeHash(r.group, r.key)
		x.guarded = r.hash.Valid && uint64(r.hash.Int64) == order.KeyHash(r.group, r.key)
	}
	s.orders = append(s.orders, x)
	s.state.checked(1)
	if why := wrongState(r, events); why != "" {
		s.state.violation("order %d: %s", r.id, why)
	}
	s.money.checked(1)
	if lost := refused(events); lost != nil && bare(r) {
		j.units(&x, lost.Lines, events)
		return
	}
	items, err := j.items(r.items)
	if err != nil {
		s.money.violation("order %d: items do not read: %v", r.id, err)
	}
	if why := j.wrongMoney(r, items); why != "" {
		s.money.violation("order %d: %s", r.id, why)
	}
	lines := make([]order.Line, 0, 4)
	for i := range items {
		lines = append(lines, order.Line{Offer: items[i].offer(), Quantity: uint32(items[i].Quantity)})
	}
	j.units(&x, lines, events)
}

// bare tells whether a row is what is stored of a rejected order whose own row the database refuses: who, and why.
func bare(r *row) bool {
	return r.status == string(order.Rejected) && string(r.items) == "[]" && r.goods == 0 && r.discount == 0 && r.freight == 0 && r.amount == 0
}

// units counts the order's units where they are held: by the order if it is live, else by its give-back until that has
// reached the stock side.
func (j *judge) units(x *stored, lines []order.Line, events []event) {
	s := j.s
	for _, e := range events {
		if e.claim != nil && !j.seconds[fmt.Sprintf("%d:%d", x.id, e.claim.Batch)] {
			j.add(s.due, s.dueHeld, e.claim.User, e.claim.Lines)
		}
	}
	if x.status.Live() {
		j.add(s.live, s.held, x.user, lines)
		return
	}
	if !wasClaimed(x) || j.given[x.id] {
		return
	}
	if !slices.ContainsFunc(events, func(e event) bool { return e.due && e.claim == nil }) {
		s.leaked.violation("order %d is %s, but its units were not given back and no event is due", x.id, x.status)
	}
	j.add(s.due, s.dueHeld, x.user, lines)
}

func (j *judge) add(units map[order.OfferID]int64, held map[holding]int64, u order.UserID, lines []order.Line) {
	for _, l := range lines {
		units[l.Offer] += int64(l.Quantity)
		if o := j.offers[l.Offer]; o != nil && o.limit > 0 {
			held[holding{l.Offer, u}] += int64(l.Quantity)
		}
	}
}

// wasClaimed tells whether a dead order once held units: all but those that the claim itself rejected.
func wasClaimed(x *stored) bool {
	switch x.reason {
	case order.ReasonCut, order.ReasonSoldOut, order.ReasonOverLimit:
		return false
	}
	return true
}

func (j *judge) items(b []byte) ([]item, error) {
	j.scratch = j.scratch[:0]
	err := json.Unmarshal(b, &j.scratch)
	if err == nil && len(j.scratch) == 0 {
		err = fmt.Errorf("there are none")
	}
	return j.scratch, err
}

// wrongMoney says what is wrong with the amounts, or "".
func (j *judge) wrongMoney(r *row, items []item) string {
	var goods order.Money
	for i := range items {
		it := &items[i]
		goods += order.Money(it.Quantity) * it.Price
		o := j.offers[it.offer()]
		switch {
		case o == nil:
			return fmt.Sprintf("offer %s does not exist", it.Offer)
		case it.Quantity < 1:
			return fmt.Sprintf("%d units of offer %s", it.Quantity, it.Offer)
		case o.currency != r.currency:
			return fmt.Sprintf("currency %s, offer %s has %s", r.currency, it.Offer, o.currency)
		case o.sku != it.SKU || o.shop != r.shop || o.group != r.group || o.kind != r.kind:
			return fmt.Sprintf("sku, shop, group or kind are not those of offer %s", it.Offer)
		}
		if price, ok := o.prices[it.Version]; !ok || price != it.Price {
			return fmt.Sprintf("offer %s for %d, version %d of its price is %d", it.Offer, it.Price, it.Version, price)
		}
	}
	switch {
	case goods != r.goods:
		return fmt.Sprintf("goods %d, the items add up to %d", r.goods, goods)
	case r.amount != r.goods-r.discount+r.freight:
		return fmt.Sprintf("amount %d, not goods %d - discount %d + freight %d", r.amount, r.goods, r.discount, r.freight)
	case r.discount < 0 || r.freight < 0 || r.amount < 0:
		return "an amount is negative"
	}
	return ""
}

// name is a string of its own for each of the few words that repeat in every row.
func (j *judge) name(s string) string {
	if known, ok := j.names[s]; ok {
		return known
	}
	j.names[s] = strings.Clone(s)
	return j.names[s]
}

func keyHash(key string) uint64 { return max(1, order.Hash(0x6b6579, []byte(key))) }
func scopeHash(group, key string) uint64 {
	return max(1, order.Hash(order.Hash(0x73636f7065, []byte(group)), []byte(key)))
}

func byID(a, b stored) int { return cmp.Compare(a.id, b.id) }
