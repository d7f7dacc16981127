package naive

import (
	"context"
	"database/sql"
	"errors"

	"sluice/engine"
	"sluice/engine/order"
	"sluice/lifecycle"
	"sluice/persist/store"
)

// Offer is the one offer, if it is that.
func (s *server) Offer(id order.OfferID) *engine.Offer {
	if id != s.offer.ID {
		return nil
	}
	return s.offer
}

// Offers lists it.
func (s *server) Offers() []*engine.Offer { return []*engine.Offer{s.offer} }

// Shards is how many databases there are.
func (s *server) Shards() int { return len(s.shards) }

// UserShard and OrderShard are where a user's orders are: even ranges of the virtual shards.
func (s *server) UserShard(u order.UserID) int {
	return int(order.VirtualShard(u)) * len(s.shards) / order.VirtualShards
}

// OrderShard is that of the order's user.
func (s *server) OrderShard(id order.ID) int {
	return int(id.VirtualShard()) * len(s.shards) / order.VirtualShards
}

// Order reads one order; nil if it is not stored.
func (s *server) Order(ctx context.Context, id order.ID) (*order.Order, error) {
	list, err := s.OrdersByID(ctx, s.OrderShard(id), []order.ID{id})
	if len(list) == 0 {
		return nil, err
	}
	return list[0], err
}

// OrdersByID reads those that are stored.
func (s *server) OrdersByID(ctx context.Context, shard int, ids []order.ID) ([]*order.Order, error) {
	const query = "SELECT user_id, quantity, unit_price, idem_key, status, details, created_at, unpaid_until FROM orders WHERE order_id = ?"
	var list []*order.Order
	for _, id := range ids {
		o := &order.Order{ID: id, Shop: s.offer.Shop, Group: s.offer.Group, Kind: s.offer.Kind, Currency: s.offer.Currency}
		item := order.Item{Line: order.Line{Offer: s.offer.ID}, PriceVersion: s.offer.PriceVersion, SKU: s.offer.SKU}
		row := s.shards[shard].QueryRowContext(ctx, query, uint64(id))
		err := row.Scan(&o.User, &item.Quantity, &item.UnitPrice, &o.Key, &o.Status, &o.Details, &o.Created, &o.Expires)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		o.Items, o.Updated = []order.Item{item}, o.Created
		o.Goods = order.GoodsAmount(o.Items)
		o.Amount = o.Goods
		list = append(list, o)
	}
	return list, nil
}

// errNotServed is the answer to what a comparison does not need.
var errNotServed = errors.New("the naive server takes orders only")

// List is not served.
func (s *server) List(context.Context, order.UserID, store.ListFilter) ([]*order.Order, error) {
	return nil, errNotServed
}

// OrdersByKey is not served.
func (s *server) OrdersByKey(context.Context, order.UserID, string) ([]*order.Order, error) {
	return nil, errNotServed
}

// AnyParked is always false: nothing is.
func (s *server) AnyParked(context.Context) (bool, error) { return false, nil }

// Cancel is not served.
func (s *server) Cancel(context.Context, order.UserID, order.ID) (*order.Order, lifecycle.CancelResult, error) {
	return nil, 0, errNotServed
}
