package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/engine/order"
	"sluice/gateway/limit"
)

// once lets n through, and then nothing for 1000 s.
func once(n int) limit.Limit { return limit.Limit{Rate: limit.RateMin, Burst: n} }

func (w *world) limit(l Limits) {
	w.t.Helper()
	tuning := *w.gateway.tuned.Load()
	tuning.Limits = l
	must(w.t, w.gateway.Tune(tuning))
}

// isLimited fails the test unless the answer is a refusal by that limit, with the time after which to come again.
func (a answer) isLimited(by string) answer {
	a.t.Helper()
	a.is(429, "rate_limited")
	ms, _ := a.body["retry_after_ms"].(float64)
	if a.text("limit") != by || ms < 900_000 || ms > 1_000_000 || a.header.Get("Retry-After") != fmt.Sprint((int(ms)+999)/1000) {
		a.t.Fatalf("want a refusal by the limit %s: %v %s", by, a.header, a.raw)
	}
	return a
}

func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	offer := w.offer()
	w.get(1, "/v1/orders").is(200, "") // nothing is limited by default

	w.limit(Limits{Global: once(2)})
	w.get(1, "/v1/offers").is(200, "")
	w.get(0, "/v1/nothing").is(404, "not_found")
	w.get(1, "/v1/offers").isLimited("global")
	w.do(request{method: "GET", path: "/v1/offers", header: map[string]string{"Authorization": "Bearer " + testService}}).isLimited("global")

	w.limit(Limits{IP: once(2)})
	w.get(1, "/v1/orders").is(200, "")
	w.get(0, "/v1/orders").is(401, "unauthenticated")
	w.get(2, "/v1/orders").isLimited("ip")
	w.do(request{method: "GET", path: "/v1/orders", header: map[string]string{"Authorization": "Bearer " + testService + "x"}}).isLimited("ip")
	service := map[string]string{"Authorization": "Bearer " + testService, "Sluice-User": "1"}
	w.do(request{method: "GET", path: "/v1/orders", header: service}).is(200, "")

	w.limit(Limits{User: once(2)})
	w.get(1, "/v1/orders").is(200, "")
	w.do(request{method: "GET", path: "/v1/orders", header: service}).is(200, "") // for user 1 too
	w.place(1, item(offer, 1)).isLimited("user")
	w.do(request{method: "GET", path: "/v1/orders", header: service}).isLimited("user")
	w.get(1, "/v1/offers").is(200, "") // needs no user
	w.get(2, "/v1/orders").is(200, "")

	w.limit(Limits{Offer: once(2)})
	w.place(1, item(offer, 0)).is(422, "quantity_invalid") // does not count: it does not come to the engine
	for user := order.UserID(11); user < 13; user++ {
		w.place(user, item(offer, 1)).is(202, "")
	}
	w.place(13, item(offer, 1)).isLimited("offer")
	w.place(13, item(w.offer(), 1)).is(202, "")
	w.place(13, item(9999, 1)).is(404, "offer_not_found")
	if left := w.engine.Offer(offer).Left(); left != 98 {
		t.Errorf("a refused order took units: %d are left", left)
	}
	s := w.gateway.Stats()
	if s.Limited["global"] != 2 || s.Limited["ip"] != 2 || s.Limited["user"] != 2 || s.Limited["offer"] != 1 || s.Refused["rate_limited"] != 7 {
		t.Errorf("%v, refused %v", s.Limited, s.Refused)
	}

	w.limit(Limits{})
	w.place(13, item(offer, 1)).is(202, "")
	if n := w.gateway.limiters.ip.Bytes() + w.gateway.limiters.user.Bytes() + w.gateway.limiters.offer.Bytes(); n != 0 {
		t.Errorf("limits that are off hold %d bytes", n)
	}
}

// Who is refused takes nothing from the limits that let him through.
func TestRefusalsTakeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	inGroup := func(o *order.Offer) { o.Group = "shelf" }
	scarce, plenty := w.offer(inGroup), w.offer(inGroup)
	both := fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1},{"offer_id":"%d","quantity":1}]}`, plenty, scarce)
	w.limit(Limits{Global: once(6), IP: once(5), User: once(2), Offer: once(1)})
	w.place(1, item(scarce, 1)).is(202, "")
	for range 10 {
		w.place(1, both).isLimited("offer")
	}
	w.place(1, item(plenty, 1)).is(202, "")
	for range 10 {
		w.get(1, "/v1/orders").isLimited("user")
	}
	for user := order.UserID(2); user < 5; user++ {
		w.get(user, "/v1/orders").is(200, "")
	}
	for range 10 {
		w.get(5, "/v1/orders").isLimited("ip")
	}
	service := request{method: "GET", path: "/v1/orders", header: map[string]string{"Authorization": "Bearer " + testService, "Sluice-User": "6"}}
	w.do(service).is(200, "")
	w.do(service).isLimited("global")
}

func TestLimitsOfBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.offer(), w.offer()
	line := func(user order.UserID, offer order.OfferID) string {
		return fmt.Sprintf(`{"user_id":"%d","items":[{"offer_id":"%d","quantity":1}]}`, user, offer)
	}
	var got []string
	send := func(l Limits, lines ...string) string {
		w.limit(l)
		got = nil
		for _, a := range w.batch(lines...) {
			got = append(got, a.short())
		}
		return strings.Join(got, ", ")
	}
	if s := send(Limits{User: once(1), IP: once(1)}, line(1, first), line(1, first), line(2, first)); s !=
		"1 202 pending, 2 429 rate_limited, 3 202 pending" {
		t.Error(s)
	}
	if s := send(Limits{Offer: once(2), IP: once(1)}, line(1, first), line(2, first), line(3, first), line(4, second)); s !=
		"1 202 pending, 2 202 pending, 3 429 rate_limited, 4 202 pending" {
		t.Error(s)
	}
	if s := send(Limits{Global: once(3)}, line(1, first), line(2, first), line(3, first)); s != // the batch is one itself
		"1 202 pending, 2 202 pending, 3 429 rate_limited" {
		t.Error(s)
	}
	w.sendBatch(line(1, first), nil).isLimited("global")
	w.limit(Limits{User: limit.Limit{Rate: 2, Burst: 1}})
	a := w.sendBatch(line(77, first)+"\n"+line(77, first), nil)
	if !strings.Contains(a.raw, `"limit":"user","retry_after_ms":500`) {
		t.Error(a.raw)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]string{1: "1", time.Second: "1", time.Second + 1: "2", 90*time.Second - 1: "90"} {
		if got := string(appendRetryAfter(nil, wait)); got != want {
			t.Errorf("%v: %s, want %s", wait, got, want)
		}
	}
	b := string(appendProblem(nil, limited{limitIP, time.Millisecond + 1}.problem(), nil))
	if !strings.Contains(b, `,"limit":"ip","retry_after_ms":2}`) {
		t.Error(b)
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	l := newLimiters([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")})
	for _, c := range []struct {
		peer      string
		forwarded []string
		want      string
	}{
		{"203.0.113.9", nil, "203.0.113.9"},
		{"203.0.113.9", []string{"198.51.100.1"}, "203.0.113.9"}, // not a proxy of ours: its word is nothing
		{"::ffff:203.0.113.9", nil, "203.0.113.9"},
		{"10.0.0.1", nil, "10.0.0.1"},
		{"10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"::ffff:10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"fd00::1", []string{"2001:db8::7"}, "2001:db8::7"},
		{"10.0.0.1", []string{"1.1.1.1, 198.51.100.1, 10.2.3.4"}, "198.51.100.1"}, // what the client claims is not looked at
		{"10.0.0.1", []string{"1.1.1.1", "198.51.100.1 ,10.2.3.4", "10.9.9.9"}, "198.51.100.1"},
		{"10.0.0.1", []string{"rubbish, 198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1", []string{"198.51.100.1, rubbish"}, "10.0.0.1"},
		{"10.0.0.1", []string{"198.51.100.1,"}, "10.0.0.1"},
		{"10.0.0.1", []string{""}, "10.0.0.1"},
		{"10.0.0.1", []string{"10.3.3.3, 10.4.4.4"}, "10.0.0.1"},
		{"10.0.0.1", []string{"unknown"}, "10.0.0.1"},
		{"10.0.0.1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"10.0.0.1", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"10.0.0.1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1", []string{"fe80::1%eth0"}, "fe80::1"},
	} {
		var req fasthttp.Request
		for _, f := range c.forwarded {
			req.Header.Add("X-Forwarded-For", f)
		}
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(c.peer), Port: 4711}, nil)
		if got := l.client(&ctx); got.String() != c.want {
			t.Errorf("%s with %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	key := func(s string) uint64 { return addressKey(netip.MustParseAddr(s)) }
	if key("2001:db8:1:2::1") != key("2001:db8:1:2:ffff::9") || key("2001:db8:1:2::1") == key("2001:db8:1:3::1") {
		t.Error("IPv6 counts by /64")
	}
	if key("198.51.100.1") == key("198.51.100.2") {
		t.Error("IPv4 counts by address")
	}
}

func TestForwardedAddressIsLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	w.limit(Limits{IP: once(1)})
	from := func(addr string) answer {
		return w.do(request{method: "GET", path: "/v1/offers", header: map[string]string{"X-Forwarded-For": addr}})
	}
	from("198.51.100.1").is(200, "")
	from("1.1.1.1, 198.51.100.1").isLimited("ip")
	from("2001:db8::1").is(200, "")
	from("2001:db8::2").isLimited("ip")
	from("198.51.100.2").is(200, "")
}

// BenchmarkAdmit is what the limits cost a request: off, and all on.
func BenchmarkAdmit(b *testing.B) {
	w := newWorld(b)
	offer := w.offer()
	lines := []order.Line{{Offer: offer, Quantity: 1}}
	var ctx fasthttp.RequestCtx
	ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711}, nil)
	generous := limit.Limit{Rate: limit.RateMax, Burst: limit.BurstMax}
	for name, l := range map[string]Limits{"off": {}, "on": {generous, generous, generous, generous}} {
		b.Run(name, func(b *testing.B) {
			tuning := *w.gateway.tuned.Load()
			tuning.Limits = l
			must(b, w.gateway.Tune(tuning))
			c := &call{g: w.gateway, ctx: &ctx, now: time.Now()}
			b.ReportAllocs()
			for b.Loop() {
				c.now = c.now.Add(time.Microsecond)
				if !c.admit() || !c.pass(c.admission.takeUser(42)) || !c.pass(c.admission.takeOffers(lines, w.engine)) {
					b.Fatal("refused")
				}
			}
		})
	}
}
