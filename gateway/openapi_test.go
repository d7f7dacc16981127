package gateway

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"sluice/engine"
	"sluice/engine/order"
)

// The file has the routes of the router, and no others.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	t.Parallel()
	var have, want []string
	for path, item := range described().Paths.Map() {
		for method := range item.Operations() {
			have = append(have, method+" "+path)
		}
	}
	for _, r := range routes {
		if r.get != nil {
			want = append(want, "GET "+r.path)
		}
		if r.post != nil {
			want = append(want, "POST "+r.path)
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("routes (-), openapi.yaml (+):\n%s", diff)
	}
}

// The file has the problem codes of the server with their statuses, and no others.
func TestOpenAPIHasEveryCode(t *testing.T) {
	t.Parallel()
	have, want := map[string]int{}, map[string]int{}
	for c := codeInvalidRequest; c < codesEnd; c++ {
		want[problems[c].name] = problems[c].status
	}
	for name, r := range described().Components.Responses {
		for _, code := range codesOf(t, r.Value) {
			status := r.Value.Content["application/problem+json"].Schema.Value.AllOf[1].Value.Properties["status"].Value.Enum
			if len(status) != 1 || have[code] != 0 && float64(have[code]) != status[0] {
				t.Fatalf("%s: status %v of code %s, elsewhere %d", name, status, code, have[code])
			}
			have[code] = int(status[0].(float64))
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("problem.go (-), openapi.yaml (+):\n%s", diff)
	}
	for path, item := range described().Paths.Map() {
		for method, op := range item.Operations() {
			for status, r := range op.Responses.Map() {
				for _, code := range codesOf(t, r.Value) {
					if fmt.Sprint(want[code]) != status {
						t.Errorf("%s %s: code %s under status %s", method, path, code, status)
					}
				}
			}
		}
	}
}

// The bounds of the file are those of the code.
func TestOpenAPIHasTheBounds(t *testing.T) {
	t.Parallel()
	doc := described()
	schema := schemaOf(t)
	want := func(what string, got *uint64, want int) {
		t.Helper()
		if got == nil || *got != uint64(want) {
			t.Errorf("%s: the code has %d", what, want)
		}
	}
	want("lines", schema("Lines").MaxItems, order.LinesMax)
	want("items of an order", schema("Order", "items").MaxItems, order.LinesMax)
	want("key", schema("Key").MaxLength, order.KeyMax)
	want("key of a line", schema("BatchLine", "idempotency_key").MaxLength, order.KeyMax)
	want("group", schema("Offer", "group").MaxLength, order.GroupMax)
	want("sku", schema("Offer", "sku").MaxLength, order.SKUMax)
	want("title", schema("Offer", "title").MaxLength, order.TitleMax)
	want("page", schema("OrderPage", "data").MaxItems, pageMax)
	want("errors", schema("Problem", "errors").MaxItems, faultsMax)
	batch := doc.Paths.Value(batchPath).Post
	want("batch", batch.RequestBody.Value.Content[typeNDJSON].Schema.Value.MaxItems, BatchLinesMax)
	want("answers of a batch", batch.Responses.Status(200).Value.Content[typeNDJSON].Schema.Value.MaxItems, BatchLinesMax)
	for d := range detailAddress {
		path := strings.Split(strings.TrimPrefix(detailTable[d].parent+"/"+detailTable[d].name, "/details/"), "/")
		want(fmt.Sprint(path), schema("RequestDetails", path...).MaxLength, detailTable[d].most)
		want(fmt.Sprint(path), schema("Details", path...).MaxLength, detailTable[d].most)
	}
	for what, n := range map[*openapi3.Schema]float64{schema("Line", "quantity"): order.QuantityMax, schema("Item", "quantity"): order.QuantityMax,
		schema("Offer", "per_user_limit"): order.PerUserLimitMax, doc.Components.Parameters["PageLimit"].Value.Schema.Value: pageMax} {
		if what.Max == nil || *what.Max != n {
			t.Errorf("%v: the code has %v", what.Description, n)
		}
	}
	if got := doc.Components.Parameters["PageLimit"].Value.Schema.Value.Default; got != float64(pageDefault) {
		t.Errorf("a page is %v, in the code %d", got, pageDefault)
	}
}

// schemaOf finds a schema of the file, or the schema of a field in it.
func schemaOf(t *testing.T) func(name string, fields ...string) *openapi3.Schema {
	return func(name string, fields ...string) *openapi3.Schema {
		s := described().Components.Schemas[name]
		for _, field := range fields {
			if s = s.Value.Properties[field]; s == nil {
				t.Fatalf("%s has no %v", name, fields)
			}
		}
		return s.Value
	}
}

// The words of the file are those of the code.
func TestOpenAPIHasTheWords(t *testing.T) {
	t.Parallel()
	doc, schema := described(), schemaOf(t)
	enum := func(s *openapi3.Schema, want ...string) {
		t.Helper()
		var got []string
		for _, v := range s.Enum {
			got = append(got, v.(string))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the code (-), openapi.yaml (+):\n%s", diff)
		}
	}
	statuses := []string{string(order.Pending)}
	for _, s := range order.Statuses() {
		statuses = append(statuses, string(s))
	}
	enum(schema("Order", "status"), statuses...)
	enum(doc.Paths.Value(ordersPath).Get.Parameters.GetByInAndName("query", "status").Schema.Value, statuses[1:]...)
	enum(schema("Order", "reason"), string(order.ReasonCut), string(order.ReasonSoldOut), string(order.ReasonOverLimit),
		string(order.ReasonDuplicate), string(order.ReasonKeyReused), string(order.ReasonRefused))
	enum(schema("Kind"), order.Normal.String(), order.Flash.String())
	enum(schema("Problem", "limit"), limitNames[1:]...)
	enum(schema("Offer", "state"), string(order.OfferUpcoming), string(order.OfferOpen), string(order.OfferSoldOut), string(order.OfferClosed))
	// An offer alone is an offer of a list and the time.
	now := maps.Clone(schema("OfferNow").Properties)
	delete(now, "server_time")
	if !slices.Equal(slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(schema("Offer").Properties))) {
		t.Error("Offer and OfferNow differ in more than server_time")
	}
}

// Every answer that the file promises is one that the server really gives, and w.do holds each of them to the file. The
// one exception is 500, which nothing that a client sends brings about.
func TestOpenAPIPromisesWhatIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Tuning.BatchesMax = 1 })
	w.promisedPlacing()
	w.promisedReading()
	w.promisedCancelling()
	w.promisedBatch()
	for path := range w.contract.doc.Paths.Map() {
		if !strings.HasPrefix(path, offersPath) && path != filePath {
			w.promisedToNobody(path)
		}
	}
	w.promisedWhenLimited()
	bad := newWorld(t, func(o *Options) { o.ReadTimeout, o.ConnectionsMax = 100*time.Millisecond, 1 })
	bad.contract = w.contract
	for path, item := range w.contract.doc.Paths.Map() {
		for method := range item.Operations() {
			bad.promisedOfEveryRoute(method, strings.ReplaceAll(path, "{id}", "1"))
		}
	}
	var missing []string
	for path, item := range w.contract.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status, r := range op.Responses.Map() {
				for _, code := range append(codesOf(t, r.Value), "")[:max(1, len(codesOf(t, r.Value)))] {
					if what := strings.TrimSpace(method + " " + path + " " + status + " " + code); !w.contract.seen[what] && status != "500" {
						missing = append(missing, what)
					}
				}
			}
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("openapi.yaml promises what was never answered:\n%s", strings.Join(missing, "\n"))
	}
}

func (w *world) promisedPlacing() {
	w.t.Helper()
	now := order.MilliOf(time.Now())
	open := w.offer()
	flash := w.offer(func(o *order.Offer) { o.Kind = order.Flash })
	body := fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1}],"details":%s}`, open, fullDetails)
	w.do(request{method: "POST", path: "/v1/orders?wait=10", user: 42, body: body, header: map[string]string{"Idempotency-Key": "k"}}).is(201, "")
	w.placeKey(42, "k", body).is(200, "")
	w.placeKey(42, "k", item(open, 1)).is(422, "idempotency_key_reused")
	w.place(42, item(open, 1)).is(202, "")
	w.place(42, "{").is(400, "invalid_request")
	w.place(42, item(999_999, 1)).is(404, "offer_not_found")
	w.place(42, item(w.offer(func(o *order.Offer) { o.Limit = 1 }), 2)).is(409, "over_limit")
	w.place(42, item(w.offer(func(o *order.Offer) { o.Opens = now + 3_600_000 }), 1)).is(409, "not_open")
	w.place(42, item(w.offer(func(o *order.Offer) { o.Opens, o.Closes = 1, now-1000 }), 1)).is(409, "closed")
	w.place(42, item(w.offer(func(o *order.Offer) { o.Total = 0 }), 1)).is(409, "sold_out")
	two := `{"items":[{"offer_id":"%d","quantity":1},{"offer_id":"%d","quantity":1}]}`
	w.place(42, fmt.Sprintf(two, open, flash)).is(422, "mixed_groups")
	w.place(42, fmt.Sprintf(two, open, open)).is(422, "duplicate_item")
	w.place(42, item(open, 0)).is(422, "quantity_invalid")
	w.do(request{method: "POST", path: "/v1/orders", user: 42, body: "x", header: map[string]string{"Content-Type": "text/plain"}}).
		is(415, "unsupported_media_type")
	for verdict, code := range map[engine.Verdict]string{engine.Overloaded: "503 overloaded", engine.NotReady: "503 not_ready", engine.Unknown: "504 outcome_unknown"} {
		f := func(t *engine.Ticket) { t.Answer.Verdict = verdict }
		w.placer.instead.Store(&f)
		if a := w.place(42, item(open, 1)); fmt.Sprint(a.status, " ", a.text("code")) != code {
			w.t.Errorf("got %s, want %s", a.raw, code)
		}
	}
	w.placer.instead.Store(nil)
}

func (w *world) promisedReading() {
	w.t.Helper()
	offer := w.offer()
	id := w.stored(42, item(offer, 1))
	w.get(42, "/v1/orders").is(200, "")
	w.get(42, "/v1/orders?limit=0").is(400, "invalid_request")
	w.get(42, "/v1/orders/"+id).is(200, "")
	w.get(42, "/v1/orders/"+id+"?wait=x").is(400, "invalid_request")
	w.get(42, "/v1/orders/1").is(404, "order_not_found")
	w.orders.fail.Store(true)
	w.get(42, "/v1/orders").is(503, "not_ready")
	w.get(42, "/v1/orders/"+id).is(503, "not_ready")
	w.orders.fail.Store(false)
	for _, path := range []string{"/v1/offers", fmt.Sprint("/v1/offers/", offer), "/openapi.yaml"} {
		a := w.get(0, path).is(200, "")
		w.do(request{method: "GET", path: path, header: map[string]string{"If-None-Match": a.header.Get("ETag")}}).is(304, "")
	}
	w.get(0, "/v1/offers?kind=x").is(400, "invalid_request")
	w.get(0, "/v1/offers/999999").is(404, "offer_not_found")
	w.get(0, "/v1/offers/1%2F2").is(404, "not_found")
	w.get(42, "/v1/orders/1%2F2").is(404, "not_found")
}

func (w *world) promisedCancelling() {
	w.t.Helper()
	offer := w.offer()
	cancel := func(id string) answer {
		w.t.Helper()
		return w.do(request{method: "POST", path: "/v1/orders/" + id + "/cancel", user: 42})
	}
	id := w.stored(42, item(offer, 1))
	cancel(id).is(200, "")
	cancel("1").is(404, "order_not_found")
	cancel("1%2F2").is(404, "not_found")
	w.canceller.fail.Store(true)
	cancel(id).is(504, "outcome_unknown")
	w.canceller.fail.Store(false)
	w.stopPersist()
	pending := w.place(42, item(offer, 1)).is(202, "").text("id")
	cancel(pending).is(409, "still_pending")
	w.orders.fail.Store(true)
	cancel(pending).is(503, "not_ready")
	w.orders.fail.Store(false)
	w.unpaid = time.Second
	w.startPersist()
	await(w.t, "the time to pay to end", func() bool { return w.get(42, "/v1/orders/"+pending).text("status") == "expired" })
	cancel(pending).is(409, "not_cancellable")
}

func (w *world) promisedBatch() {
	w.t.Helper()
	offer := w.offer()
	w.sendBatch(line(1, "a", offer)+"\n"+line(1, "a", offer)+"\n{}", nil).is(200, "")
	w.sendBatch("{}", map[string]string{"Idempotency-Key": "k"}).is(400, "invalid_request")
	w.sendBatch("{}", map[string]string{"Authorization": "Bearer " + tokenOf(42)}).is(403, "forbidden")
	w.sendBatch("{}", map[string]string{"Content-Type": "text/plain"}).is(415, "unsupported_media_type")
	w.gateway.batches.take(1)
	w.sendBatch("{}", nil).is(503, "overloaded")
	w.gateway.batches.give()
	f := func(*engine.Ticket) { panic("planted") }
	w.placer.instead.Store(&f)
	w.sendBatch(line(1, "b", offer), nil).is(504, "outcome_unknown")
	w.placer.instead.Store(nil)
}

// promisedToNobody asks without a token, and with one that may not.
func (w *world) promisedToNobody(path string) {
	w.t.Helper()
	for method := range w.contract.doc.Paths.Value(path).Operations() {
		r := request{method: method, path: strings.ReplaceAll(path, "{id}", "1")}
		w.do(r).is(401, "unauthenticated")
		r.header = map[string]string{"Authorization": "Bearer " + tokenOf(42), "Sluice-User": "43"}
		w.do(r).is(403, "forbidden")
	}
}

// promisedWhenLimited asks everything when nothing more is let through.
func (w *world) promisedWhenLimited() {
	w.t.Helper()
	w.limit(Limits{Global: once(1)})
	w.get(0, "/v1/offers").is(200, "")
	for path, item := range w.contract.doc.Paths.Map() {
		for method := range item.Operations() {
			w.do(request{method: method, path: strings.ReplaceAll(path, "{id}", "1")}).isLimited("global")
		}
	}
}

// promisedOfEveryRoute sends what does not get as far as the route.
func (w *world) promisedOfEveryRoute(method, path string) {
	w.t.Helper()
	r, err := http.NewRequest(method, path, nil)
	must(w.t, err)
	send := func(rest string, status int) {
		w.t.Helper()
		await(w.t, "the only connection", func() bool {
			a := w.raw(method + " " + path + " HTTP/1.1\r\nHost: x\r\n" + rest)
			w.contract.check(w.t, r, "x", a)
			return a.status == status
		})
	}
	send("Content-Length: -5\r\n\r\n", 400)
	send("", 408)
	send("Content-Length: 1073741824\r\n\r\nx", 413)
	send("X: "+strings.Repeat("x", 2*HeaderMax)+"\r\n\r\n", 431)
	await(w.t, "too many connections", func() bool {
		c, err := net.Dial("tcp", w.gateway.Addr())
		must(w.t, err)
		defer func() { _ = c.Close() }()
		second, err := net.Dial("tcp", w.gateway.Addr())
		must(w.t, err)
		defer func() { _ = second.Close() }()
		res, err := http.ReadResponse(bufio.NewReader(second), nil)
		if err != nil || res.StatusCode != 503 {
			return false
		}
		w.contract.check(w.t, r, "x", readAnswer(w.t, res))
		return true
	})
}

// The file is served as it is, to everybody.
func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.get(0, "/openapi.yaml").is(200, "")
	if a.raw != string(openAPI) || a.header.Get("Content-Type") != "application/yaml" || a.header.Get("Cache-Control") != "max-age=60" {
		t.Errorf("%v, %d bytes", a.header, len(a.raw))
	}
	if head := w.do(request{method: "HEAD", path: "/openapi.yaml"}).is(200, ""); head.raw != "" || head.header.Get("ETag") != a.header.Get("ETag") {
		t.Errorf("%v", head.header)
	}
	if none := w.get(0, "/v1").is(404, "not_found"); !strings.Contains(none.text("detail"), "/openapi.yaml") {
		t.Errorf("the hint is %q", none.text("detail"))
	}
	w.do(request{method: "POST", path: "/openapi.yaml"}).is(405, "method_not_allowed")
}
