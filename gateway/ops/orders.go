package ops

import (
	"encoding/json"
	"net/http"
	"time"

	"sluice/engine/order"
)

// Order is an order as it is stored, with what an operator needs beside what the buyer sees.
type Order struct {
	ID          string          `json:"id"`
	User        string          `json:"user_id"`
	Shop        string          `json:"shop_id"`
	Group       string          `json:"group"`
	Key         string          `json:"idempotency_key,omitempty"`
	Batch       string          `json:"batch_id"`
	Epoch       string          `json:"epoch"`
	Kind        string          `json:"kind"`
	Status      order.Status    `json:"status"`
	Reason      order.Reason    `json:"reason,omitempty"`
	DuplicateOf string          `json:"duplicate_of,omitempty"`
	Items       []Item          `json:"items"`
	Goods       order.Money     `json:"goods_amount"`
	Discount    order.Money     `json:"discount"`
	Freight     order.Money     `json:"freight"`
	Amount      order.Money     `json:"amount"`
	Currency    string          `json:"currency"`
	Created     *time.Time      `json:"created_at"`
	Updated     *time.Time      `json:"updated_at"`
	Expires     *time.Time      `json:"expires_at,omitempty"`
	Paid        *time.Time      `json:"paid_at,omitempty"`
	Details     json.RawMessage `json:"details,omitempty"`
}

// Item is one line of an order.
type Item struct {
	Offer        string      `json:"offer_id"`
	SKU          string      `json:"sku"`
	Quantity     uint32      `json:"quantity"`
	UnitPrice    order.Money `json:"unit_price"`
	PriceVersion uint32      `json:"price_version"`
}

func showOrder(o *order.Order) *Order {
	shown := &Order{
		ID: o.ID.String(), User: order.ID(o.User).String(), Shop: order.ID(o.Shop).String(), Group: o.Group, Key: o.Key,
		Batch: order.ID(o.Batch).String(), Epoch: order.ID(o.Epoch).String(), Kind: o.Kind.String(), Status: o.Status,
		Reason: o.Reason, Goods: o.Goods, Discount: o.Discount, Freight: o.Freight, Amount: o.Amount,
		Currency: o.Currency, Created: moment(o.Created), Updated: moment(o.Updated), Expires: moment(o.Expires),
		Paid: moment(o.Paid), Details: o.Details, Items: showItems(o.Items),
	}
	if o.DuplicateOf != 0 {
		shown.DuplicateOf = o.DuplicateOf.String()
	}
	return shown
}

func showItems(items []order.Item) []Item {
	shown := []Item{}
	for i := range items {
		it := &items[i]
		shown = append(shown, Item{order.ID(it.Offer).String(), it.SKU, it.Quantity, it.UnitPrice, it.PriceVersion})
	}
	return shown
}

// moment is a time as JSON shows it: null for none.
func moment(m order.Milli) *time.Time {
	if m == 0 {
		return nil
	}
	t := m.Time()
	return &t
}

func (s *Server) getOrder(r *http.Request) (int, any, error) {
	id, ok := order.ParseID(r.PathValue("id"))
	if !ok {
		return 0, nil, &Problem{Status: 404, Code: "order_not_found", Detail: "an order's id is a positive decimal number"}
	}
	o, err := s.program.Order(r.Context(), order.ID(id))
	if err != nil {
		return 0, nil, err
	}
	if o == nil {
		return 0, nil, &Problem{Status: 404, Code: "order_not_found", Detail: "no order of this id is stored"}
	}
	return http.StatusOK, showOrder(o), nil
}
