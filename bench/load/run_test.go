package load

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"sluice/engine/order"
)

// TestMain looks for goroutines that a run left behind; two of fasthttp's sleep for seconds before they end.
func TestMain(m *testing.M) {
	const fasthttp = "github.com/valyala/fasthttp."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(fasthttp+"(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction(fasthttp+"updateServerDate.func1"))
}

// listen serves a handler until the test ends.
func listen(t *testing.T, handler fasthttp.RequestHandler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fasthttp.Server{Handler: handler, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-ended
	})
	return l.Addr().String()
}

// ledger is a server that gives the order ids 1, 2, ... and remembers which key got which.
type ledger struct {
	mu   sync.Mutex
	keys map[string][]order.ID
	n    order.ID
}

func (l *ledger) take(key string) order.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = map[string][]order.ID{}
	}
	l.n++
	l.keys[key] = append(l.keys[key], l.n)
	return l.n
}

func (l *ledger) serve(ctx *fasthttp.RequestCtx) {
	id := l.take(string(ctx.Request.Header.Peek("Idempotency-Key")))
	if id%10 == 0 {
		ctx.Error(`{"code":"sold_out"}`, 409)
		return
	}
	ctx.SetStatusCode(202)
	fmt.Fprintf(ctx, `{"id":"%d","status":"pending"}`, id)
}

func run(t *testing.T, o Options, reqs *Requests) *Results {
	t.Helper()
	res, err := Run(context.Background(), o, reqs)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestEveryRequestOnce(t *testing.T) {
	var l ledger
	s := spec
	s.Count = 2000
	reqs := build(t, s)
	res := run(t, Options{Addrs: []string{listen(t, l.serve)}, Connections: 16}, reqs)
	c := res.Count()
	if c.Sent != 2000 || c.Answered != 2000 || c.Accepted != 1800 || c.Refused["sold_out"] != 200 || c.Unknown != 0 {
		t.Errorf("%+v", c)
	}
	for i := range res.List {
		x := &res.List[i]
		ids := l.keys[reqs.Key(i)]
		if len(ids) != 1 || x.Accepted() && x.Order != ids[0] || !x.Accepted() && x.Order != 0 {
			t.Fatalf("request %d: answered %d, the server gave %v", i, x.Order, ids)
		}
	}
	if res.Rate() <= 0 || res.Latency((*Result).Accepted).TotalCount() != 1800 || res.Size == 0 || res.SizeRefuse == 0 {
		t.Errorf("%+v", c)
	}
}

// TestAddrsInTurn deals connections out to all addresses, so that each gets its part of the sends.
func TestAddrsInTurn(t *testing.T) {
	var a, b ledger
	s := spec
	s.Count = 200
	run(t, Options{Addrs: []string{listen(t, a.serve), listen(t, b.serve)}, Connections: 2, Rate: 400}, build(t, s))
	if len(a.keys) == 0 || len(b.keys) == 0 || len(a.keys)+len(b.keys) != 200 {
		t.Errorf("%d and %d of 200 requests", len(a.keys), len(b.keys))
	}
}

func TestPickRepeatsRequests(t *testing.T) {
	var l ledger
	s := spec
	s.Count = 10
	reqs := build(t, s)
	run(t, Options{Addrs: []string{listen(t, l.serve)}, Connections: 4, Sends: 50, Pick: func(i int) int { return i / 5 }}, reqs)
	for i := range 10 {
		if n := len(l.keys[reqs.Key(i)]); n != 5 {
			t.Errorf("key %d came %d times", i, n)
		}
	}
}

// TestOpenLoopCountsFromTheIntendedMoment lets the server stop for a while: requests that were due meanwhile are late by
// the time they waited to be sent, not only by the time the server took for them.
func TestOpenLoopCountsFromTheIntendedMoment(t *testing.T) {
	const stop = 300 * time.Millisecond
	var once sync.Once
	var l ledger
	addr := listen(t, func(ctx *fasthttp.RequestCtx) {
		once.Do(func() { time.Sleep(stop) })
		l.serve(ctx)
	})
	res := run(t, Options{Addrs: []string{addr}, Connections: 1, Rate: 200}, build(t, spec))
	late := 0
	for i := range res.List {
		x := &res.List[i]
		due := time.Duration(float64(i) / 200 * float64(time.Second))
		if x.Sent() < due-time.Millisecond {
			t.Fatalf("request %d was sent %s early", i, due-x.Sent())
		}
		if time.Duration(x.answered-x.intended)*time.Microsecond > stop/4 {
			late++
		}
	}
	if late < 40 {
		t.Errorf("%d requests are late; 60 were due while the server stood", late)
	}
}

func TestBrokenConnectionIsUnknownAndReplaced(t *testing.T) {
	var l ledger
	addr := listen(t, func(ctx *fasthttp.RequestCtx) {
		if l.take(string(ctx.Request.Header.Peek("Idempotency-Key")))%50 == 0 {
			ctx.HijackSetNoResponse(true)
			ctx.Hijack(func(c net.Conn) { _ = c.Close() })
			return
		}
		ctx.SetBodyString(`{"id":"1"}`)
	})
	res := run(t, Options{Addrs: []string{addr}, Connections: 4}, build(t, spec))
	c := res.Count()
	if c.Sent != 300 || c.Unknown != 6 || res.Broken != 6 || c.Accepted != 294 {
		t.Errorf("%+v, %d connections broke", c, res.Broken)
	}
}

func TestTimeoutIsUnknown(t *testing.T) {
	release := make(chan struct{})
	addr := listen(t, func(ctx *fasthttp.RequestCtx) { <-release })
	s := spec
	s.Count = 1
	res := run(t, Options{Addrs: []string{addr}, Connections: 1, Timeout: 100 * time.Millisecond}, build(t, s))
	close(release)
	if c := res.Count(); c.Sent != 1 || c.Unknown != 1 || c.Answered != 0 {
		t.Errorf("%+v", c)
	}
}

func TestStops(t *testing.T) {
	var l ledger
	addr := listen(t, l.serve)
	reqs := build(t, spec)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	res, err := Run(ctx, Options{Addrs: []string{addr}, Connections: 2, Rate: 10}, reqs)
	if err != nil {
		t.Fatal(err)
	}
	if c := res.Count(); c.Sent > 100 || int64(c.Sent) != res.Latency(func(*Result) bool { return true }).TotalCount() {
		t.Errorf("%+v: requests that were not due when the run was stopped were sent", c)
	}
	if res, err = Run(ctx, Options{Addrs: []string{addr}, Connections: 2}, reqs); err != nil || res.Count().Sent > 0 {
		t.Errorf("stopped before it began: %+v, %v", res, err)
	}
	begun := time.Now()
	run(t, Options{Addrs: []string{addr}, Connections: 2, Rate: 10, Duration: 200 * time.Millisecond}, reqs)
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestServerGoneForGood ends the run although most requests were never sent.
func TestServerGoneForGood(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		c, err := l.Accept()
		_ = l.Close()
		if err == nil {
			_ = c.Close()
		}
	}()
	res := run(t, Options{Addrs: []string{l.Addr().String()}, Connections: 1, Timeout: 100 * time.Millisecond}, build(t, spec))
	<-gone
	if c := res.Count(); c.Sent != 1 || c.Unknown != 1 {
		t.Errorf("%+v", c)
	}
}

func TestNoServer(t *testing.T) {
	if _, err := Run(context.Background(), Options{Addrs: []string{"127.0.0.1:1"}, Connections: 1}, build(t, spec)); err == nil {
		t.Error("no error")
	}
}
