package order_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

func events() []order.Event {
	at := order.Milli(1767225600007)
	return []order.Event{
		{Shard: 1, Number: 1, Order: 7340032, Type: "recorded", At: at, Actor: "record", Status: order.AwaitingPayment, User: 42, Shop: 9,
			Details: []byte(`{"delivery_method":"van","note":"***"}`)},
		{Shard: 1, Number: 2, Order: 7340033, Type: "recorded", At: at, Actor: "record", Status: order.Rejected, Reason: order.ReasonCut,
			User: order.MaxID, Shop: order.MaxID},
		{Shard: 1, Number: 1<<62 + 1, Order: 7340032, N: 1, Type: "cancelled", At: at + 993, Actor: "user", Status: order.Cancelled, User: 42, Shop: 9},
		{Order: 1, Number: 4, N: 12, Type: "second_claim", At: 1, Actor: "a \"quoted\"\nname", User: 1},
	}
}

// Other teams read these lines.
func TestEventGolden(t *testing.T) {
	var text strings.Builder
	for _, e := range events() {
		line := order.AppendEvent(nil, &e)
		text.Write(append(line, '\n'))
		if again, err := order.ParseEvent(line); err != nil || !cmp.Equal(e, again) {
			t.Errorf("read back, error %v:\n%s", err, cmp.Diff(e, again))
		}
		if len(line) > order.EventBytesMax {
			t.Errorf("%d bytes", len(line))
		}
	}
	golden(t, "event", text.String())
}

func TestParseEventRefuses(t *testing.T) {
	good := string(order.AppendEvent(nil, &events()[0]))
	if _, err := order.ParseEvent([]byte(strings.Replace(good, `"number":1`, `"more":{"x":1},"number":1`, 1))); err != nil {
		t.Errorf("a field of a later program: %v", err)
	}
	for _, from := range []string{`"order_id":"7340032"`, `"user_id":"42"`, `"number":1`} {
		for _, to := range []string{`"other":1`, from[:strings.Index(from, ":")+1] + `"-1"`} {
			if e, err := order.ParseEvent([]byte(strings.Replace(good, from, to, 1))); err == nil {
				t.Errorf("%s for %s: read as %+v", to, from, e)
			}
		}
	}
	if _, err := order.ParseEvent([]byte(good[:len(good)-1])); err == nil {
		t.Error("half a line was read")
	}
}

// FuzzParseEvent: what reads survives a round trip.
func FuzzParseEvent(f *testing.F) {
	for _, e := range events() {
		f.Add(order.AppendEvent(nil, &e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := order.ParseEvent(b)
		if err != nil || e.At < 0 || e.At > order.Milli(250_000_000_000_000) { // years of four digits
			return
		}
		again, err := order.ParseEvent(order.AppendEvent(nil, &e))
		if err != nil || !cmp.Equal(e, again) {
			t.Fatalf("error %v:\n%s", err, cmp.Diff(e, again))
		}
	})
}

// The longest details stay within the bound of an event, whatever is in them.
func TestMaskDetails(t *testing.T) {
	personal := []string{"Name Ω", "555-0100", "Line 1", "90210", "Title", "TAX", "Leave it <there>"}
	details := `{"address":{"name":"Name Ω","phone":"555-0100","region":"North","line":"Line 1","postcode":"90210"},"delivery_method":"van",` +
		`"invoice":{"title":"Title","tax_id":"TAX"},"note":"Leave it <there>"}`
	got := string(order.MaskDetails([]byte(details)))
	for _, text := range personal {
		if strings.Contains(got, text) {
			t.Errorf("%q is in %s", text, got)
		}
	}
	for _, text := range []string{"North", "van"} {
		if !strings.Contains(got, text) {
			t.Errorf("%q is not in %s", text, got)
		}
	}
	for _, none := range []string{"", "nonsense", "[1]"} {
		if got := order.MaskDetails([]byte(none)); got != nil {
			t.Errorf("%q masked is %s", none, got)
		}
	}
	longest := `{"address":{"name":"a","phone":"b","region":"` + strings.Repeat("<", 200) + `","line":"c","postcode":"d"},"delivery_method":"` +
		strings.Repeat("&", 64) + `","invoice":{"title":"e","tax_id":"f"},"note":"g"}`
	if n := len(order.MaskDetails([]byte(longest))); n > order.EventBytesMax-1024 {
		t.Errorf("%d bytes of masked details", n)
	}
}

// Details are masked in the same way in the form in which orders store them and in any other, which is one space longer.
func FuzzMaskDetails(f *testing.F) {
	f.Add("Name Ω", "555-0100", "North, 北", "Line \\ \"1\"", "90210", "van", "Title", "TAX", "note", true, true)
	f.Add("", "", "", "", "", "", "", "", "", true, true)
	f.Add("", "", "", "", "", "", "", "", "n", false, false)
	f.Add("a", "b", "1 < 2", "d", "", "", "t", "", "", true, true)
	f.Add("a", "b", "<c>\u2028", "d", "", "&", "t", "", "", true, true)
	f.Add("a\xff", "b\xff", "c\xff", "d", "", "e\xff", "t", "", "", true, false)
	f.Fuzz(func(t *testing.T, name, phone, region, line, postcode, method, title, tax, note string, address, invoice bool) {
		d := order.Details{DeliveryMethod: method, Note: note}
		if address {
			d.Address = &order.Address{Name: name, Phone: phone, Region: region, Line: line, Postcode: postcode}
		}
		if invoice {
			d.Invoice = &order.Invoice{Title: title, TaxID: tax}
		}
		var stored bytes.Buffer
		e := json.NewEncoder(&stored)
		e.SetEscapeHTML(false)
		if err := e.Encode(&d); err != nil {
			t.Fatal(err)
		}
		b := bytes.TrimSpace(stored.Bytes())
		got, want := order.MaskDetails(b), order.MaskDetails(append([]byte(" "), b...))
		if string(got) != string(want) {
			t.Errorf("%s masked is\n%s and with a space before it\n%s", b, got, want)
		}
	})
}

// Other JSON is masked in the same way with a space before it, too.
func FuzzMaskOther(f *testing.F) {
	for _, s := range []string{`{}`, `{"note":"a"}`, `{"note":""}`, `{"note":"a","note":"b"}`, `{"name":"x"}`, `{"address":{"name":"a"}}`, `{"note":"a}`,
		`{"note":"\`, `{"x":"y"}`, `{,"note":"a"}`, `{"note":"a"}{}`, `{"note":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, want := order.MaskDetails(b), order.MaskDetails(append([]byte(" "), b...))
		if string(got) != string(want) && json.Valid(b) {
			t.Errorf("%q masked is\n%q and with a space before it\n%q", b, got, want)
		}
	})
}

func BenchmarkMaskDetails(b *testing.B) {
	details := []byte(`{"address":{"name":"Name","phone":"555-0100","region":"North","line":"Line 1","postcode":"90210"},"delivery_method":"van","note":"n"}`)
	for b.Loop() {
		order.MaskDetails(details)
	}
}
