package ops_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
	"sluice/gateway/ops"
	"sluice/persist/store"
)

const token = "test-token-0123456789"

// listener is an ops listener over a store of its own. Without a catalogue it is that of a role without an engine.
type listener struct {
	t       testing.TB
	url     string
	server  *ops.Server
	audit   string // file
	log     logBuffer
	missing atomic.Pointer[[]string]
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t testing.TB, change func(*ops.Program)) *listener {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dialect: store.SQLite, Shards: []string{filepath.Join(t.TempDir(), "s.db")},
		Partitions: order.Partitions{Normal: 2, Flash: 2}, Deadline: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t}
	l.missing.Store(&[]string{})
	p := ops.Program{Offers: s, Order: s.Order, Missing: func() []string { return *l.missing.Load() }}
	if change != nil {
		change(&p)
	}
	log := slog.New(slog.NewTextHandler(&l.log, nil))
	l.audit = filepath.Join(t.TempDir(), "audit")
	audit, err := ops.OpenAuditLog(l.audit, log)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ops.New(ops.Options{Listen: "127.0.0.1:0"}, []ops.Token{{Secret: token}}, p, audit, log)
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() {
		if err := errors.Join(server.Close(context.Background()), s.Close()); err != nil {
			t.Error(err)
		}
	})
	l.url, l.server = "http://"+server.Addr(), server
	return l
}

// call makes one request and returns status and body; bearer "" sends no token.
func (l *listener) call(method, path, body, bearer string) (int, string) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.url+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", bearer)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := contract.Check(req, res.StatusCode, res.Header, b); err != nil && !strings.HasPrefix(path, "/debug/") {
		l.t.Errorf("%s %s: %v\n%s", method, path, err, b)
	}
	if res.StatusCode >= 400 && bearer != "" && res.Header.Get("Content-Type") != "application/problem+json" {
		l.t.Errorf("%s %s: content type %s of a problem", method, path, res.Header.Get("Content-Type"))
	}
	return res.StatusCode, string(b)
}

func (l *listener) ask(method, path, body string) (int, string) {
	return l.call(method, path, body, "Bearer "+token)
}

func TestTokenIsNeeded(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	for _, path := range []string{"/ops/offers", "/metrics", "/debug/pprof/", "/ops/nothing"} {
		for _, bearer := range []string{"", "Bearer wrong", "Basic " + token, token} {
			if status, body := l.call("GET", path, "", bearer); status != 401 || !strings.Contains(body, "unauthenticated") {
				t.Errorf("GET %s with %q: %d %s", path, bearer, status, body)
			}
		}
	}
	if status, body := l.call("GET", "/healthz", "", ""); status != 200 {
		t.Errorf("/healthz: %d %s", status, body)
	}
	if status, body := l.call("GET", "/debug/pprof/cmdline", "", "bearer "+token); status != 200 {
		t.Errorf("/debug/pprof/cmdline: %d %s", status, body)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	if status, body := l.call("GET", "/readyz", "", ""); status != 200 || !strings.Contains(body, "ready") {
		t.Errorf("%d %s", status, body)
	}
	l.missing.Store(&[]string{"partition 3 (normal) is recovering"})
	if status, body := l.call("GET", "/readyz", "", ""); status != 503 || !strings.Contains(body, "partition 3 (normal) is recovering") {
		t.Errorf("%d %s", status, body)
	}
}

// TestMissingRoutes: what the program was not handed does not exist.
func TestMissingRoutes(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	for _, route := range []string{"GET /ops/stats", "GET /ops/stock", "POST /ops/rebuild", "GET /metrics", "GET /nothing", "POST /ops/nothing"} {
		method, path, _ := strings.Cut(route, " ")
		if status, body := l.ask(method, path, ""); status != 404 || !strings.Contains(body, `"code":"not_found"`) {
			t.Errorf("%s: %d %s", route, status, body)
		}
	}
	for route, want := range map[string]string{"PUT /ops/offers": "takes POST, not PUT", "GET /ops/offers/1/close": "takes POST, not GET",
		"POST /ops/offers/1": "takes PATCH, not POST", "POST /healthz": "takes GET, not POST", "TRACE /": "takes GET, not TRACE"} {
		method, path, _ := strings.Cut(route, " ")
		if status, body := l.ask(method, path, ""); status != 405 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", route, status, body)
		}
	}
}

// TestUnknownParameters: a parameter that is not known, empty or there twice is refused before anything is done.
func TestUnknownParameters(t *testing.T) {
	t.Parallel()
	done := false
	l := start(t, func(p *ops.Program) {
		p.Live = func() any { done = true; return nil }
		p.Rebuild = func(context.Context, []order.Partition) error { done = true; return nil }
		p.Reload = func(bool) (any, error) { done = true; return nil, nil }
		p.Catalogue = &slowCatalogue{}
	})
	for route, want := range map[string]string{
		"POST /ops/reload?dryrun=1":       "?dryrun is unknown: this address takes dry_run",
		"POST /ops/reload?dry_run=maybe":  "?dry_run must be 1 or 0",
		"POST /ops/rebuild?partitions=77": "?partitions is unknown: this address takes no parameters",
		"GET /ops/offers?kind=fash":       "kind must be normal or flash",
		"GET /ops/offers?shop_id=a":       "shop_id must be a positive decimal number",
		"GET /ops/offers?shop_id=":        "?shop_id is empty",
		"POST /ops/reload?dry_run=":       "?dry_run is empty",
		"POST /ops/reload?dry_run":        "?dry_run is empty",
		"POST /ops/reload?dry_run=0;x=1":  "the query does not read",
		"POST /ops/offers/batch?limit=1":  "this address takes no parameters",
		"GET /ops/events?every=5":         "this address takes no parameters",

		"POST /ops/reload?dry_run=0&dry_run=1": "?dry_run is there twice",
	} {
		method, path, _ := strings.Cut(route, " ")
		if status, body := l.ask(method, path, ""); status != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", route, status, body)
		}
	}
	if done {
		t.Error("a call that was refused has been made")
	}
	if status, body := l.ask("POST", "/ops/rebuild", ""); status != 202 || body != `{"status":"asked"}`+"\n" || !done {
		t.Errorf("rebuild of all: %d %s", status, body)
	}
}

// TestPartitionsOfARebuild: what does not name partitions asks for no rebuild, least of all of the first or of all.
func TestPartitionsOfARebuild(t *testing.T) {
	t.Parallel()
	var asked [][]order.Partition
	l := start(t, func(p *ops.Program) {
		p.Rebuild = func(_ context.Context, list []order.Partition) error { asked = append(asked, list); return nil }
	})
	for _, body := range []string{"null", "{}", "[]", `{"partitions":null}`, `{"partitions":[]}`, `{"partitions":[null]}`, `{"partitions":[1,null]}`,
		`{"partitions":["1"]}`, `{"partitions":[-1]}`, `{"partitions":[1]}{}`, `{"partition":[1]}`} {
		if status, answer := l.ask("POST", "/ops/rebuild", body); status != 400 || !strings.Contains(answer, "such as") {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	for _, body := range []string{" ", `{"partitions":[1,0]}`} {
		if status, answer := l.ask("POST", "/ops/rebuild", body); status != 202 {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	if diff := cmp.Diff([][]order.Partition{nil, {1, 0}}, asked); diff != "" {
		t.Error(diff)
	}
}

const good = `{"shop_id":"1","sku":"s","title":"t","kind":"flash","unit_price":100,"currency":"CNY","total":10,"per_user_limit":1,` +
	`"opens_at":"2026-11-11T12:00:00Z","closes_at":null}`

func TestOfferLife(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	status, body := l.ask("POST", "/ops/offers", good)
	var o ops.Offer
	if err := json.Unmarshal([]byte(body), &o); err != nil || status != 201 {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if o.ID == "" || o.Remaining != 10 || o.Group != "f"+o.ID || o.Kind != "flash" || o.Opens == nil || o.Closes != nil {
		t.Errorf("created: %s", body)
	}
	status, body = l.ask("PATCH", "/ops/offers/"+o.ID, `{"title":"new","total":12,"closes_at":"2036-11-12T00:00:00Z"}`)
	if status != 200 || !strings.Contains(body, `"title":"new"`) || !strings.Contains(body, `"total":12`) ||
		!strings.Contains(body, `"closes_at":"2036-11-12T00:00:00Z"`) {
		t.Errorf("changed: %d %s", status, body)
	}
	if status, body = l.ask("POST", "/ops/offers/"+o.ID+"/close", ""); status != 200 || !strings.Contains(body, `"state":"closed"`) {
		t.Errorf("closed: %d %s", status, body)
	}
	if status, body = l.ask("POST", "/ops/offers/999/close", ""); status != 404 || !strings.Contains(body, "offer_not_found") {
		t.Errorf("close of nothing: %d %s", status, body)
	}
	if status, body = l.ask("PATCH", "/ops/offers/x", `{"total":1}`); status != 404 {
		t.Errorf("change of nothing: %d %s", status, body)
	}
}

// TestOfferMistakes: the answer names the field and what it should be.
func TestOfferMistakes(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s is not in the good offer", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, c := range []struct{ body, want string }{
		{"", "must be a JSON object"},
		{"[]", "must be a JSON object"},
		{"{", "must be a JSON object"},
		{`{"a":}`, "not JSON, at byte"},
		{good + good, "one JSON object"},
		{"{}", `{"pointer":"/sku","detail":"is required`},
		{with(`"title"`, `"titel"`), `{"pointer":"/titel","detail":"is not a field of an offer"}`},
		{with(`"1"`, `1`), `{"pointer":"/shop_id","detail":"must be a string of digits`},
		{with(`"1"`, `"x"`), `"/shop_id"`},
		{with(`100`, `1.5`), `{"pointer":"/unit_price","detail":"must be a whole number of minor units`},
		{with(`100`, `"1"`), `"/unit_price"`},
		{with(`flash`, `sale`), `{"pointer":"/kind","detail":"must be \"normal\" or \"flash\""}`},
		{with(`CNY`, `yuan`), `"/currency"`},
		{with(`10,`, `-1,`), `"/total"`},
		{with(`"2026-11-11T12:00:00Z"`, `"tomorrow"`), `{"pointer":"/opens_at","detail":"must be a time such as`},
		{with(`null`, `"2020-01-01T00:00:00Z"`), `{"pointer":"/closes_at","detail":"must be later than opens_at"}`},
	} {
		if status, body := l.ask("POST", "/ops/offers", c.body); status != 400 || !strings.Contains(body, c.want) {
			t.Errorf("%s\n got %d %swant %s", c.body, status, body, c.want)
		}
	}
	if status, body := l.ask("POST", "/ops/offers", strings.Repeat(" ", 17<<10)); status != 413 {
		t.Errorf("too large: %d %s", status, body)
	}
	_, body := l.ask("POST", "/ops/offers", good)
	var o ops.Offer
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ body, want string }{
		{`{}`, "nothing to change"},
		{`{"sku":"x"}`, `{"pointer":"/sku","detail":"never changes after creation`},
		{`{"total":-1}`, `"/total"`},
	} {
		if status, body := l.ask("PATCH", "/ops/offers/"+o.ID, c.body); status != 400 || !strings.Contains(body, c.want) {
			t.Errorf("change %s\n got %d %swant %s", c.body, status, body, c.want)
		}
	}
}

// TestBatch: a bad line fails alone, and answers stand in the order of the lines.
func TestBatch(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	status, body := l.ask("POST", "/ops/offers/batch", good+"\n{}\n"+strings.Replace(good, `"s"`, `"s2"`, 1)+"\n")
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if status != 200 || len(lines) != 3 {
		t.Fatalf("%d %s", status, body)
	}
	for i, want := range []string{`{"line":1,"status":201,"offer":{"id":`, `{"line":2,"status":400,"problem":{`, `{"line":3,"status":201,"offer":{"id":`} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d: %s", i+1, lines[i])
		}
	}
	if !strings.Contains(lines[2], `"sku":"s2"`) {
		t.Errorf("line 3 is another offer: %s", lines[2])
	}
}

// slowCatalogue learns of an offer some time after it was created.
type slowCatalogue struct{ after time.Time }

func (c *slowCatalogue) Sells(order.Kind) bool { return true }

func (c *slowCatalogue) Offer(order.OfferID) (o order.Offer, left int64, ok bool) { return o, 0, false }
func (c *slowCatalogue) Offers(order.OfferID) iter.Seq[*order.Offer] {
	return func(func(*order.Offer) bool) {}
}

func (c *slowCatalogue) Sellable(*order.Offer) bool { return time.Now().After(c.after) }

// TestCreationWaits: 201 only once this process can sell the offer, 202 if that takes too long.
func TestCreationWaits(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(300 * time.Millisecond)
	l := start(t, func(p *ops.Program) { p.Catalogue = &slowCatalogue{soon} })
	if status, body := l.ask("POST", "/ops/offers", good); status != 201 || time.Now().Before(soon) {
		t.Errorf("answered before it can be sold: %d %s", status, body)
	}
	l = start(t, func(p *ops.Program) { p.Catalogue = &slowCatalogue{time.Now().Add(time.Hour)} })
	if status, body := l.ask("POST", "/ops/offers", good); status != 202 {
		t.Errorf("never sellable: %d %s", status, body)
	}
}

// normalOnly is the catalogue of a process that sells normal offers, at once.
type normalOnly struct{ slowCatalogue }

func (*normalOnly) Sells(kind order.Kind) bool { return kind == order.Normal }
func (*normalOnly) Sellable(o *order.Offer) bool {
	return o.Kind == order.Normal
}

// TestOffersSoldElsewhere: the answer to an edit of what only other processes sell says so, and does not wait.
func TestOffersSoldElsewhere(t *testing.T) {
	t.Parallel()
	l := start(t, func(p *ops.Program) { p.Catalogue = &normalOnly{} })
	const note = `"note":"it is committed; this process does not sell flash offers`
	var o ops.Offer
	status, body := l.ask("POST", "/ops/offers", good)
	if err := json.Unmarshal([]byte(body), &o); err != nil || status != 202 || !strings.Contains(body, note) {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if status, body := l.ask("PATCH", "/ops/offers/"+o.ID, `{"title":"new"}`); status != 202 || !strings.Contains(body, note) || !strings.Contains(body, `"title":"new"`) {
		t.Errorf("changed: %d %s", status, body)
	}
	status, body = l.ask("POST", "/ops/offers/batch", good+"\n"+strings.Replace(good, "flash", "normal", 1))
	lines := strings.Split(body, "\n")
	if status != 200 || !strings.Contains(lines[0], `"status":202`) || !strings.Contains(lines[0], note) || !strings.Contains(lines[1], `"status":201`) ||
		strings.Contains(lines[1], "note") {
		t.Errorf("a batch of both kinds: %d %s", status, body)
	}
	if status, body := l.ask("POST", "/ops/offers/"+o.ID+"/close", ""); status != 202 || !strings.Contains(body, note) {
		t.Errorf("closed: %d %s", status, body)
	}
}

// TestOurFaults: an error of the program is a 500 whose reason is in the log and nowhere else.
func TestOurFaults(t *testing.T) {
	t.Parallel()
	l := start(t, func(p *ops.Program) {
		p.Rebuild = func(context.Context, []order.Partition) error { return errors.New("the secret reason") }
	})
	status, body := l.ask("POST", "/ops/rebuild", "")
	if status != 500 || strings.Contains(body, "secret reason") {
		t.Fatalf("%d %s", status, body)
	}
	var p ops.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.RequestID == "" || !strings.Contains(l.log.String(), p.RequestID) ||
		!strings.Contains(l.log.String(), "secret reason") {
		t.Errorf("the log must have the reason under the request id: %s\n%s", body, l.log.String())
	}
	if status, body := l.ask("POST", "/ops/rebuild", `{"partitions":["x"]}`); status != 400 {
		t.Errorf("bad body: %d %s", status, body)
	}
}
