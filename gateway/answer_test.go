package gateway

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"sluice/engine/order"
)

func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "中文😀", "\u2028\u2029<&>", "\xff\xc0\xaf\xed\xa0\x80", "ab\xe2\x80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var w bytes.Buffer
		e := json.NewEncoder(&w)
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		want := bytes.TrimSuffix(w.Bytes(), []byte("\n"))
		if got := appendString(nil, s); !bytes.Equal(got, want) {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
		if got := appendString(nil, []byte(s)); !bytes.Equal(got, want) {
			t.Errorf("%q as bytes: got %s, want %s", s, got, want)
		}
	})
}

func FuzzAppendTime(f *testing.F) {
	for _, day := range []string{"1970-01-01", "1999-12-31", "2000-02-29", "2024-02-29", "2025-03-01", "2026-11-22", "2100-02-28", "2100-03-01", "9999-12-31"} {
		d, err := time.Parse(time.DateOnly, day)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(d.UnixMilli())
		f.Add(d.UnixMilli() + 86_399_999)
	}
	f.Fuzz(func(t *testing.T, ms int64) {
		const end = 253_402_300_800_000 // the year 10000
		ms = (ms%end + end) % end
		want := time.UnixMilli(ms).UTC().Format(`"2006-01-02T15:04:05.000Z"`)
		if got := string(appendTime(nil, order.Milli(ms))); got != want {
			t.Errorf("%d: got %s, want %s", ms, got, want)
		}
	})
}

func storedOrder() *order.Order {
	return &order.Order{ID: order.MakeID(1_795_000_000_123, 3, order.VirtualShard(42), 9), User: 42, Shop: 5, Kind: order.Flash,
		Status: order.Rejected, Reason: order.ReasonSoldOut,
		Items: []order.Item{{Line: order.Line{Offer: 7, Quantity: 2}, UnitPrice: 1999, PriceVersion: 1, SKU: `A"1`},
			{Line: order.Line{Offer: 8, Quantity: 1}, UnitPrice: 1, PriceVersion: 4, SKU: "B"}},
		Goods: 3999, Discount: 100, Freight: 500, Amount: 4399, Currency: "CNY", Details: []byte(`{"note":"n"}`),
		Created: 1_795_000_000_123, Updated: 1_795_000_000_200, Expires: 1_795_000_900_200, Paid: 1_795_000_100_000}
}

func TestAppendOrder(t *testing.T) {
	t.Parallel()
	const want = `{"id":"497531696955233545","user_id":"42","shop_id":"5","kind":"flash","status":"rejected","reason":"sold_out",` +
		`"items":[{"offer_id":"7","sku":"A\"1","quantity":2,"unit_price":1999},{"offer_id":"8","sku":"B","quantity":1,"unit_price":1}],` +
		`"goods_amount":3999,"discount":100,"freight":500,"amount":4399,"currency":"CNY",` +
		`"created_at":"2026-11-18T11:06:40.123Z","updated_at":"2026-11-18T11:06:40.200Z","expires_at":"2026-11-18T11:21:40.200Z",` +
		`"paid_at":"2026-11-18T11:08:20.000Z","details":{"note":"n"}}`
	if got := string(appendOrder(nil, storedOrder())); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendProblem(t *testing.T) {
	t.Parallel()
	p := problem{code: codeNotOpen, detail: "say \"when\"", errors: []fieldError{{"/items/0", "a"}, {"/b~1", "c\n"}}, opens: 1000, at: 2}
	const want = `{"type":"urn:sluice:problem:not_open","title":"The sale has not begun","status":409,"code":"not_open",` +
		`"detail":"say \"when\"","request_id":"0123456789abcdef","opens_at":"1970-01-01T00:00:01.000Z","server_time":"1970-01-01T00:00:00.002Z",` +
		`"errors":[{"pointer":"/items/0","detail":"a"},{"pointer":"/b~1","detail":"c\n"}]}`
	if got := string(appendProblem(nil, &p, []byte("0123456789abcdef"))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for c := codeInvalidRequest; c < codesEnd; c++ {
		var doc struct {
			Type, Title, Code, Detail string
			Status                    int
		}
		if err := json.Unmarshal(appendProblem(nil, &problem{code: c}, []byte("0")), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Code == "" || doc.Title == "" || doc.Detail == "" || doc.Type != "urn:sluice:problem:"+doc.Code || doc.Status < 400 {
			t.Errorf("%d: %+v", c, doc)
		}
	}
}

func TestAppendMillis(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0.00", 9 * time.Microsecond: "0.00", 10 * time.Microsecond: "0.01",
		1234567 * time.Nanosecond: "1.23", 12 * time.Second: "12000.00", -time.Second: "0.00"} {
		if got := string(appendMillis(nil, d)); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	o := storedOrder()
	o.Items = o.Items[:1]
	o.Details = []byte(fullDetails)
	buf := appendOrder(nil, o)
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		buf = appendOrder(buf[:0], o)
	}
}

func BenchmarkProblem(b *testing.B) {
	var buf []byte
	id := []byte("0123456789abcdef")
	b.ReportAllocs()
	for b.Loop() {
		buf = appendProblem(buf[:0], &problem{code: codeSoldOut, detail: soldOut, errors: []fieldError{{itemPointers[0], "is sold out"}}}, id)
	}
}
