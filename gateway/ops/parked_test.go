package ops_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/sqlitequeue"
	"sluice/gateway/ops"
	"sluice/persist/store"
)

// parking is parked orders in memory; verdict is what becomes of every replay and reject.
type parking struct {
	orders  []store.ParkedOrder
	verdict store.Resolution
	asked   store.ParkedFilter
	called  string
}

func (p *parking) ListParked(_ context.Context, f store.ParkedFilter) ([]store.ParkedOrder, error) {
	p.asked = f
	var list []store.ParkedOrder
	for _, o := range p.orders {
		if o.Order > f.After.Order && len(list) < f.Limit {
			list = append(list, o)
		}
	}
	return list, nil
}

func (p *parking) FindParked(_ context.Context, ref store.ParkedRef) (*store.ParkedOrder, error) {
	for i := range p.orders {
		if p.orders[i].Ref() == ref {
			return &p.orders[i], nil
		}
	}
	return nil, nil
}

func (p *parking) ReplayParked(_ context.Context, ref store.ParkedRef) (store.Resolution, error) {
	p.called = fmt.Sprint("replay ", ref)
	return p.verdict, nil
}

func (p *parking) RejectParked(_ context.Context, ref store.ParkedRef) (store.Resolution, error) {
	p.called = fmt.Sprint("reject ", ref)
	return p.verdict, nil
}

// personal is what must not be shown.
var personal = []string{"Zhang San", "13800000000", "Nanjing Road 1", "200001", "ACME", "TAX1", "leave it at the door"}

const details = `{"address":{"name":"Zhang San","phone":"13800000000","region":"Shanghai","line":"Nanjing Road 1","postcode":"200001"},` +
	`"delivery_method":"express","invoice":{"title":"ACME","tax_id":"TAX1"},"note":"leave it at the door"}`

func newParking() *parking {
	p := &parking{}
	for id := order.ID(1); id <= 3; id++ {
		p.orders = append(p.orders, store.ParkedOrder{Order: id, Batch: 9, Shard: 1, Partition: 2, Epoch: 5, Status: order.AwaitingPayment,
			Error: "it does not fit", Bytes: order.AppendRecord(nil, &order.Record{ID: id, User: 7, Currency: "CNY", Details: []byte(details),
				Items: []order.Item{{Line: order.Line{Offer: 4, Quantity: 2}, UnitPrice: 100, SKU: "sku"}}})})
	}
	p.orders[2].Bytes = []byte("no record")
	return p
}

func (l *listener) noneOf(secrets []string, body string) {
	l.t.Helper()
	for _, s := range secrets {
		if strings.Contains(body, s) || strings.Contains(l.log.String(), s) {
			l.t.Errorf("%q is shown: %s", s, body)
		}
	}
}

func (l *listener) expect(method, path string, status int, want ...string) string {
	l.t.Helper()
	got, body := l.ask(method, path, "")
	for _, w := range want {
		if got != status || !strings.Contains(body, w) {
			l.t.Errorf("%s %s: %d %swant %d %s", method, path, got, body, status, w)
		}
	}
	return body
}

func TestParkedIsListed(t *testing.T) {
	t.Parallel()
	p := newParking()
	l := start(t, func(program *ops.Program) { program.Parked = p })
	body := l.expect("GET", "/ops/parked?limit=2", 200, `"next_cursor":"9-2"`, `"status":"pending"`, `"poison":true`, `"user_id":"7"`)
	l.noneOf(append(personal, "Shanghai", "sku"), body)
	body = l.expect("GET", "/ops/parked?limit=2&cursor=9-2&shard=1&poison=1", 200, `"next_cursor":""`, `it does not fit; parked order 3: `)
	if strings.Contains(body, `"order_id":"2"`) || p.asked.Shard != 1 || !p.asked.Poison {
		t.Errorf("asked for %+v: %s", p.asked, body)
	}
	for _, query := range []string{"limit=0", "limit=1001", "shard=-1", "shard=x", "poison=maybe", "cursor=9", "cursor=x-1"} {
		l.expect("GET", "/ops/parked?"+query, 400, "invalid_request")
	}
	body = l.expect("GET", "/ops/parked/9/1", 200, `"region":"Shanghai"`, `"delivery_method":"express"`, `"name":"***"`, `"sku":"sku"`, `"amount":200`)
	l.noneOf(personal, body)
	for _, path := range []string{"8/1", "9/4", "x/1", "9/0"} {
		l.expect("GET", "/ops/parked/"+path, 404, "not_found")
		if strings.ContainsAny(path, "x0") {
			l.expect("POST", "/ops/parked/"+path+"/reject", 404, "not_found")
		}
	}
}

func TestParkedIsResolved(t *testing.T) {
	t.Parallel()
	p := newParking()
	l := start(t, func(program *ops.Program) { program.Parked = p })
	o := &order.Order{ID: 1, Batch: 9, User: 7, Shop: 1, Kind: order.Normal, Currency: "CNY", Status: order.Rejected, Reason: order.ReasonRefused, Details: []byte(details)}
	live := &order.Order{ID: 1, Batch: 9, Status: order.AwaitingPayment}
	for _, c := range []struct {
		verdict store.Resolution
		status  int
		want    string
	}{
		{store.Resolution{Verdict: store.ResolvedStored, Order: o}, 200, `"reason":"refused"`},
		{store.Resolution{Verdict: store.ResolvedRefused, Error: "forbidden"}, 409, `"code":"still_refused","detail":"the user shard refuses the row; the order stays parked: forbidden"`},
		{store.Resolution{Verdict: store.ResolvedNotPoison}, 409, "not_poison"},
		{store.Resolution{Verdict: store.ResolvedNotParked}, 404, "not_found"},
		{store.Resolution{Verdict: store.ResolvedStoredLive, Order: live}, 409, "has been stored and is awaiting_payment"},
	} {
		p.verdict = c.verdict
		for _, how := range []string{"replay", "reject"} {
			body := l.expect("POST", "/ops/parked/9/1/"+how, c.status, c.want)
			l.noneOf(personal, body)
			if p.called != how+" {9 1}" {
				t.Errorf("%s called %s", how, p.called)
			}
		}
	}
}

// letters are the dead letters of a queue; why is what a replay ends with.
type letters struct {
	queue.Queue
	why error
}

func (d *letters) FindLetter(ctx context.Context, id queue.LetterID) (*queue.Letter, error) {
	return queue.FindLetter(ctx, d.Queue, id)
}

func (d *letters) ReplayLetter(context.Context, queue.LetterID) (string, error) {
	return "as any other", d.why
}

func (d *letters) DropLetter(ctx context.Context, id queue.LetterID) error { return d.Drop(ctx, id) }

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	q, err := sqlitequeue.Open(t.Context(), sqlitequeue.Options{Path: filepath.Join(t.TempDir(), "q.db"), Partitions: order.Partitions{Normal: 2, Flash: 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	record := order.AppendRecord(nil, &order.Record{ID: 77, Currency: "CNY", Details: []byte(details), Items: []order.Item{{Line: order.Line{Offer: 1, Quantity: 1}}}})
	for i, body := range [][]byte{[]byte("Zhang San"), order.AppendBatch(nil, 1, 5, 77, record), {}} {
		if err := q.Bury(t.Context(), queue.Delivery{Partition: 1, Position: uint64(i + 1), Body: body}, "why it is here"); err != nil {
			t.Fatal(err)
		}
	}
	d := &letters{Queue: q}
	l := start(t, func(program *ops.Program) { program.Letters = d })
	body := l.expect("GET", "/ops/deadletters?limit=2", 200, `"next_cursor":"1-2"`, `"reason":"why it is here"`, `"size":9`)
	l.noneOf(append(personal, hex.EncodeToString([]byte("Zhang"))), body)
	if body = l.expect("GET", "/ops/deadletters?limit=2&cursor=1-2", 200, `"id":"1-3"`); strings.Contains(body, `"id":"1-2"`) {
		t.Errorf("the second page: %s", body)
	}
	for _, query := range []string{"limit=101", "cursor=1", "cursor=x-1"} {
		l.expect("GET", "/ops/deadletters?"+query, 400, "invalid_request")
	}
	l.expect("GET", "/ops/deadletters/1-1", 200, hex.EncodeToString([]byte("Zhang San")), `"decodes":false`, `"error":"message is damaged`)
	l.expect("GET", "/ops/deadletters/1-2", 200, `"decodes":true`, `"batch_id":"77"`, `"orders":["77"]`)
	l.expect("POST", "/ops/deadletters/1-2/replay", 200, "as any other")
	for why, code := range map[error]string{order.ErrDamaged: "still_damaged", order.ErrVersion: "unknown_version", &store.AheadError{}: "epoch_ahead"} {
		d.why = fmt.Errorf("letter: %w", why)
		l.expect("POST", "/ops/deadletters/1-2/replay", 409, code)
	}
	l.expect("DELETE", "/ops/deadletters/1-2", 200, "dropped")
	for _, path := range []string{"1-2", "9-1", "x"} {
		l.expect("GET", "/ops/deadletters/"+path, 404, "not_found")
		l.expect("DELETE", "/ops/deadletters/"+path, 404, "not_found")
		l.expect("POST", "/ops/deadletters/"+path+"/replay", 404, "not_found")
	}
	l.noneOf(personal, "")
	var page struct{ Data []ops.Letter }
	if err := json.Unmarshal([]byte(l.expect("GET", "/ops/deadletters", 200, "")), &page); err != nil || len(page.Data) != 2 {
		t.Errorf("left: %+v, %v", page, err)
	}
}
