package gateway

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/engine"
)

// raw sends bytes over a connection of their own and reads one answer.
func (w *world) raw(text string) answer {
	w.t.Helper()
	c, err := net.Dial("tcp", w.gateway.Addr())
	must(w.t, err)
	defer func() { _ = c.Close() }()
	must(w.t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, _ = c.Write([]byte(text)) // the server may have answered and closed before the end
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		w.t.Fatalf("%.80q: %v", text, err)
	}
	return readAnswer(w.t, res)
}

func post(length int, rest string) string {
	return fmt.Sprintf("POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		tokenOf(42), length, rest)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/", 404, "not_found", ""},
		{"GET", "/v1", 404, "not_found", ""},
		{"GET", "/v1/orders/", 404, "order_not_found", ""},
		{"GET", "/v1/ordersx", 404, "not_found", ""},
		{"POST", "/v1/orders/1/pay", 404, "not_found", ""},
		{"GET", "/v1/offers/1/2", 404, "not_found", ""},
		{"GET", "/v1/offers/", 404, "offer_not_found", ""},
		{"DELETE", "/v1/orders", 405, "method_not_allowed", "GET, HEAD, POST"},
		{"PUT", "/v1/orders/1", 405, "method_not_allowed", "GET, HEAD"},
		{"GET", "/v1/orders/1/cancel", 405, "method_not_allowed", "POST"},
		{"POST", "/v1/offers", 405, "method_not_allowed", "GET, HEAD"},
		{"PATCH", "/v1/offers/1", 405, "method_not_allowed", "GET, HEAD"},
	} {
		a := w.do(request{method: c.method, path: c.path, user: 42}).is(c.status, c.code)
		if a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, a.header.Get("Allow"), c.allow)
		}
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	year := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		header map[string]string
		status int
		code   string
	}{
		"no token":           {nil, 401, "unauthenticated"},
		"empty":              {map[string]string{"Authorization": ""}, 401, "unauthenticated"},
		"other scheme":       {map[string]string{"Authorization": "Basic eDp4"}, 401, "unauthenticated"},
		"scheme only":        {map[string]string{"Authorization": "Bearer "}, 401, "unauthenticated"},
		"garbage":            {map[string]string{"Authorization": "Bearer a.b.c"}, 401, "unauthenticated"},
		"expired":            {map[string]string{"Authorization": "Bearer " + MintToken(testSecret, 42, time.Now().Add(-time.Minute))}, 401, "unauthenticated"},
		"other key":          {map[string]string{"Authorization": "Bearer " + MintToken(testOldSecret, 42, year)}, 401, "unauthenticated"},
		"user":               {map[string]string{"Authorization": "bearer " + tokenOf(42)}, 200, ""},
		"user for another":   {map[string]string{"Authorization": "Bearer " + tokenOf(42), "Sluice-User": "43"}, 403, "forbidden"},
		"service":            {map[string]string{"Authorization": "Bearer " + testService, "Sluice-User": "42"}, 200, ""},
		"service for nobody": {map[string]string{"Authorization": "Bearer " + testService}, 403, "forbidden"},
		"service for junk":   {map[string]string{"Authorization": "Bearer " + testService, "Sluice-User": "0x2A"}, 400, "invalid_request"},
		"almost service":     {map[string]string{"Authorization": "Bearer " + testService + "x", "Sluice-User": "42"}, 401, "unauthenticated"},
	} {
		a := w.do(request{method: "GET", path: "/v1/orders", header: c.header})
		if a.status != c.status || a.text("code") != c.code || c.status == 401 && a.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: %d %v %s", name, a.status, a.header, a.raw)
		}
	}
}

// Whatever comes is answered with its type, has no effect, and is never 500.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.ReadTimeout = 300 * time.Millisecond })
	id := w.offer()
	good := item(id, 1)
	big := strings.Repeat("x", BodyMax+1)
	for name, c := range map[string]struct {
		text   string
		status int
		code   string
	}{
		"garbage":               {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, "invalid_request"},
		"no version":            {"POST /v1/orders\r\n\r\n", 400, "invalid_request"},
		"endless headers":       {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*HeaderMax) + "\r\n\r\n", 431, "headers_too_large"},
		"too large":             {post(len(big), big), 413, "body_too_large"},
		"very large, announced": {post(1<<30, "x"), 413, "body_too_large"},
		"too large, in chunks":  {"POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n" + strings.Repeat("x", 0x5000) + "\r\n0\r\n\r\n", 413, "body_too_large"},
		"bad length":            {"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400, "invalid_request"},
		"slow headers":          {"POST /v1/orders HTTP/1.1\r\nHost: x\r\n", 408, "request_timeout"},
		"slow body":             {post(len(good), good[:5]), 408, "request_timeout"},
		"no body":               {post(0, ""), 400, "invalid_request"},
		"text":                  {strings.Replace(post(len(good), good), "application/json", "text/plain", 1), 415, "unsupported_media_type"},
		"form":                  {strings.Replace(post(len(good), good), "application/json", "multipart/form-data; boundary=x", 1), 415, "unsupported_media_type"},
		"no type":               {strings.Replace(post(len(good), good), "Content-Type: application/json\r\n", "", 1), 415, "unsupported_media_type"},
		"cut":                   {post(len(good)-1, good[:len(good)-1]), 400, "invalid_request"},
		"key with spaces":       {strings.Replace(post(len(good), good), "Host: x", "Host: x\r\nIdempotency-Key: a b", 1), 400, "invalid_request"},
		"key empty":             {strings.Replace(post(len(good), good), "Host: x", "Host: x\r\nIdempotency-Key:", 1), 400, "invalid_request"},
		"two keys":              {strings.Replace(post(len(good), good), "Host: x", "Host: x\r\nIdempotency-Key: a\r\nIdempotency-Key: b", 1), 400, "invalid_request"},
		"key too long":          {strings.Replace(post(len(good), good), "Host: x", "Host: x\r\nIdempotency-Key: "+strings.Repeat("k", 65), 1), 400, "invalid_request"},
		"key in other letters":  {strings.Replace(post(len(good), good), "Host: x", "Host: x\r\nIdempotency-Key: \xe4\xb8\xad", 1), 400, "invalid_request"},
		"bad wait":              {strings.Replace(post(len(good), good), "/v1/orders", "/v1/orders?wait=soon", 1), 400, "invalid_request"},
		"no token":              {strings.Replace(post(len(good), good), "Bearer", "Bear", 1), 401, "unauthenticated"},
	} {
		a := w.raw(c.text)
		if a.status != c.status || a.text("code") != c.code || a.text("detail") == "" {
			t.Errorf("%s: got %d %s, want %d %s", name, a.status, a.raw, c.status, c.code)
		}
	}
	charset := w.raw(strings.Replace(post(len(good), good), "application/json", "Application/JSON; charset=utf-8", 1))
	charset.is(202, "")
	if left := w.engine.Offer(id).Left(); left != 99 {
		t.Errorf("%d units left, want 99: a bad request had an effect", left)
	}
	s := w.gateway.Stats()
	if s.Refused["internal"] != 0 {
		t.Errorf("%d answers of 500", s.Refused["internal"])
	}
	await(t, "the counters to settle", func() bool { return w.gateway.Stats().InFlight == 0 })
}

// Many clients send all they have before they look for an answer: the connection must last until then.
func TestTooLargeAndSentWhole(t *testing.T) {
	t.Parallel()
	for _, each := range []int{0, 10} { // connections of one address
		c, err := net.Dial("tcp", newWorld(t, func(o *Options) { o.ConnectionsPerIPMax = each }).gateway.Addr())
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		must(t, c.(*net.TCPConn).SetWriteBuffer(4<<10)) // so that what is written has been read
		must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = c.Write([]byte(post(BatchBodyMax+1, strings.Repeat("x", BatchBodyMax+1))))
		must(t, err)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		must(t, err)
		readAnswer(t, res).is(413, "body_too_large")
	}
}

// Who asks again on a connection that has rested, and cannot be read, is told so: the time to write its answer begins anew.
func TestUnreadableAfterARest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.WriteTimeout = 100 * time.Millisecond })
	c, err := net.Dial("tcp", w.gateway.Addr())
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	in := bufio.NewReader(c)
	for _, request := range []string{"GET /v1/offers HTTP/1.1\r\nHost: x\r\n\r\n", post(BodyMax+1, "")} {
		_, err = c.Write([]byte(request))
		must(t, err)
		res, err := http.ReadResponse(in, nil)
		must(t, err)
		if a := readAnswer(t, res); a.status != 200 {
			a.is(413, "body_too_large")
		}
		<-time.After(3 * w.gateway.opts.WriteTimeout)
	}
}

// One slow client must not hold up another.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	for range 50 {
		c, err := net.Dial("tcp", w.gateway.Addr())
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = c.Write([]byte(post(1000, `{"items":`)))
		must(t, err)
	}
	w.place(42, item(id, 1)).is(202, "")
}

// Connections above the bound are told so; when one of the others ends there is room again.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.ConnectionsMax = 2; o.Tuning.WaitersMax = 1 })
	var first net.Conn
	for range 2 {
		c, err := net.Dial("tcp", w.gateway.Addr())
		must(t, err)
		defer func() { _ = c.Close() }()
		first = c
	}
	for range 3 {
		w.raw("").is(503, "overloaded")
	}
	must(t, first.Close())
	await(t, "room again", func() bool {
		res, err := w.client.Get("http://" + w.gateway.Addr() + "/v1/offers")
		return err == nil && readAnswer(t, res).status == 200
	})
}

// Connections of one address above its bound are told so; others have room, and so has the address when one has ended.
func TestTooManyConnectionsOfOneAddress(t *testing.T) {
	t.Parallel()
	for listen, another := range map[string]net.IP{"127.0.0.1:0": net.IPv4(127, 0, 0, 2), "[::1]:0": nil} {
		w := newWorld(t, func(o *Options) { o.Listen, o.ConnectionsPerIPMax = listen, 2 })
		var held []net.Conn
		for range 2 {
			c, err := net.Dial("tcp", w.gateway.Addr())
			must(t, err)
			defer func() { _ = c.Close() }()
			held = append(held, c)
		}
		a := w.raw("").is(429, "rate_limited")
		if a.text("limit") != "ip" || a.header.Get("Retry-After") != "1" || !strings.Contains(a.raw, `"retry_after_ms":1000`) {
			t.Errorf("%v %s", a.header, a.raw)
		}
		if s := w.gateway.Stats(); s.Refused["rate_limited"] != 1 || s.Limited["ip"] != 1 {
			t.Errorf("%+v", s)
		}
		askFrom := func(ip net.IP) (*http.Response, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}
			c := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
			return c.Get("http://" + w.gateway.Addr() + "/v1/offers")
		}
		if another != nil {
			res, err := askFrom(another)
			must(t, err)
			readAnswer(t, res).is(200, "")
		}
		must(t, held[0].Close())
		await(t, "room again", func() bool {
			res, err := askFrom(nil)
			return err == nil && readAnswer(t, res).status == 200
		})
	}
}

func TestPipelinedRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	c, err := net.Dial("tcp", w.gateway.Addr())
	must(t, err)
	defer func() { _ = c.Close() }()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	one := post(len(item(id, 1)), item(id, 1))
	_, err = c.Write([]byte(strings.Repeat(one, 8)))
	must(t, err)
	r := bufio.NewReader(c)
	seen := map[string]bool{}
	for range 8 {
		res, err := http.ReadResponse(r, nil)
		must(t, err)
		seen[readAnswer(t, res).is(202, "").text("id")] = true
	}
	if len(seen) != 8 {
		t.Errorf("%d different orders of 8", len(seen))
	}
}

func TestStatsAddUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	block, entered := make(chan struct{}), make(chan struct{}, 3)
	f := func(tk *engine.Ticket) {
		entered <- struct{}{}
		<-block
		w.placer.Engine.Place(context.Background(), tk)
	}
	w.placer.instead.Store(&f)
	done := make(chan answer)
	for range 3 {
		go func() { done <- w.place(42, item(id, 1)) }()
		<-entered
	}
	w.place(0, item(id, 1)).is(401, "unauthenticated")
	w.place(42, "{").is(400, "invalid_request")
	w.get(42, "/v1/orders").is(200, "")
	await(t, "three in flight", func() bool { return w.gateway.Stats().InFlight == 3 })
	close(block)
	for range 3 {
		(<-done).is(202, "")
	}
	await(t, "none in flight", func() bool { return w.gateway.Stats().InFlight == 0 })
	s := w.gateway.Stats()
	var refused, placed int64
	for _, n := range s.Refused {
		refused += n
	}
	for _, n := range s.Placing.Counts {
		placed += n
	}
	if s.In != 6 || s.Out != 4 || refused != 2 || s.Refused["unauthenticated"] != 1 || s.Refused["invalid_request"] != 1 || placed != 3 {
		t.Errorf("%+v", s)
	}
}

// Close answers what was read, ends waits, refuses new connections, and leaves nothing behind.
func TestCloseAnswersEverybody(t *testing.T) {
	before := goleak.IgnoreCurrent()
	w := newWorld(t)
	id := w.offer()
	w.stopPersist()
	block, entered := make(chan struct{}), make(chan struct{}, 10)
	f := func(tk *engine.Ticket) {
		entered <- struct{}{}
		<-block
		w.placer.Engine.Place(context.Background(), tk)
	}
	w.placer.instead.Store(&f)
	placed, waiting := make(chan answer, 10), make(chan answer, 10)
	for range 10 {
		go func() { placed <- w.place(42, item(id, 1)) }()
		<-entered
	}
	pending := idAt(time.Now(), 42, 1).String()
	for range 10 {
		go func() { waiting <- w.get(42, "/v1/orders/"+pending+"?wait=10") }()
	}
	await(t, "ten waiters", func() bool {
		w.gateway.hub.mu.Lock()
		defer w.gateway.hub.mu.Unlock()
		return w.gateway.hub.waiters == 10
	})
	began, closed := time.Now(), make(chan error)
	go func() { closed <- w.gateway.Close(context.Background()) }()
	for range 10 {
		if a := (<-waiting).is(200, ""); a.text("status") != "pending" {
			t.Errorf("got %s", a.raw)
		}
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("the waits ended after %v", d)
	}
	select {
	case err := <-closed:
		t.Fatal("closed before all were answered", err)
	default:
	}
	close(block)
	for range 10 {
		(<-placed).is(202, "")
	}
	must(t, <-closed)
	if c, err := net.Dial("tcp", w.gateway.Addr()); err == nil {
		_ = c.Close()
		t.Error("the listener is still open")
	}
	must(t, w.lifecycle.Close(context.Background()))
	must(t, w.engine.Close(context.Background()))
	must(t, w.queue.Close())
	must(t, w.store.Close())
	w.client.CloseIdleConnections()
	goleak.VerifyNone(t, before,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2")) // sleeps 10 s, then sees that it is over
}

func TestCloseGivesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	block, entered := make(chan struct{}), make(chan struct{})
	f := func(tk *engine.Ticket) {
		close(entered)
		<-block
		tk.Answer.Verdict = engine.Overloaded
	}
	w.placer.instead.Store(&f)
	done := make(chan answer)
	go func() { done <- w.place(42, item(id, 1)) }()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := w.gateway.Close(ctx); err == nil {
		t.Error("closed while a request was under way")
	}
	close(block)
	(<-done).is(503, "overloaded")
	if err := New(DefaultOptions(), Deps{Orders: w.orders}).Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestListenFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second := New(Options{Listen: w.gateway.Addr(), Tuning: DefaultOptions().Tuning}, Deps{Orders: w.orders})
	if err := second.Start(context.Background()); err == nil || !strings.Contains(err.Error(), w.gateway.Addr()) {
		t.Errorf("got %v", err)
	}
}

// Names, phones and addresses must never be in a log, not even at debug.
func TestLogsHaveNobodysName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	body := fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1}],"details":%s}`, id, fullDetails)
	w.place(42, body).is(202, "")
	w.place(42, body+"x").is(400, "invalid_request")
	w.raw("POST /v1/orders?name=李雷 HTTP/1.1\r\nHost: 李雷\r\nContent-Length: x\r\n\r\n" + body)
	f := func(*engine.Ticket) { panic("planted") }
	w.placer.instead.Store(&f)
	w.place(42, body).is(504, "outcome_unknown")
	for _, private := range []string{"李雷", "13800000000", "人民路", tokenOf(42)[:60]} {
		if strings.Contains(w.logs.String(), private) {
			t.Errorf("%q is in the log:\n%s", private, w.logs.String())
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	good := func() Options {
		o := DefaultOptions()
		o.JWTSecrets = []string{testSecret}
		return o
	}
	if o := good(); o.Validate() != nil {
		t.Fatal(o.Validate())
	}
	for name, spoil := range map[string]func(*Options){
		"listen":                 func(o *Options) { o.Listen = "8080" },
		"JWT secret is needed":   func(o *Options) { o.JWTSecrets = nil },
		"32 bytes":               func(o *Options) { o.JWTSecrets = []string{"short"} },
		"service token":          func(o *Options) { o.ServiceTokens = []string{""} },
		"max_queue_age":          func(o *Options) { o.MaxQueueAge = 0 },
		"read_timeout":           func(o *Options) { o.ReadTimeout = 0 },
		"write_timeout":          func(o *Options) { o.WriteTimeout = 0 },
		"idle_timeout":           func(o *Options) { o.IdleTimeout = 2 * time.Hour },
		"connections_max":        func(o *Options) { o.ConnectionsMax = 0 },
		"connections_per_ip_max": func(o *Options) { o.ConnectionsPerIPMax = -1 },
		"reads_max":              func(o *Options) { o.Tuning.ReadsMax = 0 },
		"waiters_max":            func(o *Options) { o.Tuning.WaitersMax = -1 },
		"wait_max":               func(o *Options) { o.Tuning.WaitMax = time.Hour },
		"cors_origins entry 0":   func(o *Options) { o.CORSOrigins = []string{"shop.example"} },
		"read_deadline":          func(o *Options) { o.Tuning.ReadDeadline = 0 },
	} {
		o := good()
		spoil(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
