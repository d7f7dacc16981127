package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// Offer is something on sale. UnitPrice is in minor units of Currency.
type Offer struct {
	ID           string    `json:"id"`
	ShopID       string    `json:"shop_id"`
	Group        string    `json:"group"` // offers of one group can be ordered together
	SKU          string    `json:"sku"`
	Title        string    `json:"title"`
	Kind         string    `json:"kind"` // normal or flash
	UnitPrice    int64     `json:"unit_price"`
	Currency     string    `json:"currency"`
	Total        int64     `json:"total"`
	Remaining    int64     `json:"remaining"`      // at most about a second old
	PerUserLimit int64     `json:"per_user_limit"` // 0: none
	OpensAt      time.Time `json:"opens_at"`       // zero: it was always open
	ClosesAt     time.Time `json:"closes_at"`      // zero: it never closes
	State        string    `json:"state"`          // upcoming, open, sold_out or closed
}

// OfferNow is an offer with the server's time, for countdowns.
type OfferNow struct {
	Offer
	ServerTime time.Time `json:"server_time"`
}

// Offer reads an offer. It needs no token.
func (c *Client) Offer(ctx context.Context, id string) (*OfferNow, error) {
	o := new(OfferNow)
	if _, err := c.do(ctx, &query{method: "GET", path: "/v1/offers/" + url.PathEscape(id), open: true}, o); err != nil {
		return nil, err
	}
	return o, nil
}

// OfferFilter says which offers are listed; zero fields do not filter.
type OfferFilter struct {
	Kind   string // normal or flash
	ShopID string
}

// Offers lists what is on sale in the order of the ids, a page at a time. It needs no token. A context without a deadline
// bounds each page. An error ends the list.
func (c *Client) Offers(ctx context.Context, f OfferFilter) iter.Seq2[Offer, error] {
	args := url.Values{"limit": {strconv.Itoa(pageSize)}}
	set(args, "kind", f.Kind)
	set(args, "shop_id", f.ShopID)
	return pages[Offer](ctx, c, query{method: "GET", path: "/v1/offers", args: args, open: true})
}
