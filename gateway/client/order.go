package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// Line is one line of an order: 1 to 10,000 units of an offer, which is named once.
type Line struct {
	OfferID  string `json:"offer_id"`
	Quantity int    `json:"quantity"`
}

// Address is where an order goes. Lengths are bytes: name, region 200, phone 64, line 500, postcode 32.
type Address struct {
	Name     string `json:"name"`
	Phone    string `json:"phone"`
	Region   string `json:"region"`
	Line     string `json:"line"`
	Postcode string `json:"postcode,omitempty"`
}

// Invoice is to whom an order is billed: 200 and 64 bytes.
type Invoice struct {
	Title string `json:"title"`
	TaxID string `json:"tax_id,omitempty"`
}

// Details is what the shop needs to deliver, 2 KiB in all. Every part may be left out.
type Details struct {
	Address        *Address `json:"address,omitempty"`
	DeliveryMethod string   `json:"delivery_method,omitempty"` // 64 bytes
	Invoice        *Invoice `json:"invoice,omitempty"`
	Note           string   `json:"note,omitempty"` // 500 bytes
}

// OrderRequest is what a buyer wants: 1 to 50 lines of one group.
type OrderRequest struct {
	// Key is the idempotency key, 1 to 64 visible ASCII characters, one per order. Place and PlaceBatch set one if it is
	// empty; keep it for as long as it is open whether there is an order.
	Key     string   `json:"-"`
	Items   []Line   `json:"items"`
	Details *Details `json:"details,omitempty"`
	// Wait is how long the server may wait for the order to be stored, in whole seconds; the server cuts it, as a rule to
	// 10 s. 0 takes an order that is accepted and pending.
	Wait time.Duration `json:"-"`
}

// Item is one line of an order as it was sold. Prices are in minor units.
type Item struct {
	OfferID   string `json:"offer_id"`
	SKU       string `json:"sku"`
	Quantity  int    `json:"quantity"`
	UnitPrice int64  `json:"unit_price"`
}

// Order is an order as the API shows it. Of a repeated or a read one that is still pending only ID, Status and CreatedAt
// are known. Amounts are in minor units of Currency.
type Order struct {
	ID          string    `json:"id"`
	UserID      string    `json:"user_id"`
	ShopID      string    `json:"shop_id"`
	Kind        string    `json:"kind"`
	Status      string    `json:"status"` // pending, awaiting_payment, rejected, paid, ...
	Reason      string    `json:"reason"` // why it is rejected
	Items       []Item    `json:"items"`
	GoodsAmount int64     `json:"goods_amount"`
	Discount    int64     `json:"discount"`
	Freight     int64     `json:"freight"`
	Amount      int64     `json:"amount"` // to be paid
	Currency    string    `json:"currency"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	ExpiresAt   time.Time `json:"expires_at"` // zero: it cannot expire
	PaidAt      time.Time `json:"paid_at"`    // zero: it was not paid
	Details     *Details  `json:"details"`
}

// Placed is an order that exists.
type Placed struct {
	Order
	Replayed bool // it is the earlier order of the key
}

// Place places an order, once, however often it has to ask. It sets r.Key if that is empty. The order is pending, or
// awaits payment, or, rarely, is rejected, or is whatever the earlier order of the key has become. A refusal is a
// *Problem; ErrUnknown: call Place again with the same r.
func (c *Client) Place(ctx context.Context, r *OrderRequest) (*Placed, error) {
	if r.Key == "" {
		r.Key = newKey()
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	p := new(Placed)
	a, err := c.do(ctx, &query{method: "POST", path: "/v1/orders", wait: r.Wait, body: body, contentType: "application/json", key: r.Key}, &p.Order)
	if err != nil {
		return nil, err
	}
	p.Replayed = a.replayed
	return p, nil
}

// newKey is 128 random bits.
func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: the program is ended instead
	return hex.EncodeToString(b[:])
}

// Order reads an order of the user. wait is how long the server may wait for it to leave pending.
func (c *Client) Order(ctx context.Context, id string, wait time.Duration) (*Order, error) {
	o := new(Order)
	if _, err := c.do(ctx, &query{method: "GET", path: "/v1/orders/" + url.PathEscape(id), wait: wait}, o); err != nil {
		return nil, err
	}
	return o, nil
}

// Cancel cancels an order of the user that awaits payment, and returns it. An order that is cancelled already is no error.
func (c *Client) Cancel(ctx context.Context, id string) (*Order, error) {
	o := new(Order)
	if _, err := c.do(ctx, &query{method: "POST", path: "/v1/orders/" + url.PathEscape(id) + "/cancel"}, o); err != nil {
		return nil, err
	}
	return o, nil
}

// OrderFilter says which orders are listed; zero fields do not filter.
type OrderFilter struct {
	Status   string
	From, To time.Time // created from, inclusive, and to, exclusive
	Key      string    // only the orders of this idempotency key; goes alone
}

// pageSize is how many are asked for at once: as many as the server gives.
const pageSize = 100

// Orders lists the user's stored orders, newest first, a page at a time. A context without a deadline bounds each page. An
// error ends the list.
func (c *Client) Orders(ctx context.Context, f OrderFilter) iter.Seq2[Order, error] {
	args := url.Values{"limit": {strconv.Itoa(pageSize)}}
	set(args, "status", f.Status)
	setTime(args, "created_from", f.From)
	setTime(args, "created_to", f.To)
	set(args, "idempotency_key", f.Key)
	return pages[Order](ctx, c, query{method: "GET", path: "/v1/orders", args: args})
}

func set(args url.Values, name, value string) {
	if value != "" {
		args.Set(name, value)
	}
}

func setTime(args url.Values, name string, t time.Time) {
	if !t.IsZero() {
		args.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

// pages lists what q asks for, page by page.
func pages[T any](ctx context.Context, c *Client, q query) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q.args.Del("cursor") // a list may be ranged over again
		for {
			var page struct {
				Data []T    `json:"data"`
				Next string `json:"next_cursor"`
			}
			if _, err := c.do(ctx, &q, &page); err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, x := range page.Data {
				if !yield(x, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.args.Set("cursor", page.Next)
		}
	}
}
