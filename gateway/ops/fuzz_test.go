package ops_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/gateway/ops"
	"sluice/persist/store"
)

// toll counts what a listener had the program do: all calls, and those that took effect.
type toll struct{ calls, effects int }

func (c *toll) deed(err error) {
	c.calls++
	if err == nil {
		c.effects++
	}
}

func (c *toll) look() { c.calls++ }

type tollOffers struct {
	ops.Offers
	*toll
}

func (o tollOffers) CreateOffers(ctx context.Context, offers []order.Offer) (created []order.Offer, err error) {
	defer func() { o.deed(err) }()
	return o.Offers.CreateOffers(ctx, offers)
}

func (o tollOffers) ChangeOffer(ctx context.Context, id order.OfferID, change store.OfferChange) (was, changed order.Offer, err error) {
	defer func() { o.deed(err) }()
	return o.Offers.ChangeOffer(ctx, id, change)
}

func (o tollOffers) CloseOffer(ctx context.Context, id order.OfferID) (was, closed order.Offer, err error) {
	defer func() { o.deed(err) }()
	return o.Offers.CloseOffer(ctx, id)
}

type tollParked struct {
	*parking
	*toll
}

func (p tollParked) ListParked(ctx context.Context, f store.ParkedFilter) ([]store.ParkedOrder, error) {
	p.look()
	return p.parking.ListParked(ctx, f)
}

func (p tollParked) ReplayParked(ctx context.Context, ref store.ParkedRef) (store.Resolution, error) {
	p.deed(nil)
	return p.parking.ReplayParked(ctx, ref)
}

func (p tollParked) RejectParked(ctx context.Context, ref store.ParkedRef) (store.Resolution, error) {
	p.deed(nil)
	return p.parking.RejectParked(ctx, ref)
}

// tollLetters holds one letter, 1-1, however often it is replayed and dropped.
type tollLetters struct{ *toll }

func (d tollLetters) Letters(context.Context, queue.LetterID, int) ([]queue.Letter, error) {
	d.look()
	return []queue.Letter{{Delivery: queue.Delivery{Partition: 1, Position: 1, Body: []byte("x")}}}, nil
}

func (d tollLetters) FindLetter(_ context.Context, id queue.LetterID) (*queue.Letter, error) {
	d.look()
	l := &queue.Letter{Delivery: queue.Delivery{Partition: 1, Position: 1, Body: []byte("x")}}
	if id != l.ID() {
		return nil, nil
	}
	return l, nil
}

func (d tollLetters) ReplayLetter(context.Context, queue.LetterID) (string, error) {
	d.deed(nil)
	return "as any other", nil
}

func (d tollLetters) DropLetter(context.Context, queue.LetterID) error {
	d.deed(nil)
	return nil
}

// whole makes p a program with every stage, whose calls are counted.
func (c *toll) whole(p *ops.Program) {
	parked := newParking()
	parked.verdict = store.Resolution{Verdict: store.ResolvedStored}
	p.Offers, p.Parked, p.Letters = tollOffers{p.Offers, c}, tollParked{parked, c}, tollLetters{c}
	p.Catalogue = &shelf{slowCatalogue{}, order.Offer{ID: 1, Shop: 2, Kind: order.Normal, Currency: "CNY", Total: 5}}
	stored := p.Order
	p.Order = func(ctx context.Context, id order.ID) (*order.Order, error) { c.look(); return stored(ctx, id) }
	p.Stats = func() any { c.look(); return map[string]any{} }
	p.Live = p.Stats
	p.Config = func() any { c.look(); return map[string]any{"settings": []any{}, "secrets": map[string]string{}} }
	p.Stock = func(context.Context) ([]ops.Stock, error) { c.look(); return []ops.Stock{}, nil }
	p.Rebuild = func(context.Context, []order.Partition) error { c.deed(nil); return nil }
	p.Metrics = func(w io.Writer) { c.look(); _, _ = io.WriteString(w, "up 1\n") }
	p.Reload = func(dry bool) (any, error) {
		if c.look(); !dry {
			c.effects++
		}
		return map[string]any{"dry_run": dry, "changes": []any{}, "secrets": []any{}, "generation": 1, "hash": "0"}, nil
	}
}

// recorder is a connection that takes everything. A stream ends with its first event.
type recorder struct {
	*httptest.ResponseRecorder
	leave func()
}

func (w recorder) EnableFullDuplex() error            { return nil }
func (w recorder) SetReadDeadline(time.Time) error    { return nil }
func (w recorder) SetWriteDeadline(t time.Time) error { return nil }
func (w recorder) Flush() {
	if w.ResponseRecorder.Flush(); w.Header().Get("Content-Type") == "text/event-stream" {
		w.leave()
	}
}

// FuzzOps sends requests: none is 500 or panics, every answer is one of openapi.yaml, what has the wrong token asks
// nothing of the program, and what only reads or is refused changes nothing.
func FuzzOps(f *testing.F) {
	const bearer = "Bearer " + token
	for _, pattern := range contract.Patterns() {
		method, address, _ := strings.Cut(regexp.MustCompile(`{[\w$]*}`).ReplaceAllString(pattern, "1"), " ")
		f.Add(method, address, bearer, []byte(good))
		f.Add(method, address, "Bearer wrong", []byte(good))
	}
	for _, seed := range []struct{ method, target, body string }{
		{"POST", "/ops/offers/batch", good + "\n\r\n{}\n[\n\xff\n" + strings.Repeat("[", 5000) + "\n" + good},
		{"POST", "/ops/offers/batch", good + "\n" + strings.Repeat("x", 17<<10) + "\n" + good},
		{"POST", "/ops/offers/batch?dry_run=1", good},
		{"POST", "/ops/offers", strings.Replace(good, "10,", "9223372036854775807,", 1)},
		{"POST", "/ops/offers", strings.Replace(good, `"t"`, `"\ud800\u0000"`, 1)},
		{"POST", "/ops/offers", strings.Replace(good, "2026-", "9999-", 1)},
		{"PATCH", "/ops/offers/1", `{"title":"new","unit_price":5,"total":12,"opens_at":null,"closes_at":"0001-01-01T00:00:00-23:59"}`},
		{"PATCH", "/ops/offers/18446744073709551615", `{"total":-1}`},
		{"GET", "/ops/offers?kind=flash&shop_id=1&limit=2&cursor=1", ""},
		{"GET", "/ops/parked?shard=1&poison=1&limit=2&cursor=9-2", ""},
		{"POST", "/ops/parked/9/1/replay", ""},
		{"POST", "/ops/parked/9/2/reject", ""},
		{"GET", "/ops/deadletters?limit=2&cursor=1-1", ""},
		{"DELETE", "/ops/deadletters/1-1", ""},
		{"GET", "/ops/deadletters/65535-18446744073709551615", ""},
		{"POST", "/ops/rebuild", `{"partitions":[0,1]}`},
		{"POST", "/ops/rebuild", `{"partitions":[-1,65536,1e99,null]}`},
		{"POST", "/ops/reload?dry_run=1", ""},
		{"GET", "/ops/events?a=%zz;b", "x"},
		{"HEAD", "/ops/../ops//stats", ""},
		{"CONNECT", "/ops/offers", ""},
		{"OPTIONS", "*", ""},
		{"GET", "http://other/ops/config#x", ""},
		{"GET", "/debug/pprof/../../ops/stats", ""},
	} {
		f.Add(seed.method, seed.target, bearer, []byte(seed.body))
	}
	count := &toll{}
	l := start(f, count.whole)
	f.Fuzz(func(t *testing.T, method, target, authorization string, body []byte) {
		*count = toll{}
		l.fuzz(t, count, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", method, target, authorization), body)
	})
}

func (l *listener) fuzz(t *testing.T, count *toll, head string, body []byte) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil || strings.HasPrefix(path.Clean(r.URL.Path), "/debug/pprof") {
		return // Go's own, and its profiles take as long as they are asked to
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r = r.WithContext(ctx)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	w := recorder{httptest.NewRecorder(), cancel}
	l.server.Handler().ServeHTTP(w, r)
	status, what := w.Code, fmt.Sprintf("%q with %q: %d %s", head, body, w.Code, w.Body)
	if status == 500 || status == 504 {
		t.Fatal(what)
	}
	reads := r.Method == "GET" || r.Method == "HEAD"
	if (reads || status >= 300) && count.effects > 0 {
		t.Fatalf("%s: it had %d effects", what, count.effects)
	}
	open := slices.Contains([]string{"/", "/healthz", "/readyz", "/openapi.yaml"}, r.URL.Path)
	if !strings.Contains(head, token) && (count.calls > 0 || status < 300 && !open) {
		t.Fatalf("%s: without the token, and the program was called %d times", what, count.calls)
	}
	if status/100 == 3 || r.Method == "HEAD" || r.RequestURI == "*" {
		return // an unclean path is sent to its clean one; * is the server as a whole
	}
	if err := contract.Check(r, status, w.Header(), w.Body.Bytes()); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
