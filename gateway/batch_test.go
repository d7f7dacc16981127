package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sluice/engine"
	"sluice/engine/order"
)

// batchAnswer is one line of an answer.
type batchAnswer struct {
	Line     int
	Status   int
	Replayed bool
	Order    struct{ ID, Status string }
	Problem  struct {
		Code, Detail string
		Errors       []struct{ Pointer, Detail string }
	}
}

// is tells the line's answer in short, such as `3 409 sold_out`.
func (a *batchAnswer) short() string {
	s := fmt.Sprintf("%d %d %s%s", a.Line, a.Status, a.Order.Status, a.Problem.Code)
	if len(a.Problem.Errors) > 0 && a.Problem.Errors[0].Pointer != "" {
		s += " " + a.Problem.Errors[0].Pointer
	}
	if a.Replayed {
		s += " again"
	}
	return s
}

func (w *world) sendBatch(body string, header map[string]string) answer {
	w.t.Helper()
	all := map[string]string{"Authorization": "Bearer " + testService, "Content-Type": "application/x-ndjson"}
	for name, value := range header {
		all[name] = value
	}
	return w.do(request{method: "POST", path: "/v1/orders/batch", body: body, header: all})
}

// batch sends lines, which must be answered with 200, and returns the answers.
func (w *world) batch(lines ...string) []batchAnswer {
	w.t.Helper()
	return w.batchLines(w.sendBatch(strings.Join(lines, "\n"), nil))
}

func (w *world) batchLines(a answer) (list []batchAnswer) {
	w.t.Helper()
	if a.status != 200 || a.header.Get("Content-Type") != "application/x-ndjson" || a.header.Get("Cache-Control") != "no-store" {
		w.t.Fatalf("%d %v %s", a.status, a.header, a.raw)
	}
	for line := range strings.Lines(a.raw) {
		var x batchAnswer
		must(w.t, json.Unmarshal([]byte(line), &x))
		list = append(list, x)
	}
	return list
}

func wantLines(t *testing.T, got []batchAnswer, want ...string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i].short() != want[i] {
			t.Fatalf("answer %d of %d: got %+v, want %q", i, len(want), got, want)
		}
	}
}

// line is an order of one unit as a line of a batch.
func line(user int, key string, offer order.OfferID) string {
	return fmt.Sprintf(`{"user_id":"%d","idempotency_key":%q,"items":[{"offer_id":"%d","quantity":1}]}`, user, key, offer)
}

func TestBatchAnswersEveryLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	limited := w.offer(func(o *order.Offer) { o.Limit = 1 })
	few := w.offer(func(o *order.Offer) { o.Total = 1 })
	w.stopPersist()
	got := w.batch(
		line(1, "a", id),
		"",
		"{not json",
		`{"items":[{"offer_id":"1","quantity":1}]}`,
		`{"user_id":"7","items":[{"offer_id":"1","quantity":0}],"details":`+fullDetails+`}`,
		`{"user_id":"0","items":[{"offer_id":"1","quantity":1}]}`,
		`{"user_id":"7","idempotency_key":"a b","items":[{"offer_id":"1","quantity":1}]}`,
		`{"user_id":"7","color":"red","items":[{"offer_id":"1","quantity":1}]}`,
		line(8, "a", 123456),
		line(9, "a", limited), line(9, "b", limited),
		line(10, "a", few), line(11, "a", few),
		fmt.Sprintf(`{"user_id":"12","items":[{"offer_id":"%d","quantity":1}],"details":%s}`, id, fullDetails),
		line(13, strings.Repeat("k", BodyMax), id),
		"   \t\r",
		line(1, "a", id),
		line(1, "a", few),
	)
	wantLines(t, got, "1 202 pending", "3 400 invalid_request", "4 400 invalid_request /user_id",
		"5 422 quantity_invalid /items/0/quantity", "6 400 invalid_request /user_id", "7 400 invalid_request /idempotency_key",
		"8 400 invalid_request /color", "9 404 offer_not_found /items/0/offer_id", "10 202 pending", "11 409 over_limit /items/0/quantity",
		"12 202 pending", "13 409 sold_out /items/0", "14 202 pending", "15 413 body_too_large",
		"17 202 pending again", "18 422 idempotency_key_reused")
	if got[0].Order.ID != got[14].Order.ID {
		t.Errorf("the same key got orders %s and %s", got[0].Order.ID, got[14].Order.ID)
	}
	w.startPersist()
	stored := w.get(12, "/v1/orders/"+got[12].Order.ID+"?wait=10").is(200, "")
	if stored.text("status") != "awaiting_payment" || stored.text("user_id") != "12" || !strings.Contains(stored.raw, fullDetails) {
		t.Errorf("stored as %s", stored.raw)
	}
	s := w.gateway.Stats()
	if s.Refused["over_limit"] != 1 || s.Refused["invalid_request"] != 5 || s.InFlight != 0 {
		t.Errorf("counted %+v", s)
	}
}

// A repeated line gets its order as it is now; if that cannot be read, nobody says what it is.
func TestBatchRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.offer()
	first := w.batch(line(1, "a", id), line(2, "a", id))
	for _, user := range []order.UserID{1, 2} {
		w.get(user, "/v1/orders/"+first[user-1].Order.ID+"?wait=10").is(200, "")
	}
	w.do(request{method: "POST", path: "/v1/orders/" + first[1].Order.ID + "/cancel", user: 2}).is(200, "")
	wantLines(t, w.batch(line(2, "a", id), line(1, "a", id), line(3, "a", id)),
		"1 200 cancelled again", "2 200 awaiting_payment again", "3 202 pending")
	w.orders.fail.Store(true)
	wantLines(t, w.batch(line(1, "a", id), line(4, "a", id)), "1 504 outcome_unknown", "2 202 pending")
}

// What is wrong with the request as a whole is told once, and nothing is ordered.
func TestBatchRefusedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := line(1, "a", w.offer())
	many := strings.Repeat(one+"\n", BatchLinesMax)
	for name, c := range map[string]struct {
		body   string
		header map[string]string
		status int
		code   string
	}{
		"no token":         {one, map[string]string{"Authorization": ""}, 401, "unauthenticated"},
		"a wrong token":    {one, map[string]string{"Authorization": "Bearer x"}, 401, "unauthenticated"},
		"a buyer's token":  {one, map[string]string{"Authorization": "Bearer " + tokenOf(1)}, 403, "forbidden"},
		"another type":     {one, map[string]string{"Content-Type": "application/json"}, 415, "unsupported_media_type"},
		"one key for all":  {one, map[string]string{"Idempotency-Key": "k"}, 400, "invalid_request"},
		"one user for all": {one, map[string]string{"Sluice-User": "1"}, 400, "invalid_request"},
		"too many lines":   {many + one, nil, 413, "body_too_large"},
		"too many bytes":   {many + strings.Repeat(" ", BatchBodyMax-len(many)+1), nil, 413, "body_too_large"},
		"many bytes of nobody": {strings.Repeat(" ", BodyMax+1), map[string]string{"Authorization": "Bearer " + tokenOf(1)},
			413, "body_too_large"},
	} {
		t.Run(name, func(t *testing.T) { w.sendBatch(c.body, c.header).is(c.status, c.code) })
	}
	w.do(request{method: "GET", path: "/v1/orders/batch", user: 1}).is(405, "method_not_allowed")
	w.do(request{method: "POST", path: "/v1/orders/batch?wait=1", body: one,
		header: map[string]string{"Authorization": "Bearer " + testService, "Content-Type": "application/x-ndjson"}}).is(400, "invalid_request")
	if in := w.engine.Stats().In; in != 0 {
		t.Errorf("%d orders reached the engine", in)
	}
	if got := w.batchLines(w.sendBatch(many+strings.Repeat(" ", BatchBodyMax-len(many)), nil)); len(got) != BatchLinesMax {
		t.Errorf("a batch at both bounds got %d answers", len(got))
	}
	if got := w.batchLines(w.sendBatch("\n", nil)); len(got) != 0 {
		t.Errorf("an empty batch got %v", got)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Tuning.BatchesMax = 1 })
	id := w.offer()
	entered, leave := make(chan struct{}), make(chan struct{})
	f := func(tk *engine.Ticket) {
		close(entered)
		<-leave
		tk.Answer.Verdict = engine.NotReady
	}
	w.placer.instead.Store(&f)
	done := make(chan []batchAnswer)
	go func() { done <- w.batch(line(1, "a", id)) }()
	<-entered
	w.sendBatch(line(2, "a", id), nil).is(503, "overloaded")
	close(leave)
	wantLines(t, <-done, "1 503 not_ready")
}
