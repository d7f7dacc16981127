package order_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

// FuzzDecodeMessage: whatever the bytes, decoding ends in a message that encodes to the same bytes or in one of the two
// errors. The second pass repairs length and checksum first, so that the fuzzer gets behind them.
func FuzzDecodeMessage(f *testing.F) {
	f.Add(batchBytes())
	f.Add(order.AppendBarrier(nil, 3, 9, 1767225600000))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		checkMessage(t, b)
		checkMessage(t, seal(append([]byte(nil), b...)))
	})
}

func checkMessage(t *testing.T, b []byte) {
	m, err := order.DecodeMessage(b)
	if err != nil {
		if m != nil || (!errors.Is(err, order.ErrDamaged) && !errors.Is(err, order.ErrVersion)) {
			t.Fatalf("message %v, error %v", m, err)
		}
		return
	}
	again := order.AppendBarrier(nil, m.Partition, m.Epoch, m.At)
	if m.Kind == order.BatchMessage {
		again = order.AppendBatch(nil, m.Partition, m.Epoch, m.Batch, records(m.Records...))
	}
	if !bytes.Equal(again, b) {
		t.Fatalf("decoded and encoded again:\n% x\nbut it was\n% x", again, b)
	}
}

// FuzzDecodeRecord: a record that decodes encodes to the bytes it was read from, and the rest is what follows them.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(records(fullRecord()))
	f.Add(records(plainRecord(), fullRecord()))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r order.Record
		rest, err := order.DecodeRecord(b, &r)
		if err != nil {
			if rest != nil || (!errors.Is(err, order.ErrDamaged) && !errors.Is(err, order.ErrVersion)) {
				t.Fatalf("rest %v, error %v", rest, err)
			}
			return
		}
		if again := append(records(r), rest...); !bytes.Equal(again, b) {
			t.Fatalf("decoded and encoded again:\n% x\nbut it was\n% x", again, b)
		}
	})
}

// FuzzDecodeLogItems: items that decode survive a round trip.
func FuzzDecodeLogItems(f *testing.F) {
	f.Add([]byte(`[{"op":"create","offer":7,"units":100,"limit":2,"opens":1,"closes":2}]`))
	f.Add([]byte(`[{"op":"give","offer":7,"user":9223372036854775807,"units":-1}]`))
	f.Add([]byte(`[{"op":"melt","offer":7}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := order.DecodeLogItems(b)
		if err != nil {
			if items != nil {
				t.Fatalf("items %v with error %v", items, err)
			}
			return
		}
		again, err := order.DecodeLogItems(order.EncodeLogItems(items))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(items, again); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}

// FuzzParseID: what is accepted is the one decimal form of a positive 63-bit number.
func FuzzParseID(f *testing.F) {
	for _, s := range []string{"1", "9223372036854775807", "9223372036854775808", "0", "01", "+1", "1e3", "", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := order.ParseID(s)
		if ok && (n == 0 || n > order.MaxID || order.ID(n).String() != s) {
			t.Fatalf("ParseID(%q) = %d", s, n)
		}
	})
}
