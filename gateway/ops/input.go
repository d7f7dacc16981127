package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

const (
	bodyMax = 16 << 10 // bytes of one offer
	pageMax = 1000     // entries of a page
)

// offerInput is an offer as it is sent: fields that are absent are nil.
type offerInput struct {
	Shop      *decimal        `json:"shop_id"`
	Group     *string         `json:"group"`
	SKU       *string         `json:"sku"`
	Title     *string         `json:"title"`
	Kind      *string         `json:"kind"`
	UnitPrice *order.Money    `json:"unit_price"`
	Currency  *string         `json:"currency"`
	Total     *int64          `json:"total"`
	Limit     *uint32         `json:"per_user_limit"`
	Opens     json.RawMessage `json:"opens_at"`
	Closes    json.RawMessage `json:"closes_at"`
}

// decimal is an id: a string of digits, as ids are in every answer.
type decimal uint64

func (d *decimal) UnmarshalJSON(b []byte) error {
	n, ok := order.ParseID(strings.Trim(string(b), `"`))
	if !ok || b[0] != '"' {
		return &json.UnmarshalTypeError{Value: string(b)}
	}
	*d = decimal(n)
	return nil
}

func body(r *http.Request, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	if err != nil {
		return nil, invalid("the body could not be read: " + err.Error())
	}
	if int64(len(b)) > most {
		return nil, &Problem{Status: 413, Code: "too_large", Detail: fmt.Sprintf("the body may have %d bytes", most)}
	}
	return b, nil
}

func invalid(detail string, fields ...FieldProblem) error {
	return &Problem{Status: 400, Code: "invalid_request", Detail: detail, Errors: fields}
}

// parseNew reads an offer that is to be created.
func parseNew(b []byte) (order.Offer, error) {
	in, err := parseOffer(b)
	if err != nil {
		return order.Offer{}, err
	}
	return in.offer()
}

// parseOffer reads one JSON object, strictly: unknown fields are errors, because a misspelt one would be lost silently.
func parseOffer(b []byte) (*offerInput, error) {
	in := &offerInput{}
	if b = bytes.TrimSpace(b); len(b) == 0 || b[0] != '{' {
		return nil, invalid("the body must be a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(in)
	var wrongType *json.UnmarshalTypeError
	var wrongSyntax *json.SyntaxError
	switch {
	case err == nil && d.More():
		return nil, invalid("the body must be one JSON object")
	case err == nil:
		return in, nil
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return nil, invalid("the offer has fields of the wrong type",
			FieldProblem{"/" + wrongType.Field, fieldTypes[wrongType.Field] + ", not a " + wrongType.Value})
	case errors.As(err, &wrongType):
		return nil, invalid("the offer has fields of the wrong type", FieldProblem{"/shop_id", fieldTypes["shop_id"]})
	case errors.As(err, &wrongSyntax):
		return nil, invalid(fmt.Sprintf("the body is not JSON, at byte %d: %v", wrongSyntax.Offset, err))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = strings.Trim(name, `"`)
		return nil, invalid("the offer has an unknown field", FieldProblem{"/" + name, "is not a field of an offer"})
	}
	return nil, invalid("the body must be a JSON object")
}

var fieldTypes = map[string]string{
	"shop_id":        `must be a string of digits such as "1"`,
	"group":          "must be text",
	"sku":            "must be text of visible ASCII characters",
	"title":          "must be text that buyers see",
	"kind":           `must be "normal" or "flash"`,
	"unit_price":     "must be a whole number of minor units (cents, fen)",
	"currency":       `must be text such as "CNY"`,
	"total":          "must be a whole number of units",
	"per_user_limit": "must be a whole number of units, 0 for no limit",
}

// parseMoment reads a time: RFC 3339, or null for none.
func parseMoment(raw json.RawMessage, field string) (order.Milli, error) {
	if raw == nil || string(raw) == "null" {
		return 0, nil
	}
	text := ""
	if err := json.Unmarshal(raw, &text); err == nil {
		if t, err := time.Parse(time.RFC3339, text); err == nil {
			return order.MilliOf(t), nil
		}
	}
	return 0, &order.FieldError{Field: field, Detail: `must be a time such as "2026-11-11T12:00:00Z", or null for none`}
}

// offer is a new offer as the input describes it. Whether its values are in bounds is the store's to say.
func (in *offerInput) offer() (order.Offer, error) {
	var o order.Offer
	var errs []error
	need := func(given bool, field string) {
		if !given {
			errs = append(errs, &order.FieldError{Field: field, Detail: "is required: it " + fieldTypes[field]})
		}
	}
	need(in.Shop != nil, "shop_id")
	need(in.SKU != nil, "sku")
	need(in.Title != nil, "title")
	need(in.Kind != nil, "kind")
	need(in.UnitPrice != nil, "unit_price")
	need(in.Currency != nil, "currency")
	need(in.Total != nil, "total")
	var opensErr, closesErr error
	o.Opens, opensErr = parseMoment(in.Opens, "opens_at")
	o.Closes, closesErr = parseMoment(in.Closes, "closes_at")
	if err := errors.Join(append(errs, opensErr, closesErr)...); err != nil {
		return o, err
	}
	o.Shop, o.SKU, o.Title = order.ShopID(*in.Shop), *in.SKU, *in.Title
	o.UnitPrice, o.Currency, o.Total = *in.UnitPrice, *in.Currency, *in.Total
	o.Wanted = o.Total
	o.Kind, _ = order.ParseKind(*in.Kind)
	if in.Group != nil {
		o.Group = *in.Group
	}
	if in.Limit != nil {
		o.Limit = *in.Limit
	}
	return o, o.Validate()
}

// change is an edit as the input describes it.
func (in *offerInput) change() (store.OfferChange, error) {
	change := store.OfferChange{Title: in.Title, UnitPrice: in.UnitPrice, Total: in.Total}
	var errs []error
	fixed := func(given bool, field string) {
		if given {
			errs = append(errs, &order.FieldError{Field: field, Detail: "never changes after creation: make another offer"})
		}
	}
	fixed(in.Shop != nil, "shop_id")
	fixed(in.Group != nil, "group")
	fixed(in.SKU != nil, "sku")
	fixed(in.Kind != nil, "kind")
	fixed(in.Currency != nil, "currency")
	fixed(in.Limit != nil, "per_user_limit")
	for _, t := range []struct {
		raw   json.RawMessage
		field string
		into  **order.Milli
	}{{in.Opens, "opens_at", &change.Opens}, {in.Closes, "closes_at", &change.Closes}} {
		if t.raw != nil {
			at, err := parseMoment(t.raw, t.field)
			*t.into = &at
			errs = append(errs, err)
		}
	}
	if change == (store.OfferChange{}) && errors.Join(errs...) == nil {
		return change, invalid("nothing to change: give title, unit_price, total, opens_at or closes_at")
	}
	return change, errors.Join(errs...)
}

// page reads limit and cursor of a list.
func page(r *http.Request) (limit int, after order.OfferID, err error) {
	if limit, err = pageLimit(r, pageMax); err != nil {
		return 0, 0, err
	}
	if text := r.URL.Query().Get("cursor"); text != "" {
		id, ok := order.ParseID(text)
		if !ok {
			return 0, 0, invalid("cursor must be the next_cursor of an earlier page")
		}
		after = order.OfferID(id)
	}
	return limit, after, nil
}

// pageLimit reads the size of a page: 100 unless the query says another, up to most.
func pageLimit(r *http.Request, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return min(100, most), nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > most {
		return 0, invalid(fmt.Sprintf("limit must be 1 to %d", most))
	}
	return limit, nil
}
