package order_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
)

// fields lists the fields that a joined error of FieldError values names.
func fields(err error) []string {
	if err == nil {
		return nil
	}
	var names []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		names = append(names, e.(*order.FieldError).Field)
	}
	return names
}

func goodOffer() order.Offer {
	return order.Offer{
		Shop: 9, Group: "s9", SKU: "TEA-250", Title: "绿茶 250 g", Kind: order.Normal, UnitPrice: 1999,
		Currency: "CNY", Total: 100, Limit: 2, Opens: now0, Closes: now0 + day,
	}
}

func TestOfferValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 201)
	tests := []struct {
		change func(*order.Offer)
		want   []string
	}{
		{func(*order.Offer) {}, nil},
		{func(o *order.Offer) { o.Group, o.Limit, o.Opens, o.Closes, o.UnitPrice, o.Total = "", 0, 0, 0, 0, 0 }, nil},
		{func(o *order.Offer) {
			o.UnitPrice, o.Total, o.Limit = order.UnitPriceMax, order.TotalMax, order.PerUserLimitMax
		}, nil},
		{func(o *order.Offer) { o.Shop = 0 }, []string{"shop_id"}},
		{func(o *order.Offer) { o.Shop = order.MaxID + 1 }, []string{"shop_id"}},
		{func(o *order.Offer) { o.Group = "a group" }, []string{"group"}},
		{func(o *order.Offer) { o.Group = long }, []string{"group"}},
		{func(o *order.Offer) { o.SKU = "" }, []string{"sku"}},
		{func(o *order.Offer) { o.SKU = long }, []string{"sku"}},
		{func(o *order.Offer) { o.SKU = "茶" }, []string{"sku"}},
		{func(o *order.Offer) { o.Title = "" }, []string{"title"}},
		{func(o *order.Offer) { o.Title = long }, []string{"title"}},
		{func(o *order.Offer) { o.Title = "tea \xff" }, []string{"title"}},
		{func(o *order.Offer) { o.Kind = 0 }, []string{"kind"}},
		{func(o *order.Offer) { o.Kind = 3 }, []string{"kind"}},
		{func(o *order.Offer) { o.UnitPrice = -1 }, []string{"unit_price"}},
		{func(o *order.Offer) { o.UnitPrice = order.UnitPriceMax + 1 }, []string{"unit_price"}},
		{func(o *order.Offer) { o.Currency = "cny" }, []string{"currency"}},
		{func(o *order.Offer) { o.Currency = "" }, []string{"currency"}},
		{func(o *order.Offer) { o.Currency = "EURO" }, []string{"currency"}},
		{func(o *order.Offer) { o.Total = -1 }, []string{"total"}},
		{func(o *order.Offer) { o.Total = order.TotalMax + 1 }, []string{"total"}},
		{func(o *order.Offer) { o.Limit = order.PerUserLimitMax + 1 }, []string{"per_user_limit"}},
		{func(o *order.Offer) { o.Opens = -1 }, []string{"opens_at"}},
		{func(o *order.Offer) { o.Closes = o.Opens }, []string{"closes_at"}},
		{func(o *order.Offer) { o.Closes = -1 }, []string{"closes_at"}},
		{func(o *order.Offer) { *o = order.Offer{} }, []string{"shop_id", "sku", "title", "kind", "currency"}},
	}
	for i, test := range tests {
		o := goodOffer()
		test.change(&o)
		if got := fields(o.Validate()); !slices.Equal(got, test.want) {
			t.Errorf("case %d: fields %v, want %v", i, got, test.want)
		}
	}
}

func TestDetailsValidate(t *testing.T) {
	t.Parallel()
	text := func(n int) string { return strings.Repeat("x", n) }
	whole := func(more int) order.Details {
		return order.Details{
			Address:        &order.Address{Name: text(200 + more), Phone: text(64 + more), Region: text(200 + more), Line: text(500 + more), Postcode: text(32 + more)},
			DeliveryMethod: text(64 + more), Note: text(500 + more),
			Invoice: &order.Invoice{Title: text(200 + more), TaxID: text(64 + more)},
		}
	}
	fit, long, empty := whole(0), whole(1), order.Details{}
	if err := fit.Validate(); err != nil {
		t.Errorf("everything at its bound: %v", err)
	}
	if err := empty.Validate(); err != nil {
		t.Errorf("nothing at all: %v", err)
	}
	want := []string{"delivery_method", "note", "address/name", "address/phone", "address/region", "address/line", "address/postcode", "invoice/title", "invoice/tax_id"}
	if got := fields(long.Validate()); !slices.Equal(got, want) {
		t.Errorf("everything too long: fields %v, want %v", got, want)
	}
}

func TestOfferState(t *testing.T) {
	t.Parallel()
	const opens, closes = now0, now0 + day
	tests := []struct {
		opens, closes, now order.Milli
		left               int64
		want               order.OfferState
	}{
		{opens, closes, opens - 1, 1, order.OfferUpcoming},
		{opens, closes, opens - 1, 0, order.OfferUpcoming},
		{opens, closes, opens, 1, order.OfferOpen},
		{opens, closes, opens, 0, order.OfferSoldOut},
		{opens, closes, opens, -1, order.OfferSoldOut},
		{opens, closes, closes - 1, 1, order.OfferOpen},
		{opens, closes, closes, 1, order.OfferClosed},
		{opens, closes, closes, 0, order.OfferClosed},
		{0, 0, 1, 1, order.OfferOpen},
		{0, 0, 1 << 60, 1, order.OfferOpen},
	}
	for _, test := range tests {
		o := order.Offer{Opens: test.opens, Closes: test.closes}
		if got := o.State(test.now, test.left); got != test.want {
			t.Errorf("window [%d, %d), %d left, at %d: %s, want %s", test.opens, test.closes, test.left, test.now, got, test.want)
		}
	}
}

func TestDefaultGroup(t *testing.T) {
	t.Parallel()
	if g := order.GroupOf(order.Normal, 9, 7); g != "s9" {
		t.Errorf("normal: %q", g)
	}
	if g := order.GroupOf(order.Flash, 9, 7); g != "f7" {
		t.Errorf("flash: %q", g)
	}
}

func TestValidKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"k": true, "!~": true, strings.Repeat("k", 64): true,
		"": false, strings.Repeat("k", 65): false, "a b": false, "a\x7f": false, "é": false, "a\n": false,
	} {
		if got := order.ValidKey(key); got != want {
			t.Errorf("ValidKey(%q) = %v", key, got)
		}
	}
}

func TestMilli(t *testing.T) {
	t.Parallel()
	if !order.Milli(0).Time().IsZero() || order.MilliOf(time.Time{}) != 0 {
		t.Error("zero must stay zero")
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 123_999_999, time.FixedZone("UTC+8", 8*3600))
	m := order.MilliOf(at)
	if want := now0 - 8*3600*1000 + 123; m != want {
		t.Errorf("MilliOf(%v) = %d, want %d", at, m, want)
	}
	if got := m.Time(); got.Location() != time.UTC || !got.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("Time() = %v", got)
	}
}
