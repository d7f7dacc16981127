package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"sluice/engine/order"
)

// ErrNoOffer says that no shard has the offer. ErrPriceFrozen says that the price of a flash offer no longer changes:
// it does not from 60 s before it opens.
var (
	ErrNoOffer     = errors.New("no such offer")
	ErrPriceFrozen = errors.New("the price of a flash offer is frozen from 60 s before it opens")
)

// offerFacts is what never changes about an offer.
type offerFacts struct {
	partition order.Partition
	limit     uint32
}

// CreateOffers stores offers, on sale in one shard at once and in one row of the stock log per partition. It gives them
// ids, the default group if they have none, price version 1, and sets Wanted, Sold and Created; it returns them in the
// order given. A *order.FieldError (found by errors.As) says that a field is out of bounds and nothing was stored.
// After another error some may be stored: those of one shard all or none.
func (s *Store) CreateOffers(ctx context.Context, offers []order.Offer) ([]order.Offer, error) {
	offers = slices.Clone(offers)
	for i := range offers {
		if err := validOffer(&offers[i]); err != nil {
			return nil, fmt.Errorf("offer %d of %d: %w", i+1, len(offers), err)
		}
	}
	first, err := s.offerIDs(ctx, len(offers))
	if err != nil {
		return nil, fmt.Errorf("take %d offer ids: %w", len(offers), err)
	}
	homes := make(map[int][]*order.Offer)
	for i := range offers {
		o := &offers[i]
		o.ID, o.PriceVersion, o.Wanted, o.Sold = first+order.OfferID(i), 1, o.Total, 0
		if o.Group == "" {
			o.Group = order.GroupOf(o.Kind, o.Shop, o.ID)
		}
		home := s.Home(s.partition(o))
		homes[home] = append(homes[home], o)
	}
	for home, list := range homes {
		err := s.update(ctx, home, 0, func(t *tx) error { return t.createOffers(list) })
		if err != nil {
			return nil, onShard(err, fmt.Sprintf("create %d offers", len(list)), home)
		}
	}
	return offers, nil
}

func validOffer(o *order.Offer) error {
	err := o.Validate()
	if !utf8.ValidString(o.Title) {
		err = errors.Join(err, &order.FieldError{Field: "title", Detail: "must be UTF-8"})
	}
	return err
}

func (s *Store) partition(o *order.Offer) order.Partition {
	return s.opts.Partitions.Of(o.Kind, o.Group)
}

// offerIDs takes n consecutive ids. Ids of a creation that fails are lost.
func (s *Store) offerIDs(ctx context.Context, n int) (first order.OfferID, err error) {
	err = s.update(ctx, 0, 0, func(t *tx) error {
		if err := t.row("SELECT next FROM counter WHERE name = 'offer'" + t.d.forUpdate).Scan(&first); err != nil {
			return err
		}
		_, err := t.exec("UPDATE counter SET next = next + ? WHERE name = 'offer'", n)
		return err
	})
	return first, err
}

// createOffers stores new offers of this shard and sets their Created.
func (t *tx) createOffers(offers []*order.Offer) error {
	byPart := make(map[order.Partition][]*order.Offer)
	for _, o := range offers {
		byPart[t.store.partition(o)] = append(byPart[t.store.partition(o)], o)
	}
	ps := sortedKeys(byPart)
	parts, err := t.lockParts(ps...)
	if err != nil {
		return err
	}
	created, err := t.createdBefore(offers)
	if err != nil || created {
		return err
	}
	now, err := t.now()
	if err != nil {
		return err
	}
	for _, p := range ps {
		items := make([]order.LogItem, 0, len(byPart[p]))
		for _, o := range byPart[p] {
			o.Created = parts[p].Logged + 1
			items = append(items, order.LogItem{Op: order.OpCreate, Offer: o.ID, Units: o.Total, Limit: o.Limit, Opens: o.Opens, Closes: o.Closes})
		}
		if _, err := t.appendLog(p, []logEntry{{items: items}}); err != nil {
			return err
		}
	}
	return t.insertOffers(offers, now)
}

// createdBefore tells whether an earlier run of this transaction was committed after all: its ids belong to nobody
// else. It then reads what that run decided.
func (t *tx) createdBefore(offers []*order.Offer) (bool, error) {
	for _, o := range offers {
		err := t.row("SELECT created_n FROM offer WHERE offer_id = ?", o.ID).Scan(&o.Created)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

func (t *tx) insertOffers(offers []*order.Offer, now order.Milli) error {
	var rows, prices, stocks []any
	for _, o := range offers {
		rows = append(rows, o.ID, t.store.partition(o), o.Shop, o.Group, o.SKU, o.Title, o.Kind.String(), o.PriceVersion,
			o.Currency, o.Limit, o.Opens, o.Closes, o.Created)
		prices = append(prices, o.ID, o.PriceVersion, o.UnitPrice, now)
		stocks = append(stocks, o.ID, o.Total, o.Wanted, o.Sold)
	}
	columns := "offer (offer_id, p, shop_id, group_id, sku, title, kind, price_version, currency, lim, opens_at, closes_at, created_n)"
	if err := t.insertRows(insert{columns, 13, ""}, rows); err != nil {
		return err
	}
	if err := t.insertRows(insert{"offer_price (offer_id, version, unit_price, since_at)", 4, ""}, prices); err != nil {
		return err
	}
	return t.insertRows(insert{"offer_stock (offer_id, total, total_wanted, sold)", 4, ""}, stocks)
}

const selectOffers = `SELECT o.offer_id, o.shop_id, o.group_id, o.sku, o.title, o.kind, c.unit_price, o.price_version, o.currency,
	s.total, s.total_wanted, s.sold, o.lim, o.opens_at, o.closes_at, o.created_n
	FROM offer o
	JOIN offer_price c ON c.offer_id = o.offer_id AND c.version = o.price_version
	JOIN offer_stock s ON s.offer_id = o.offer_id`

func scanOffer(r interface{ Scan(...any) error }) (o order.Offer, err error) {
	var kind string
	err = r.Scan(&o.ID, &o.Shop, &o.Group, &o.SKU, &o.Title, &kind, &o.UnitPrice, &o.PriceVersion, &o.Currency,
		&o.Total, &o.Wanted, &o.Sold, &o.Limit, &o.Opens, &o.Closes, &o.Created)
	if err != nil {
		return o, err
	}
	known := false
	if o.Kind, known = order.ParseKind(kind); !known {
		return o, fmt.Errorf("offer %d is stored with unknown kind %q", o.ID, kind)
	}
	return o, nil
}

// Offers reads at most limit offers of partition p with ids above after, in ascending order.
func (s *Store) Offers(ctx context.Context, p order.Partition, after order.OfferID, limit int) ([]order.Offer, error) {
	offers, err := s.readOffers(ctx, s.Home(p), selectOffers+" WHERE o.p = ? AND o.offer_id > ? ORDER BY o.offer_id LIMIT ?", p, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read offers of partition %d after %d: %w", p, after, err)
	}
	return offers, nil
}

// OffersByID reads the offers of partition p among ids, in no particular order. Ids that it does not have are left out.
func (s *Store) OffersByID(ctx context.Context, p order.Partition, ids []order.OfferID) ([]order.Offer, error) {
	var offers []order.Offer
	err := in(ids, func(marks string, args []any) error {
		query := selectOffers + " WHERE o.offer_id IN " + marks + " AND o.p = ?"
		some, err := s.readOffers(ctx, s.Home(p), query, append(args, p)...)
		offers = append(offers, some...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %d offers of partition %d: %w", len(ids), p, err)
	}
	return offers, nil
}

func (s *Store) readOffers(ctx context.Context, shard int, query string, args ...any) ([]order.Offer, error) {
	var offers []order.Offer
	err := s.query(ctx, shard, query, func(r *sql.Rows) error {
		o, err := scanOffer(r)
		offers = append(offers, o)
		return err
	}, args...)
	return offers, err
}

// offerPartition finds the partition of an offer of which only the id is known: it asks every shard once.
func (s *Store) offerPartition(ctx context.Context, id order.OfferID) (order.Partition, error) {
	if known, ok := s.offers.Load(id); ok {
		return known.(offerFacts).partition, nil
	}
	for shard := range s.shards {
		var facts offerFacts
		err := s.shards[shard].read.QueryRowContext(ctx, "SELECT p, lim FROM offer WHERE offer_id = ?", id).Scan(&facts.partition, &facts.limit)
		if err == nil {
			s.offers.Store(id, facts)
			return facts.partition, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return 0, onShard(err, fmt.Sprintf("look for offer %d", id), shard)
		}
	}
	return 0, ErrNoOffer
}
