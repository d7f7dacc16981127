package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"sluice/engine/order"
)

// priceFreeze is how long before a flash offer opens its price no longer changes: the buyers look at it.
const priceFreeze = order.Milli(60 * time.Second / time.Millisecond)

// OfferChange names what to change; nil fields stay. Total counts sold units too.
type OfferChange struct {
	Title     *string
	UnitPrice *order.Money
	Total     *int64
	Opens     *order.Milli
	Closes    *order.Milli
}

// ChangeOffer changes an offer and returns it as it was and as it then is. A price becomes a new version; a raised total, a window, a
// title or price is a row of the stock log. A lowered total is written down as wanted and asks for a rebuild, which
// applies it, never below what is sold. Errors besides the unknown: ErrNoOffer, ErrPriceFrozen, and *order.FieldError
// (found by errors.As); nothing was changed then.
func (s *Store) ChangeOffer(ctx context.Context, id order.OfferID, c OfferChange) (was, o order.Offer, err error) {
	return s.editOffer(ctx, id, func(o *order.Offer, now order.Milli) error { return c.apply(o, now) })
}

// CloseOffer ends the window of an offer now and returns the offer as it was and as it then is. Closing a closed one changes
// nothing.
func (s *Store) CloseOffer(ctx context.Context, id order.OfferID) (was, o order.Offer, err error) {
	return s.editOffer(ctx, id, func(o *order.Offer, now order.Milli) error {
		if o.Closes == 0 || o.Closes > now {
			o.Closes = now
		}
		return nil
	})
}

// apply sets the wanted values in o, or says why not.
func (c OfferChange) apply(o *order.Offer, now order.Milli) error {
	if c.UnitPrice != nil && *c.UnitPrice != o.UnitPrice {
		if o.Kind == order.Flash && now >= o.Opens-priceFreeze {
			return ErrPriceFrozen
		}
		o.UnitPrice = *c.UnitPrice
		o.PriceVersion++
	}
	set(&o.Title, c.Title)
	set(&o.Opens, c.Opens)
	set(&o.Closes, c.Closes)
	if c.Total != nil {
		o.Wanted = *c.Total
		o.Total = max(o.Total, o.Wanted)
	}
	checked := *o
	if c.Total != nil {
		checked.Total = *c.Total // a total of -1 must not hide behind the present one
	}
	if c.Opens == nil && c.Closes == nil {
		checked.Opens, checked.Closes = 0, 0 // a closed offer may have been closed before it opened
	}
	return validOffer(&checked)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// editOffer reads an offer under the lock of its partition, lets edit change it, and writes what differs.
func (s *Store) editOffer(ctx context.Context, id order.OfferID, edit func(*order.Offer, order.Milli) error) (was, o order.Offer, err error) {
	p, err := s.offerPartition(ctx, id)
	if err != nil {
		return was, o, err
	}
	err = s.onPart(ctx, p, fmt.Sprintf("change offer %d", id), func(t *tx, part *Part, now order.Milli) error {
		if was, err = scanOffer(t.row(selectOffers+" WHERE o.offer_id = ?", id)); err != nil {
			return err
		}
		o = was
		if err := edit(&o, now); err != nil {
			return err
		}
		if o == was {
			return nil
		}
		return t.writeOffer(part, &was, &o, now)
	})
	return was, o, err
}

func (t *tx) writeOffer(part *Part, was, o *order.Offer, now order.Milli) error {
	_, err := t.exec("UPDATE offer SET title = ?, price_version = ?, opens_at = ?, closes_at = ? WHERE offer_id = ?",
		o.Title, o.PriceVersion, o.Opens, o.Closes, o.ID)
	if err != nil {
		return err
	}
	if o.PriceVersion != was.PriceVersion {
		price := insert{"offer_price (offer_id, version, unit_price, since_at)", 4, ""}
		if err := t.insertRows(price, []any{o.ID, o.PriceVersion, o.UnitPrice, now}); err != nil {
			return err
		}
	}
	if o.Total != was.Total || o.Wanted != was.Wanted {
		_, err := t.exec("UPDATE offer_stock SET total = ?, total_wanted = ? WHERE offer_id = ?", o.Total, o.Wanted, o.ID)
		if err != nil {
			return err
		}
	}
	if o.Wanted != was.Wanted && o.Wanted < o.Total {
		if err := t.wantRebuild(part.Partition, part.Epoch); err != nil {
			return err
		}
	}
	if items := changeItems(was, o); len(items) > 0 {
		_, err = t.appendLog(part.Partition, []logEntry{{items: items}})
	}
	return err
}

// changeItems is the stock-log row of a change: what fast stock and the catalogues of engines have to learn.
func changeItems(was, o *order.Offer) []order.LogItem {
	var items []order.LogItem
	if o.Total > was.Total {
		items = append(items, order.LogItem{Op: order.OpRaise, Offer: o.ID, Units: o.Total - was.Total})
	}
	if o.Opens != was.Opens || o.Closes != was.Closes {
		items = append(items, order.LogItem{Op: order.OpWindow, Offer: o.ID, Opens: o.Opens, Closes: o.Closes})
	}
	if o.Title != was.Title || o.PriceVersion != was.PriceVersion {
		items = append(items, order.LogItem{Op: order.OpNote, Offer: o.ID})
	}
	return items
}

// LowerTotals applies the lower totals that are wanted in partition p, never below what is sold, and notes them in the
// stock log, from which catalogues learn them. It does nothing unless e is the partition's epoch: ErrNotMine.
func (s *Store) LowerTotals(ctx context.Context, p order.Partition, e order.Epoch) error {
	return s.onPart(ctx, p, "lower the totals", func(t *tx, part *Part, _ order.Milli) error {
		if part.Epoch != e {
			return ErrNotMine
		}
		lower := t.d.greatest + "(total_wanted, sold)"
		which := " WHERE " + lower + " < total AND offer_id IN (SELECT offer_id FROM offer WHERE p = ?)"
		var notes []order.LogItem
		err := t.query("SELECT offer_id FROM offer_stock"+which, func(r *sql.Rows) error {
			note := order.LogItem{Op: order.OpNote}
			err := r.Scan(&note.Offer)
			notes = append(notes, note)
			return err
		}, p)
		if err != nil || len(notes) == 0 {
			return err
		}
		if _, err := t.exec("UPDATE offer_stock SET total = "+lower+which, p); err != nil {
			return err
		}
		_, err = t.appendLog(p, []logEntry{{items: notes}})
		return err
	})
}
