package ops

import (
	"net/http"
	"strconv"

	"sluice/engine/order"
)

// deed answers a request that changes something, as handler does one that does not, and notes what it has done.
type deed func(r *http.Request, e *entry) (status int, body any, err error)

// recorded lets a call begin once it stands in the audit log.
func (s *Server) recorded(do func(w http.ResponseWriter, r *http.Request, e *entry)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := s.who(r.Header.Get("Authorization"))
		if !ok { // taken away since it was let in
			s.refuse(w, r)
			return
		}
		e, err := s.audit.begin(r, who)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set(headRequestID, e.record.ID)
		do(w, r, e)
	}
}

// perform is handle for a deed: what it came to is on the disk before it is answered.
func (s *Server) perform(d deed, parameters ...string) http.HandlerFunc {
	return s.recorded(func(w http.ResponseWriter, r *http.Request, e *entry) {
		status, body, err := 0, any(nil), unread(r, parameters)
		if err == nil {
			status, body, err = d(r, e)
		}
		if err != nil {
			p := problemOf(err)
			e.end(p.Status, p.Code)
			s.fail(w, r, err)
			return
		}
		e.end(status, "")
		write(w, status, "application/json", encode(body))
	})
}

func offerName(o *order.Offer) string { return "offer " + order.ID(o.ID).String() }

// created notes a new offer.
func (e *entry) created(o *order.Offer) {
	e.note(change{What: offerName(o), To: map[string]any{"shop_id": order.ID(o.Shop).String(), "sku": o.SKU, "kind": o.Kind.String(),
		"unit_price": o.UnitPrice, "currency": o.Currency, "total": o.Total, "per_user_limit": o.Limit, "opens_at": moment(o.Opens),
		"closes_at": moment(o.Closes)}})
}

// edited notes what differs between an offer as it was and as it is. A lowered total is noted as what is wanted: what is
// sold is not taken away.
func (e *entry) edited(was, is *order.Offer) {
	differ := func(field string, changed bool, from, to any) {
		if changed {
			e.note(change{offerName(is), field, from, to})
		}
	}
	differ("title", was.Title != is.Title, was.Title, is.Title)
	differ("unit_price", was.UnitPrice != is.UnitPrice, was.UnitPrice, is.UnitPrice)
	differ("total", was.Wanted != is.Wanted, was.Wanted, is.Wanted)
	differ("opens_at", was.Opens != is.Opens, moment(was.Opens), moment(is.Opens))
	differ("closes_at", was.Closes != is.Closes, moment(was.Closes), moment(is.Closes))
}

// createdMany notes the offers of a chunk by the first and the last of their ids, which follow each other.
func (e *entry) createdMany(offers []order.Offer) {
	first, last := offers[0].ID, offers[len(offers)-1].ID
	e.note(change{What: strconv.Itoa(len(offers)) + " offers", To: map[string]string{"first": order.ID(first).String(), "last": order.ID(last).String()}})
}
