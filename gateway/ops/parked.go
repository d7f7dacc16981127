package ops

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

// Parked is what a person does about parked orders.
type Parked interface {
	ListParked(ctx context.Context, f store.ParkedFilter) ([]store.ParkedOrder, error)
	FindParked(ctx context.Context, ref store.ParkedRef) (*store.ParkedOrder, error) // nil if it is not parked
	ReplayParked(ctx context.Context, ref store.ParkedRef) (store.Resolution, error)
	RejectParked(ctx context.Context, ref store.ParkedRef) (store.Resolution, error)
}

// ParkedOrder is a parked order. The fields from User on come from its record; lists have only the first of them.
type ParkedOrder struct {
	Batch     string          `json:"batch_id"`
	Order     string          `json:"order_id"`
	Shard     int             `json:"shard"` // of its user
	Partition order.Partition `json:"partition"`
	Epoch     string          `json:"epoch"`
	Poison    bool            `json:"poison"`
	Error     string          `json:"error,omitempty"` // why its shard refuses it, or its record does not read
	Status    order.Status    `json:"status"`          // pending, or rejected by its claim
	Reason    order.Reason    `json:"reason,omitempty"`
	Created   *time.Time      `json:"created_at"`
	User      string          `json:"user_id,omitempty"`
	Shop      string          `json:"shop_id,omitempty"`
	Group     string          `json:"group,omitempty"`
	Key       string          `json:"idempotency_key,omitempty"`
	Items     []Item          `json:"items,omitempty"`
	Amount    order.Money     `json:"amount,omitempty"`
	Currency  string          `json:"currency,omitempty"`
	Details   json.RawMessage `json:"details,omitempty"` // masked
}

// Resolved is the answer to a replay or a reject that has ended: the order as it is stored, details masked.
type Resolved struct {
	Verdict string `json:"verdict"`
	Order   *Order `json:"order"`
}

// showParked shows a parked order, whole or as in a list.
func showParked(o *store.ParkedOrder, whole bool) *ParkedOrder {
	p := &ParkedOrder{Batch: order.ID(o.Batch).String(), Order: o.Order.String(), Shard: o.Shard, Partition: o.Partition,
		Epoch: order.ID(o.Epoch).String(), Poison: o.Error != "", Error: o.Error, Status: o.Status, Reason: o.Reason,
		Created: moment(o.Order.Time())}
	if p.Status == order.AwaitingPayment {
		p.Status = order.Pending
	}
	row, err := o.Row()
	if err != nil {
		p.Error = strings.TrimPrefix(p.Error+"; "+err.Error(), "; ")
		return p
	}
	r := row.Record
	if p.User = order.ID(r.User).String(); !whole {
		return p
	}
	p.Shop, p.Group, p.Key = order.ID(r.Shop).String(), r.Group, r.Key
	p.Items, p.Amount, p.Currency, p.Details = showItems(r.Items), r.Amount(), r.Currency, order.MaskDetails(r.Details)
	return p
}

func (s *Server) listParked(r *http.Request) (int, any, error) {
	limit, err := pageLimit(r, pageMax)
	if err != nil {
		return 0, nil, err
	}
	f := store.ParkedFilter{Shard: -1, Limit: limit + 1}
	query := r.URL.Query()
	if text := query.Get("shard"); text != "" {
		if f.Shard, err = strconv.Atoi(text); err != nil || f.Shard < 0 {
			return 0, nil, invalid("shard must be the number of a user shard")
		}
	}
	if text := query.Get("poison"); text != "" {
		if f.Poison, err = strconv.ParseBool(text); err != nil {
			return 0, nil, invalid("poison must be 1 or 0")
		}
	}
	if text := query.Get("cursor"); text != "" {
		batch, id, _ := strings.Cut(text, "-")
		var ok bool
		if f.After, ok = parkedRef(batch, id); !ok {
			return 0, nil, invalid("cursor must be the next_cursor of an earlier page")
		}
	}
	list, err := s.program.Parked.ListParked(r.Context(), f)
	if err != nil {
		return 0, nil, err
	}
	data, next := []*ParkedOrder{}, ""
	for i := range list {
		if i == limit {
			next = data[i-1].Batch + "-" + data[i-1].Order
			break
		}
		data = append(data, showParked(&list[i], false))
	}
	return http.StatusOK, map[string]any{"data": data, "next_cursor": next}, nil
}

func (s *Server) getParked(r *http.Request) (int, any, error) {
	ref, err := pathParked(r)
	if err != nil {
		return 0, nil, err
	}
	o, err := s.program.Parked.FindParked(r.Context(), ref)
	if err == nil && o == nil {
		err = errNotParked
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, showParked(o, true), nil
}

func (s *Server) replayParked(r *http.Request, e *entry) (int, any, error) {
	return s.resolve(r, e, s.program.Parked.ReplayParked)
}

func (s *Server) rejectParked(r *http.Request, e *entry) (int, any, error) {
	return s.resolve(r, e, s.program.Parked.RejectParked)
}

var errNotParked error = &Problem{Status: 404, Code: "not_found", Detail: "no order is parked under this batch and order id"}

func (s *Server) resolve(r *http.Request, e *entry, how func(context.Context, store.ParkedRef) (store.Resolution, error)) (int, any, error) {
	ref, err := pathParked(r)
	if err != nil {
		return 0, nil, err
	}
	out, err := how(r.Context(), ref)
	if err != nil {
		return 0, nil, err
	}
	switch out.Verdict {
	case store.ResolvedNotParked:
		return 0, nil, errNotParked
	case store.ResolvedRefused:
		return 0, nil, &Problem{Status: 409, Code: "still_refused", Detail: "the user shard refuses the row; the order stays parked: " + out.Error}
	case store.ResolvedNotPoison:
		return 0, nil, &Problem{Status: 409, Code: "not_poison",
			Detail: "its user shard has not refused the order: it is recorded by itself once the shard answers"}
	case store.ResolvedStoredLive:
		return 0, nil, &Problem{Status: 409, Code: "stored_alive",
			Detail: "the order has been stored and is " + string(out.Order.Status) + ": it is parked no longer and was not rejected"}
	}
	shown := Resolved{Verdict: out.Verdict}
	if out.Order != nil {
		e.note(change{What: "order " + out.Order.ID.String(), Field: "status", From: order.Pending, To: out.Order.Status})
		shown.Order = showOrder(out.Order)
		shown.Order.Details = order.MaskDetails(out.Order.Details)
	}
	return http.StatusOK, &shown, nil
}

func pathParked(r *http.Request) (store.ParkedRef, error) {
	ref, ok := parkedRef(r.PathValue("batch"), r.PathValue("order"))
	if !ok {
		return ref, errNotParked
	}
	return ref, nil
}

func parkedRef(batch, id string) (store.ParkedRef, bool) {
	b, okBatch := order.ParseID(batch)
	o, okOrder := order.ParseID(id)
	return store.ParkedRef{Batch: order.BatchID(b), Order: order.ID(o)}, okBatch && okOrder
}
