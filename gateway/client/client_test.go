package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// stub answers with its steps, one per attempt, the last one again and again, and remembers what came.
type stub struct {
	*Client
	t     *testing.T
	mu    sync.Mutex
	steps []step
	seen  []seen
}

// step is one answer. Status 0 cuts the connection.
type step struct {
	status int
	body   string
	header map[string]string
}

type seen struct {
	method, uri, body string
	header            http.Header
	at                time.Time
}

func serve(t *testing.T, o Options, steps ...step) *stub {
	t.Helper()
	s := &stub{t: t, steps: steps}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	o.Base = server.URL
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s.Client = c
	return s
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.seen = append(s.seen, seen{r.Method, r.RequestURI, string(body), r.Header, time.Now()})
	x := s.steps[min(len(s.seen), len(s.steps))-1]
	s.mu.Unlock()
	if x.status == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, value := range x.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(x.status)
	_, _ = io.WriteString(w, x.body)
}

// attempts is what came so far.
func (s *stub) attempts() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func refusal(status int, code string) step {
	return step{status: status, body: fmt.Sprintf(`{"type":"urn:sluice:problem:%s","title":"t","status":%d,"code":%q,"detail":"d","request_id":"0123456789abcdef"}`, code, status, code)}
}

var (
	cut    = step{}
	stored = step{status: 201, body: `{"id":"7","status":"awaiting_payment","amount":5}`}
)

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func want(status int) *OrderRequest {
	return &OrderRequest{Items: []Line{{OfferID: fmt.Sprint(status), Quantity: 1}}}
}

// Whatever goes wrong, the key stays, and the order is there in the end.
func TestPlaceKeepsItsKey(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{}, cut, refusal(503, "overloaded"), refusal(504, "outcome_unknown"), refusal(429, "rate_limited"),
		step{status: 502, body: "<html>"}, step{status: 200, body: "<html>"}, cut, stored)
	r := want(1)
	var causes []string
	p, err := s.OnRepeat(func(cause error) { causes = append(causes, cause.Error()) }).Place(within(t, 20*time.Second), r)
	if err != nil || p.ID != "7" || p.Status != "awaiting_payment" || p.Amount != 5 || p.Replayed {
		t.Fatalf("%+v, %v", p, err)
	}
	if len(s.attempts()) != 8 || len(r.Key) != 32 {
		t.Errorf("%d attempts, key %q", len(s.attempts()), r.Key)
	}
	if len(causes) != 7 || !strings.Contains(causes[0], "no answer") || causes[1] != "503 overloaded: d" || !strings.Contains(causes[6], "no answer") {
		t.Errorf("repeated because of %q", causes)
	}
	for _, a := range s.attempts() {
		if a.header.Get("Idempotency-Key") != r.Key || a.body != `{"items":[{"offer_id":"1","quantity":1}]}` || a.uri != "/v1/orders" {
			t.Errorf("%+v", a)
		}
	}
	own := &OrderRequest{Key: "own"}
	if _, err := s.Place(within(t, 20*time.Second), own); err != nil || s.attempts()[8].header.Get("Idempotency-Key") != "own" {
		t.Error(err)
	}
}

// What the business says is said once.
func TestRefusalsAreFinal(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]string{400: "invalid_request", 401: "unauthenticated", 403: "forbidden", 404: "offer_not_found",
		409: "sold_out", 413: "body_too_large", 415: "unsupported_media_type", 422: "duplicate_item", 500: "internal"} {
		s := serve(t, Options{}, refusal(status, code))
		_, err := s.Place(within(t, 5*time.Second), want(1))
		var p *Problem
		if !errors.As(err, &p) || p.Status != status || p.Code != code || p.RequestID == "" || errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", code, err)
		}
		if len(s.attempts()) != 1 {
			t.Errorf("%s: %d attempts", code, len(s.attempts()))
		}
	}
}

func TestProblemHasItsMembers(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{}, step{status: 409, body: `{"type":"x","title":"t","status":409,"code":"not_open","detail":"d","request_id":"r",
		"opens_at":"2026-11-11T12:00:00.000Z","server_time":"2026-11-11T11:59:57.250Z","errors":[{"pointer":"/items/0","detail":"is not on sale yet"}]}`})
	_, err := s.Place(within(t, 5*time.Second), want(1))
	var p *Problem
	if !errors.As(err, &p) || p.OpensAt.Sub(p.ServerTime) != 2750*time.Millisecond || !slices.Equal(p.Errors, []Fault{{"/items/0", "is not on sale yet"}}) ||
		!strings.Contains(err.Error(), "not_open") || !strings.Contains(err.Error(), "/items/0") {
		t.Errorf("%+v", err)
	}
	for _, c := range []struct {
		step step
		want time.Duration
	}{
		{step{status: 429, body: `{"code":"rate_limited","limit":"user","retry_after_ms":250}`, header: map[string]string{"Retry-After": "1"}}, 250 * time.Millisecond},
		{step{status: 503, body: `{"code":"overloaded"}`, header: map[string]string{"Retry-After": "3"}}, 3 * time.Second},
		{step{status: 503, body: "busy", header: map[string]string{"Retry-After": "soon"}}, 0},
	} {
		if p := problemOf(c.step.status, c.step.header["Retry-After"], []byte(c.step.body)); p.RetryAfter != c.want || p.Status != c.step.status {
			t.Errorf("%+v: %+v", c.step, p)
		}
	}
}

// The server says when to come back; a call that could not wait so long ends at once.
func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{}, step{status: 429, body: `{"code":"rate_limited","limit":"ip","retry_after_ms":300}`}, stored)
	if _, err := s.Place(within(t, 10*time.Second), want(1)); err != nil {
		t.Fatal(err)
	}
	if a := s.attempts(); len(a) != 2 || a[1].at.Sub(a[0].at) < 300*time.Millisecond {
		t.Errorf("%d attempts, %v apart", len(a), a[1].at.Sub(a[0].at))
	}
	s = serve(t, Options{}, step{status: 503, body: `{"code":"overloaded"}`, header: map[string]string{"Retry-After": "60"}})
	began := time.Now()
	_, err := s.Place(within(t, 10*time.Second), want(1))
	var p *Problem
	if !errors.As(err, &p) || p.Code != "overloaded" || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnknown) ||
		time.Since(began) > 5*time.Second || len(s.attempts()) != 1 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

// A call says that the outcome is unknown exactly when an attempt may have had an effect that no later answer rules out.
func TestUnknownIsToldApart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		steps   []step
		unknown bool
	}{
		"cut for ever":          {[]step{cut}, true},
		"unknown for ever":      {[]step{refusal(504, "outcome_unknown")}, true},
		"unknown, then refused": {[]step{refusal(504, "outcome_unknown"), refusal(409, "sold_out")}, false},
		"cut, then key reused":  {[]step{cut, refusal(422, "idempotency_key_reused")}, false},
		"cut, then no token":    {[]step{cut, refusal(401, "unauthenticated")}, true},
		"cut, then overloaded":  {[]step{cut, refusal(503, "overloaded")}, true},
		"overloaded":            {[]step{refusal(503, "overloaded")}, false},
		"a proxy's 502":         {[]step{{status: 502}, refusal(503, "overloaded")}, true},
		"a proxy's 409":         {[]step{cut, {status: 409, body: "no"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{}, c.steps...)
			_, err := s.Place(within(t, 2*time.Second), want(1))
			if err == nil || errors.Is(err, ErrUnknown) != c.unknown {
				t.Error(err)
			}
		})
	}
}

func TestNothingUnknownHappened(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{}, cut)
	if _, err := s.Order(within(t, 200*time.Millisecond), "1", 0); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a read: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	c, err := New(Options{Base: "http://" + l.Addr().String(), Patience: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := c.Place(context.Background(), want(1)); err == nil || errors.Is(err, ErrUnknown) || time.Since(began) > 5*time.Second {
		t.Errorf("nobody listens: %v", err)
	}
}

// Nothing that the server does keeps a call for longer than it may take, or fills the memory.
func TestBounds(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{AnswerMax: 1000}, step{status: 200, body: strings.Repeat(" ", 2000)})
	if _, err := s.Order(within(t, 300*time.Millisecond), "1", 0); err == nil {
		t.Error("a large answer was taken")
	}
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	c, err := New(Options{Base: server.URL, Timeout: 50 * time.Millisecond, ConnectionsMax: 1})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := c.Place(within(t, 400*time.Millisecond), want(1)); !errors.Is(err, ErrUnknown) || time.Since(began) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Place(ctx, want(1)); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Errorf("cancelled: %v", err)
	}
}

// The wait that the server is asked for ends before the context does.
func TestWait(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{}, stored)
	r := want(1)
	r.Wait = 7 * time.Second
	for _, ctx := range []context.Context{context.Background(), within(t, 3500*time.Millisecond), within(t, 900*time.Millisecond)} {
		if _, err := s.Place(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Order(context.Background(), "a/b", time.Second); err != nil {
		t.Fatal(err)
	}
	var uris []string
	for _, a := range s.attempts() {
		uris = append(uris, a.uri)
	}
	if !slices.Equal(uris, []string{"/v1/orders?wait=7", "/v1/orders?wait=2", "/v1/orders", "/v1/orders/a%2Fb?wait=1"}) {
		t.Errorf("%q", uris)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	n := 0
	s := serve(t, Options{Token: func(context.Context) (string, error) {
		if n++; n == 3 {
			return "", errors.New("planted")
		}
		return fmt.Sprint("token-", n), nil
	}}, stored)
	_, _ = s.Place(within(t, time.Second), want(1))
	_, _ = s.As("42").Place(within(t, time.Second), want(1))
	if _, err := s.Place(within(t, time.Second), want(1)); err == nil || !strings.Contains(err.Error(), "planted") {
		t.Errorf("got %v", err)
	}
	_, _ = s.As("42").Offer(within(t, time.Second), "1")
	var got []string
	for _, a := range s.attempts() {
		got = append(got, a.header.Get("Authorization")+"/"+a.header.Get("Sluice-User"))
	}
	if !slices.Equal(got, []string{"Bearer token-1/", "Bearer token-2/42", "/"}) {
		t.Errorf("%q", got)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Base: "orders.example.com"}, {Base: "ftp://x"}, {Base: "http://x?y=1"}, {Base: "http://u:p@x"}, {Base: "http://x", Timeout: -1}} {
		if c, err := New(o); err == nil {
			t.Errorf("%+v was taken: %+v", o, c)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"id":"9"}`) }))
	defer server.Close()
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	for config, ok := range map[*tls.Config]bool{{RootCAs: roots}: true, nil: false} {
		c, err := New(Options{Base: server.URL, TLS: config, Patience: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		o, err := c.Offer(context.Background(), "9")
		if ok != (err == nil) || ok && o.ID != "9" {
			t.Errorf("%v: %v", ok, err)
		}
		if _, err := c.Place(context.Background(), &OrderRequest{}); ok != (err == nil) || errors.Is(err, ErrUnknown) {
			t.Errorf("%v: an order: %v", ok, err) // who is not trusted has been sent nothing
		}
		c.Close()
	}
}
