package ops

import (
	"context"
	"net/http"
	"time"

	"sluice/engine/order"
)

// Offer is an offer as the API shows it.
type Offer struct {
	ID        string           `json:"id"`
	Shop      string           `json:"shop_id"`
	Group     string           `json:"group"`
	SKU       string           `json:"sku"`
	Title     string           `json:"title"`
	Kind      string           `json:"kind"`
	UnitPrice order.Money      `json:"unit_price"`
	Currency  string           `json:"currency"`
	Total     int64            `json:"total"`
	Remaining int64            `json:"remaining"`
	Limit     uint32           `json:"per_user_limit"`
	Opens     *time.Time       `json:"opens_at,omitempty"`
	Closes    *time.Time       `json:"closes_at,omitempty"`
	State     order.OfferState `json:"state"`
	Note      string           `json:"note,omitempty"` // of an edit: what a person should know
}

func show(o *order.Offer, left int64) *Offer {
	return &Offer{
		ID: order.ID(o.ID).String(), Shop: order.ID(o.Shop).String(), Group: o.Group, SKU: o.SKU, Title: o.Title,
		Kind: o.Kind.String(), UnitPrice: o.UnitPrice, Currency: o.Currency, Total: o.Total, Remaining: left,
		Limit: o.Limit, Opens: moment(o.Opens), Closes: moment(o.Closes), State: o.State(order.MilliOf(time.Now()), left),
	}
}

// remaining is what this process knows to be left of o, or what the store says.
func (s *Server) remaining(o *order.Offer) int64 {
	if s.program.Catalogue != nil {
		if _, left, ok := s.program.Catalogue.Offer(o.ID); ok {
			return left
		}
	}
	return o.Total - o.Sold
}

// sellableWait is how long an answer to an edit waits for this process to sell the offer so.
const sellableWait = 2 * time.Second

// elsewhere tells whether only other processes sell o.
func (s *Server) elsewhere(o *order.Offer) bool {
	return s.program.Catalogue != nil && !s.program.Catalogue.Sells(o.Kind)
}

// edited shows an offer that was created or changed. What other processes sell has been committed, and that is all that
// this one knows: 202, and words that say so.
func (s *Server) edited(status int, o *order.Offer, left int64) (int, *Offer) {
	shown := show(o, left)
	if s.elsewhere(o) {
		status = http.StatusAccepted
		shown.Note = "it is committed; this process does not sell " + o.Kind.String() + " offers, those that do will within 2 s"
	}
	return status, shown
}

// awaitSellable waits until this process can sell every offer of its kinds. The commit has happened: when it takes too
// long, the offers exist and will be sold a little later.
func (s *Server) awaitSellable(ctx context.Context, offers []order.Offer) bool {
	if s.program.Catalogue == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, sellableWait)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := range offers {
		for !s.elsewhere(&offers[i]) && !s.program.Catalogue.Sellable(&offers[i]) {
			select {
			case <-ctx.Done():
				return false
			case <-tick.C:
			}
		}
	}
	return true
}

// createdStatus is 201 when this process can sell what was created, 202 when it will.
func (s *Server) createdStatus(ctx context.Context, offers []order.Offer) int {
	if s.awaitSellable(ctx, offers) {
		return http.StatusCreated
	}
	return http.StatusAccepted
}

func (s *Server) createOffer(r *http.Request, e *entry) (int, any, error) {
	b, err := body(r, bodyMax)
	if err != nil {
		return 0, nil, err
	}
	o, err := parseNew(b)
	if err != nil {
		return 0, nil, err
	}
	created, err := s.program.Offers.CreateOffers(r.Context(), []order.Offer{o})
	if err != nil {
		return 0, nil, err
	}
	e.created(&created[0])
	status, shown := s.edited(s.createdStatus(r.Context(), created), &created[0], s.remaining(&created[0]))
	return status, shown, nil
}

func (s *Server) changeOffer(r *http.Request, e *entry) (int, any, error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	b, err := body(r, bodyMax)
	if err != nil {
		return 0, nil, err
	}
	in, err := parseOffer(b)
	if err != nil {
		return 0, nil, err
	}
	change, err := in.change()
	if err != nil {
		return 0, nil, err
	}
	was, o, err := s.program.Offers.ChangeOffer(r.Context(), id, change)
	if err != nil {
		return 0, nil, err
	}
	e.edited(&was, &o)
	return s.changed(r.Context(), &o)
}

// changed answers an edit with the offer as this process sells it: 200 once the edit has taken effect here, 202 if that
// takes longer.
func (s *Server) changed(ctx context.Context, o *order.Offer) (int, any, error) {
	status := http.StatusOK
	if !s.awaitSellable(ctx, []order.Offer{*o}) {
		status = http.StatusAccepted
	}
	if s.program.Catalogue != nil {
		if known, left, ok := s.program.Catalogue.Offer(o.ID); ok {
			return status, show(&known, left), nil
		}
	}
	status, shown := s.edited(status, o, s.remaining(o))
	return status, shown, nil
}

func (s *Server) closeOffer(r *http.Request, e *entry) (int, any, error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	was, o, err := s.program.Offers.CloseOffer(r.Context(), id)
	if err != nil {
		return 0, nil, err
	}
	e.edited(&was, &o)
	return s.changed(r.Context(), &o)
}

func (s *Server) getOffer(r *http.Request) (int, any, error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	o, left, ok := s.program.Catalogue.Offer(id)
	if !ok {
		return 0, nil, &Problem{Status: 404, Code: "offer_not_found", Detail: "there is no offer of this id"}
	}
	return http.StatusOK, show(&o, left), nil
}

// listOffers answers a page of the offers that this process knows, in the order of their ids.
func (s *Server) listOffers(r *http.Request) (int, any, error) {
	limit, after, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	kind, shop := r.URL.Query().Get("kind"), r.URL.Query().Get("shop_id")
	if _, ok := order.ParseKind(kind); kind != "" && !ok {
		return 0, nil, invalid("kind must be normal or flash")
	}
	if _, ok := order.ParseID(shop); shop != "" && !ok {
		return 0, nil, invalid("shop_id must be a positive decimal number")
	}
	data, next := []*Offer{}, ""
	for o := range s.program.Catalogue.Offers(after) {
		if kind != "" && kind != o.Kind.String() || shop != "" && shop != order.ID(o.Shop).String() {
			continue
		}
		if len(data) == limit {
			next = data[limit-1].ID
			break
		}
		data = append(data, show(o, s.remaining(o)))
	}
	return http.StatusOK, map[string]any{"data": data, "next_cursor": next}, nil
}

func pathID(r *http.Request) (order.OfferID, error) {
	id, ok := order.ParseID(r.PathValue("id"))
	if !ok {
		return 0, &Problem{Status: 404, Code: "offer_not_found", Detail: "an offer's id is a positive decimal number"}
	}
	return order.OfferID(id), nil
}
