package bench

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/bench/load"
	"sluice/engine/order"
)

// A repeat that helps is counted as one, and what a person sees in the end is an error.
func TestVisitsCountRepeatsAndErrors(t *testing.T) {
	t.Parallel()
	var placed atomic.Int64
	mux := http.NewServeMux()
	answer := func(pattern string, status int, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	mux.HandleFunc("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sluice-User") == "" || r.Header.Get("Authorization") != "Bearer the-service" {
			t.Errorf("%v", r.Header)
		}
		switch n := placed.Add(1); n {
		case 1, 2: // the first order has to ask three times
			w.WriteHeader(503 + int(n)%2)
			_, _ = io.WriteString(w, `{"code":"overloaded"}`)
		case 4:
			w.WriteHeader(409)
			_, _ = io.WriteString(w, `{"code":"sold_out"}`)
		default:
			w.WriteHeader(202)
			_, _ = fmt.Fprintf(w, `{"id":"%d","status":"pending"}`, n)
		}
	})
	answer("GET /v1/offers/{id}", 404, `{"code":"offer_not_found"}`)
	answer("GET /v1/orders/{id}", 200, `{"status":"awaiting_payment"}`)
	answer("GET /v1/orders", 200, `{"data":[]}`)
	answer("POST /v1/orders/{id}/cancel", 409, `{"code":"not_cancellable"}`)
	shop := httptest.NewServer(mux)
	defer shop.Close()
	reqs, err := load.Build(load.Spec{Count: 2, Offer: 7, Details: 200, Secret: []byte("s")})
	if err != nil {
		t.Fatal(err)
	}
	v, err := newVisitors(&server{gateways: []string{strings.TrimPrefix(shop.URL, "http://")}, service: "the-service"}, 8, reqs)
	if err != nil {
		t.Fatal(err)
	}
	v.browse(0, time.Now())
	v.browse(1, time.Now())
	steps, requests := v.report()
	got := fmt.Sprint(requests)
	for _, s := range steps {
		got += fmt.Sprintf("; %d %d%s %d%s", s.Answer.Count, s.Errors, reasons(s.Codes), s.Repeats, reasons(s.Causes))
	}
	if want := "9; 2 2, 2 offer_not_found 0; 2 1, 1 sold_out 2, 2 overloaded; 1 0 0; 1 0 0; 1 1, 1 not_cancellable 0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if h := v.history; h[0].Order != order.ID(3) || h[0].Code != 202 || h[1].Order != 0 || h[1].Code != 409 {
		t.Errorf("%+v", h)
	}
}
