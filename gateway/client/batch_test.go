package client

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func lines(n int) []BatchLine {
	list := make([]BatchLine, n)
	for i := range list {
		list[i] = BatchLine{UserID: "42", OrderRequest: OrderRequest{Key: string(rune('a' + i)), Items: []Line{{OfferID: "1", Quantity: 1}}}}
	}
	return list
}

// keys are those of the lines of a body.
func keys(body string) (all string) {
	for _, part := range strings.Split(body, `"idempotency_key":"`)[1:] {
		all += part[:strings.IndexByte(part, '"')]
	}
	return all
}

// Lines that were not served are sent again, and only those; every result is that of its line.
func TestBatchRepeatsLines(t *testing.T) {
	t.Parallel()
	ok := func(id string) string {
		return `{"line":1,"status":202,"order":{"id":"` + id + `","status":"pending"}}` + "\n"
	}
	no := func(status, code string) string {
		return `{"line":1,"status":` + status + `,"problem":{"code":"` + code + `","detail":"d"}}` + "\n"
	}
	s := serve(t, Options{}, cut,
		step{status: 200, body: ok("1") + no("503", "overloaded") + no("409", "sold_out") + no("504", "outcome_unknown") + no("429", "rate_limited")},
		step{status: 503, body: `{"code":"overloaded"}`},
		step{status: 200, body: ok("2")}, // an answer that ends too early
		step{status: 200, body: ok("2") + `{"line":2,"status":200,"replayed":true,"order":{"id":"4"}}` + "\n" + no("401", "unauthenticated")})
	list := lines(5)
	list[4].Key = ""
	got, err := s.PlaceBatch(within(t, 20*time.Second), list)
	if err != nil || len(list[4].Key) != 32 {
		t.Fatal(err, list[4].Key)
	}
	var p *Problem
	if got[0].Placed.ID != "1" || got[1].Placed.ID != "2" || !errors.As(got[2].Err, &p) || p.Code != "sold_out" || errors.Is(got[2].Err, ErrUnknown) ||
		got[3].Placed.ID != "4" || !got[3].Placed.Replayed || got[3].Err != nil || !errors.Is(got[4].Err, ErrUnknown) {
		t.Errorf("%+v", got)
	}
	var sent []string
	for _, a := range s.attempts() {
		sent = append(sent, strings.ReplaceAll(keys(a.body), list[4].Key, "e"))
		if a.uri != "/v1/orders/batch" || a.header.Get("Content-Type") != "application/x-ndjson" || a.header.Get("Idempotency-Key") != "" {
			t.Errorf("%+v", a)
		}
	}
	if want := "abcde abcde bde bde bde"; strings.Join(sent, " ") != want {
		t.Errorf("sent %v, want %v", sent, want)
	}
}

func TestBatchGivesUp(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{}, step{status: 200, body: `{"line":1,"status":202,"order":{"id":"1"}}` + "\n" + `{"line":2,"status":503,"problem":{"code":"overloaded"}}` + "\n"},
		step{status: 200, body: `{"line":2,"status":503,"problem":{"code":"overloaded"}}` + "\n"})
	got, err := s.PlaceBatch(within(t, 2*time.Second), lines(2))
	var p *Problem
	if err != nil || got[0].Placed == nil || !errors.As(got[1].Err, &p) || p.Code != "overloaded" || errors.Is(got[1].Err, ErrUnknown) {
		t.Errorf("%v %+v", err, got)
	}
	s = serve(t, Options{}, step{status: 200, body: `{"line":1,"status":504,"problem":{"code":"outcome_unknown"}}` + "\n" + `{"line":2,"status":503,"problem":{"code":"overloaded"}}` + "\n"},
		refusal(503, "overloaded"))
	got, err = s.PlaceBatch(within(t, 2*time.Second), lines(2))
	if !errors.Is(err, ErrUnknown) || !errors.Is(got[0].Err, ErrUnknown) || errors.Is(got[1].Err, ErrUnknown) || !errors.As(got[1].Err, &p) {
		t.Errorf("%v %+v", err, got)
	}
	s = serve(t, Options{}, step{status: 200, body: `{"line":1,"status":202,"order":{"id":"1"}}` + "\n"},
		step{status: 200, body: `{"line":1,"status":429,"problem":{"code":"rate_limited"}}` + "\n" + `{"line":2,"status":202,"order":{"id":"2"}}` + "\n"})
	got, err = s.PlaceBatch(within(t, 2*time.Second), lines(2))
	if err != nil || got[0].Err != nil || got[0].Placed.ID != "1" || got[1].Err != nil || got[1].Placed.ID != "2" {
		t.Errorf("%v %+v", err, got)
	}
	s = serve(t, Options{}, cut)
	got, err = s.PlaceBatch(within(t, 200*time.Millisecond), lines(2))
	if !errors.Is(err, ErrUnknown) || !errors.Is(got[0].Err, ErrUnknown) || !errors.Is(got[1].Err, ErrUnknown) {
		t.Errorf("%v %+v", err, got)
	}
	s = serve(t, Options{}, refusal(403, "forbidden"))
	if got, err = s.PlaceBatch(within(t, time.Second), lines(1)); !errors.As(err, &p) || p.Code != "forbidden" || got[0].Err == nil || len(s.attempts()) != 1 {
		t.Errorf("%v %+v", err, got)
	}
	if got, err = s.PlaceBatch(within(t, time.Second), nil); err != nil || len(got) != 0 {
		t.Errorf("no lines: %v %v", got, err)
	}
}
