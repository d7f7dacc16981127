package ops

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/persist/store"
)

// Problem is an RFC 9457 problem document. Code is stable and for programs, Detail is for a person.
type Problem struct {
	Title     string         `json:"title"`
	Status    int            `json:"status"`
	Code      string         `json:"code"`
	Detail    string         `json:"detail,omitempty"`
	RequestID string         `json:"request_id,omitempty"`
	Errors    []FieldProblem `json:"errors,omitempty"`
}

// FieldProblem says what is wrong with one field of the input.
type FieldProblem struct {
	Pointer string `json:"pointer"` // JSON pointer
	Detail  string `json:"detail"`
}

func (p *Problem) Error() string {
	text := p.Code
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	for i, f := range p.Errors {
		between := "; "
		if i == 0 {
			text, between = strings.TrimSuffix(text, "."), ": "
		}
		text += between + strings.TrimPrefix(f.Pointer, "/") + " " + f.Detail
	}
	return text
}

// handler answers a request with a status and what becomes its JSON body, or fails with an error.
type handler func(r *http.Request) (status int, body any, err error)

// only refuses query parameters that h does not read, and those that it cannot read in one way: a misspelt one would be
// lost silently, and a trial become the deed.
func only(parameters []string, h handler) handler {
	return func(r *http.Request) (int, any, error) {
		if err := unread(r, parameters); err != nil {
			return 0, nil, err
		}
		return h(r)
	}
}

// none is only for a route without parameters that writes its answer by itself.
func (s *Server) none(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := unread(r, nil); err != nil {
			s.fail(w, r, err)
			return
		}
		h(w, r)
	}
}

// unread says what of a query would not be read.
func unread(r *http.Request, parameters []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("the query does not read: " + err.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch known := slices.Contains(parameters, name); {
		case !known && len(parameters) == 0:
			return invalid("?" + name + " is unknown: this address takes no parameters")
		case !known:
			return invalid("?" + name + " is unknown: this address takes " + strings.Join(parameters, ", "))
		case len(query[name]) > 1:
			return invalid("?" + name + " is there twice")
		case query[name][0] == "":
			return invalid("?" + name + " is empty: leave it out, or give it a value")
		}
	}
	return nil
}

// rawBody is a body that is written as it is.
type rawBody struct {
	contentType string
	content     []byte
}

func (s *Server) handle(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body, err := h(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if raw, ok := body.(rawBody); ok {
			write(w, status, raw.contentType, raw.content)
			return
		}
		write(w, status, "application/json", encode(body))
	}
}

func encode(body any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		panic("BUG: an answer does not encode: " + err.Error())
	}
	return b.Bytes()
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have left
}

// fail answers with the problem that err is. An error that is no problem is ours: it is logged, and the client learns
// where to look.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	id := w.Header().Get(headRequestID) // of a call in the audit log
	if id == "" {
		id = requestID()
	}
	p := *problemOf(err)
	p.RequestID, p.Title = id, http.StatusText(p.Status)
	if p.Status == http.StatusInternalServerError {
		s.log.Error("ops request failed", "request_id", id, "method", r.Method, "path", r.URL.Path, "error", err)
	}
	w.Header().Set(headRequestID, id)
	write(w, p.Status, "application/problem+json", encode(&p))
}

const headRequestID = "Sluice-Request-Id"

func requestID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// problemOf translates the errors of the stages.
func problemOf(err error) *Problem {
	var p *Problem
	var ahead *store.AheadError
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, queue.ErrNoLetter):
		return &Problem{Status: 404, Code: "not_found", Detail: "there is no dead letter of this id; ids are PARTITION-POSITION, as the list shows them"}
	case errors.Is(err, order.ErrDamaged):
		return &Problem{Status: 409, Code: "still_damaged", Detail: "the letter is kept: " + err.Error()}
	case errors.Is(err, order.ErrVersion):
		return &Problem{Status: 409, Code: "unknown_version", Detail: "the letter is kept for a newer program: " + err.Error()}
	case errors.As(err, &ahead):
		return &Problem{Status: 409, Code: "epoch_ahead", Detail: "the letter is kept: " + ahead.Error()}
	case errors.Is(err, store.ErrNoOffer):
		return &Problem{Status: 404, Code: "offer_not_found", Detail: "there is no offer of this id"}
	case errors.Is(err, store.ErrPriceFrozen):
		return &Problem{Status: 409, Code: "price_frozen",
			Detail: "the price of a flash offer is fixed from 60 seconds before it opens"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Problem{Status: 504, Code: "outcome_unknown", Detail: "no answer in time; look whether it took effect"}
	}
	if fields := fieldProblems(err); len(fields) > 0 {
		return &Problem{Status: 400, Code: "invalid_request", Detail: "the offer has fields out of bounds", Errors: fields}
	}
	return &Problem{Status: 500, Code: "internal", Detail: "the server failed; its log has the reason under this request id"}
}

// fieldProblems lists every *order.FieldError in err, which may be several joined ones.
func fieldProblems(err error) []FieldProblem {
	var list []FieldProblem
	switch e := err.(type) {
	case *order.FieldError:
		return []FieldProblem{{Pointer: "/" + e.Field, Detail: e.Detail}}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			list = append(list, fieldProblems(err)...)
		}
	case interface{ Unwrap() error }:
		return fieldProblems(e.Unwrap())
	}
	return list
}
