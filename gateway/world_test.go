package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine"
	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/sqlitequeue"
	"sluice/engine/stock/memstock"
	"sluice/lifecycle"
	"sluice/persist"
	"sluice/persist/store"
)

const testService = "service-token-0123456789"

// world is a gateway in front of the real engine, queue, persist and store, all embedded.
type world struct {
	t         testing.TB
	store     *store.Store
	queue     queue.Queue
	engine    *engine.Engine
	persist   *persist.Persist
	orders    *orders
	placer    *placer
	lifecycle *lifecycle.Lifecycle
	canceller *canceller
	gateway   *Gateway
	logs      *logs
	client    http.Client
	contract  *contract     // every answer is held to openapi.yaml
	unpaid    time.Duration // how long an order may be unpaid, from the next startPersist on
}

// placer is the engine, unless a test has something else in mind.
type placer struct {
	*engine.Engine
	instead atomic.Pointer[func(*engine.Ticket)]
}

func (p *placer) Place(ctx context.Context, t *engine.Ticket) {
	if f := p.instead.Load(); f != nil {
		(*f)(t)
		return
	}
	p.Engine.Place(ctx, t)
}

func (p *placer) PlaceAll(ctx context.Context, tickets []*engine.Ticket) {
	if f := p.instead.Load(); f != nil {
		for _, t := range tickets {
			(*f)(t)
		}
		return
	}
	p.Engine.PlaceAll(ctx, tickets)
}

// canceller is the lifecycle, unless a test wants it to fail.
type canceller struct {
	*lifecycle.Lifecycle
	fail atomic.Bool
}

func (c *canceller) Cancel(ctx context.Context, u order.UserID, id order.ID) (*order.Order, lifecycle.CancelResult, error) {
	if c.fail.Load() {
		return nil, 0, errPlanted
	}
	return c.Lifecycle.Cancel(ctx, u, id)
}

// orders is the store, with reads that fail or hang when a test wants it, and a few orders of the test's own.
type orders struct {
	*store.Store
	fail    atomic.Bool
	hang    atomic.Pointer[chan struct{}]
	parked  atomic.Bool
	selects atomic.Int64 // OrdersByID
	active  atomic.Int64
	most    atomic.Int64

	mu    sync.Mutex
	extra map[order.ID]*order.Order
}

var errPlanted = errors.New("planted")

func (o *orders) before(ctx context.Context) error {
	if block := o.hang.Load(); block != nil {
		select {
		case <-*block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if o.fail.Load() {
		return errPlanted
	}
	return nil
}

func (o *orders) put(list ...*order.Order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range list {
		o.extra[x.ID] = x
	}
}

func (o *orders) own(id order.ID) *order.Order {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.extra[id]
}

func (o *orders) Order(ctx context.Context, id order.ID) (*order.Order, error) {
	if err := o.before(ctx); err != nil {
		return nil, err
	}
	if x := o.own(id); x != nil {
		return x, nil
	}
	return o.Store.Order(ctx, id)
}

func (o *orders) OrdersByID(ctx context.Context, shard int, ids []order.ID) ([]*order.Order, error) {
	o.selects.Add(1)
	if n := o.active.Add(1); n > o.most.Load() {
		o.most.Store(n)
	}
	defer o.active.Add(-1)
	if err := o.before(ctx); err != nil {
		return nil, err
	}
	list, err := o.Store.OrdersByID(ctx, shard, ids)
	for _, id := range ids {
		if x := o.own(id); x != nil {
			list = append(list, x)
		}
	}
	return list, err
}

func (o *orders) List(ctx context.Context, u order.UserID, f store.ListFilter) ([]*order.Order, error) {
	if err := o.before(ctx); err != nil {
		return nil, err
	}
	return o.Store.List(ctx, u, f)
}

func (o *orders) AnyParked(ctx context.Context) (bool, error) {
	if o.parked.Load() {
		return true, nil
	}
	return o.Store.AnyParked(ctx)
}

// logs keeps what is logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t testing.TB, tweak ...func(*Options)) *world {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	w := &world{t: t, logs: &logs{}, contract: newContract(), unpaid: time.Hour}
	log := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	partitions := order.Partitions{Normal: 2, Flash: 2}
	var err error
	w.store, err = store.Open(ctx, store.Options{Dialect: store.SQLite, Partitions: partitions, Deadline: time.Second,
		Shards: []string{filepath.Join(dir, "shard-0.db"), filepath.Join(dir, "shard-1.db")}})
	must(t, err)
	t.Cleanup(func() { _ = w.store.Close() })
	w.queue, err = sqlitequeue.Open(ctx, sqlitequeue.Options{Path: filepath.Join(dir, "queue.db"), Partitions: partitions})
	must(t, err)
	t.Cleanup(func() { _ = w.queue.Close() })
	w.startPersist()
	t.Cleanup(w.stopPersist)

	ids := order.NewIDs(nil)
	ids.Lease(1, order.MilliOf(time.Now()), order.MilliOf(time.Now().Add(time.Hour)))
	o := engine.DefaultOptions()
	o.Partitions, o.Exclusive, o.Deadline = partitions, true, 10*time.Second // a busy machine is no test
	w.engine = engine.New(o, memstock.New(memstock.Options{Partitions: partitions}), w.queue, w.store, ids, log)
	must(t, w.engine.Start(ctx))
	t.Cleanup(func() { _ = w.engine.Close(ctx) })
	ready, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	must(t, w.engine.AwaitReady(ready))

	w.lifecycle = lifecycle.New(lifecycle.Options{}, w.store, log)
	must(t, w.lifecycle.Start(ctx))
	t.Cleanup(func() { _ = w.lifecycle.Close(ctx) })

	w.orders = &orders{Store: w.store, extra: map[order.ID]*order.Order{}}
	w.placer, w.canceller = &placer{Engine: w.engine}, &canceller{Lifecycle: w.lifecycle}
	options := DefaultOptions()
	options.Listen, options.JWTSecrets, options.ServiceTokens = "127.0.0.1:0", []string{testSecret}, []string{testService}
	for _, f := range tweak {
		f(&options)
	}
	must(t, options.Validate())
	w.gateway = New(options, Deps{Placer: w.placer, Catalogue: w.engine, Orders: w.orders, Canceller: w.canceller, Log: log})
	must(t, w.gateway.Start(ctx))
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		_ = w.gateway.Close(ctx)
	})
	await(t, "the first look for parked orders", func() bool { return !w.gateway.parked.Load() })
	return w
}

func (w *world) startPersist() {
	o := persist.DefaultOptions()
	o.Tuning.Linger, o.Tuning.Unpaid = 0, w.unpaid
	w.persist = persist.New(o, w.queue, w.store, slog.New(slog.DiscardHandler))
	must(w.t, w.persist.Start(context.Background()))
}

func (w *world) stopPersist() {
	if w.persist != nil {
		must(w.t, w.persist.Close(context.Background()))
		w.persist = nil
	}
}

// offer creates an offer of 100 units and waits until it can be sold.
func (w *world) offer(change ...func(*order.Offer)) order.OfferID {
	w.t.Helper()
	o := order.Offer{Shop: 5, SKU: "sku-1", Title: "Tea", Kind: order.Normal, UnitPrice: 1999, Currency: "CNY", Total: 100}
	for _, f := range change {
		f(&o)
	}
	o.Wanted = o.Total
	created, err := w.store.CreateOffers(context.Background(), []order.Offer{o})
	must(w.t, err)
	id := created[0].ID
	await(w.t, "the offer", func() bool { return w.engine.Offer(id) != nil })
	return id
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await polls until done says so.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited too long", what)
		}
	}
}

// answer is what a client gets.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// request is what a client sends. user 0: no token.
type request struct {
	method, path, body string
	user               order.UserID
	header             map[string]string
}

func tokenOf(u order.UserID) string { return MintToken(testSecret, u, time.Now().Add(time.Hour)) }

func (w *world) do(r request) answer {
	w.t.Helper()
	req, err := http.NewRequest(r.method, "http://"+w.gateway.Addr()+r.path, strings.NewReader(r.body))
	must(w.t, err)
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.user != 0 {
		req.Header.Set("Authorization", "Bearer "+tokenOf(r.user))
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	res, err := w.client.Do(req)
	must(w.t, err)
	a := readAnswer(w.t, res)
	w.contract.check(w.t, req, r.body, a)
	return a
}

func readAnswer(t testing.TB, res *http.Response) answer {
	t.Helper()
	raw, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	a := answer{t: t, status: res.StatusCode, header: res.Header, raw: string(raw)}
	if strings.HasSuffix(a.header.Get("Content-Type"), "json") && len(raw) > 0 && a.header.Get("Content-Type") != typeNDJSON {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			t.Fatalf("%d %s: %v", a.status, raw, err)
		}
	}
	if len(a.header.Get("Sluice-Request-Id")) != 16 {
		t.Errorf("%d without a request id: %v", a.status, a.header)
	}
	return a
}

func (w *world) get(u order.UserID, path string) answer {
	w.t.Helper()
	return w.do(request{method: "GET", path: path, user: u})
}

func (w *world) place(u order.UserID, body string) answer {
	w.t.Helper()
	return w.do(request{method: "POST", path: "/v1/orders", user: u, body: body})
}

func (w *world) placeKey(u order.UserID, key, body string) answer {
	w.t.Helper()
	return w.do(request{method: "POST", path: "/v1/orders", user: u, body: body, header: map[string]string{"Idempotency-Key": key}})
}

func (a answer) text(field string) string {
	s, _ := a.body[field].(string)
	return s
}

// is fails the test unless the answer has the status and, for refusals, the code in a proper problem document.
func (a answer) is(status int, code string) answer {
	a.t.Helper()
	if a.status != status || a.text("code") != code {
		a.t.Fatalf("got %d %s, want %d %s", a.status, a.raw, status, code)
	}
	if code == "" {
		return a
	}
	if a.header.Get("Content-Type") != "application/problem+json" || a.text("detail") == "" || a.text("title") == "" ||
		a.text("request_id") != a.header.Get("Sluice-Request-Id") || a.body["status"] != float64(status) {
		a.t.Fatalf("not a proper problem: %v %s", a.header, a.raw)
	}
	if status == 503 && a.header.Get("Retry-After") == "" {
		a.t.Fatalf("no Retry-After: %v", a.header)
	}
	return a
}
