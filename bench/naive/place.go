package naive

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"sluice/engine"
	"sluice/engine/order"
)

// patience bounds one call of a server behind us.
const patience = 5 * time.Second

const unpaid = 15 * time.Minute

const insert = "INSERT INTO orders (order_id, user_id, offer_id, quantity, unit_price, idem_key, key_hash, status, details, created_at, unpaid_until)" +
	" VALUES (?,?,?,?,?,?,?,?,?,?,?)"

// Place decides and stores one order.
func (s *server) Place(_ context.Context, t *engine.Ticket) {
	t.Answer.Verdict = s.fill(t)
	if t.Answer.Verdict != 0 {
		return
	}
	// A client that has left does not stop its order.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	verdict, err := s.reserve(ctx, t)
	reserved := time.Now()
	t.Answer.Reserve = reserved.Sub(began)
	if err == nil && verdict == engine.Placed {
		if err = s.store(ctx, t); err != nil {
			verdict = engine.Unknown
		}
		t.Answer.Publish = time.Since(reserved)
	}
	if err != nil {
		s.log.Error("an order has failed", "order", t.Record.ID.String(), "error", err)
	}
	t.Answer.Verdict = verdict
}

// PlaceAll places several orders as as many requests would.
func (s *server) PlaceAll(ctx context.Context, tickets []*engine.Ticket) {
	var placing sync.WaitGroup
	for _, t := range tickets {
		placing.Go(func() { s.Place(ctx, t) })
	}
	placing.Wait()
}

// fill makes t.Record. It returns 0 if the order can be sold.
func (s *server) fill(t *engine.Ticket) engine.Verdict {
	if line := t.Lines[0]; line.Offer != s.offer.ID {
		return engine.OfferNotFound
	}
	if len(t.Lines) > 1 {
		t.Answer.Line = 1 // another one, which does not exist: no offer may be named twice
		return engine.OfferNotFound
	}
	r, o := &t.Record, s.offer
	r.User, r.Key, r.Fingerprint, r.Details = t.User, t.Key, t.Fingerprint, t.Details
	r.Items = append(r.Items[:0], order.Item{Line: t.Lines[0], UnitPrice: o.UnitPrice, PriceVersion: o.PriceVersion, SKU: o.SKU})
	r.Shop, r.Group, r.Currency = o.Shop, o.Group, o.Currency
	var err error
	if r.ID, err = s.ids.Next(t.User); err != nil {
		return engine.NotReady
	}
	return 0
}

// reserve is the one call of Redis. An error leaves the outcome unknown.
func (s *server) reserve(ctx context.Context, t *engine.Ticket) (engine.Verdict, error) {
	r := &t.Record
	answer, err := reserveScript.Run(ctx, s.redis, s.keys, r.Items[0].Quantity, s.offer.Limit, uint64(r.User), keyField(r),
		uint64(r.ID), r.Fingerprint).Slice()
	if err != nil {
		return engine.Unknown, err
	}
	if len(answer) == 0 {
		return engine.Unknown, errors.New("the script gave no code")
	}
	switch code, _ := answer[0].(int64); order.Code(code) {
	case order.Accepted:
		return engine.Placed, nil
	case order.Repeated:
		text, _ := answer[len(answer)-1].(string)
		id, ok := order.ParseID(text)
		if !ok {
			return engine.Unknown, errors.New("the script named no order")
		}
		t.Answer.Order = order.ID(id)
		return engine.Replayed, nil
	default:
		t.Answer.Code = order.Code(code)
		return engine.Refused, nil
	}
}

// keyField is the name of an order's key in Redis.
func keyField(r *order.Record) string {
	return strconv.FormatUint(uint64(r.User), 36) + ":" + strconv.FormatUint(r.KeyHash(), 36)
}

// store is the one statement of MySQL: it commits by itself. What the database certainly refused gives its units back.
func (s *server) store(ctx context.Context, t *engine.Ticket) error {
	r, item := &t.Record, &t.Record.Items[0]
	now := int64(r.ID.Time())
	_, err := s.shards[s.UserShard(r.User)].ExecContext(ctx, insert, uint64(r.ID), uint64(r.User), uint64(item.Offer), item.Quantity,
		int64(item.UnitPrice), r.Key, int64(r.KeyHash()), string(order.AwaitingPayment), r.Details, now, now+unpaid.Milliseconds())
	t.Answer.Order = r.ID
	var refused *mysql.MySQLError
	if errors.As(err, &refused) {
		back := giveBackScript.Run(ctx, s.redis, s.keys, item.Quantity, s.offer.Limit, uint64(r.User), keyField(r)).Err()
		return errors.Join(err, back)
	}
	return err
}
