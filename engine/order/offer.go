package order

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Offer is something on sale. Limit, Group, Kind, Shop, SKU and Currency never change after creation; a price change is
// a new PriceVersion.
type Offer struct {
	ID           OfferID
	Shop         ShopID
	Group        string // GroupOf(kind, shop, id) unless the shop divides its catalogue
	SKU          string
	Title        string
	Kind         Kind
	UnitPrice    Money
	PriceVersion uint32 // counts from 1
	Currency     string // ISO 4217, three capital letters
	Total        int64  // units on sale, sold ones included
	Wanted       int64  // a lower total that the next rebuild applies; equal to Total otherwise
	Sold         int64  // units in live orders that were claimed
	Limit        uint32 // units per user; 0 means no limit
	Opens        Milli  // 0: open from the beginning
	Closes       Milli  // 0: never closes
	Created      uint64 // number of its creation row in the partition's stock log
}

// OfferState says whether an offer can be bought.
type OfferState string

// The states of an offer, as the API names them.
const (
	OfferUpcoming OfferState = "upcoming"
	OfferOpen     OfferState = "open"
	OfferSoldOut  OfferState = "sold_out"
	OfferClosed   OfferState = "closed"
)

// State is the offer's state at now, when left units are on sale.
func (o *Offer) State(now Milli, left int64) OfferState {
	switch {
	case o.Closes != 0 && now >= o.Closes:
		return OfferClosed
	case now < o.Opens:
		return OfferUpcoming
	case left <= 0:
		return OfferSoldOut
	}
	return OfferOpen
}

// GroupOf is the default group: the shop for normal offers, the offer itself for flash.
func GroupOf(kind Kind, shop ShopID, id OfferID) string {
	if kind == Flash {
		return fmt.Sprintf("f%d", id)
	}
	return fmt.Sprintf("s%d", shop)
}

// Validate reports every field out of bounds, as one error of FieldError values joined; nil if there is none. An id of
// zero is allowed: it is given at creation.
func (o *Offer) Validate() error {
	var errs []error
	check := func(ok bool, field, detail string) {
		if !ok {
			errs = append(errs, &FieldError{Field: field, Detail: detail})
		}
	}
	check(o.Shop > 0 && o.Shop <= MaxID, "shop_id", "must be a positive 63-bit number")
	check(len(o.Group) <= GroupMax && visibleASCII(o.Group), "group", "must be at most 64 visible ASCII characters")
	check(o.SKU != "" && len(o.SKU) <= SKUMax && visibleASCII(o.SKU), "sku", "must be 1 to 64 visible ASCII characters")
	check(o.Title != "" && len(o.Title) <= TitleMax && utf8.ValidString(o.Title), "title", "must be 1 to 200 bytes of UTF-8")
	check(o.Kind == Normal || o.Kind == Flash, "kind", `must be "normal" or "flash"`)
	check(o.UnitPrice >= 0 && o.UnitPrice <= UnitPriceMax, "unit_price", "must be 0 to 2^40 minor units")
	check(validCurrency(o.Currency), "currency", "must be three capital letters (ISO 4217)")
	check(o.Total >= 0 && o.Total <= TotalMax, "total", "must be 0 to 2^40 units")
	check(o.Limit <= PerUserLimitMax, "per_user_limit", "must be 0 (no limit) to 1048576 units")
	check(o.Opens >= 0, "opens_at", "must not lie before 1970")
	check(o.Closes == 0 || o.Closes > o.Opens, "closes_at", "must be later than opens_at")
	return errors.Join(errs...)
}

// FieldError says what is wrong with one field of an input, in words for the person who sent it.
type FieldError struct {
	Field  string
	Detail string
}

func (e *FieldError) Error() string { return e.Field + " " + e.Detail }

func validCurrency(s string) bool {
	if len(s) != 3 {
		return false
	}
	for i := range 3 {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return true
}

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ValidKey tells whether s can be an idempotency key: 1 to KeyMax visible ASCII characters.
func ValidKey(s string) bool { return s != "" && len(s) <= KeyMax && visibleASCII(s) }
