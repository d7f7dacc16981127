package order_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

// seal gives a message whatever length and checksum its other bytes call for, so that a test reaches what lies behind
// the checksum.
func seal(b []byte) []byte {
	if len(b) < 12 {
		return b
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-12))
	binary.LittleEndian.PutUint32(b[8:], crc32.Update(crc32.Checksum(b[:8], table), table, b[12:]))
	return b
}

func batchBytes() []byte {
	r := fullRecord()
	return order.AppendBatch(nil, 3, 9, order.BatchID(r.ID), records(r, plainRecord()))
}

// TestEveryFlippedBitIsDamage flips each bit of a message: none may pass, and none may pass for a newer version.
func TestEveryFlippedBitIsDamage(t *testing.T) {
	t.Parallel()
	whole := batchBytes()
	for i := range len(whole) * 8 {
		b := append([]byte(nil), whole...)
		b[i/8] ^= 1 << (i % 8)
		if _, err := order.DecodeMessage(b); !errors.Is(err, order.ErrDamaged) {
			t.Fatalf("bit %d flipped: %v, want ErrDamaged", i, err)
		}
	}
	for n := range whole {
		if _, err := order.DecodeMessage(whole[:n]); !errors.Is(err, order.ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v, want ErrDamaged", n, err)
		}
	}
}

// TestSealedNonsense damages messages and repairs their checksum: what a buggy or newer writer could send.
func TestSealedNonsense(t *testing.T) {
	t.Parallel()
	change := func(f func(b []byte) []byte) []byte { return seal(f(batchBytes())) }
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"newer version", change(func(b []byte) []byte { b[0] = order.MessageVersion + 1; return b }), order.ErrVersion},
		{"newer version, other body", change(func(b []byte) []byte { b[0] = 200; return b[:13] }), order.ErrVersion},
		{"newer records", change(func(b []byte) []byte { b[32+3] = order.MessageVersion; return b }), order.ErrVersion},
		{"version 0", change(func(b []byte) []byte { b[0] = 0; return b }), order.ErrVersion},
		{"unknown kind", change(func(b []byte) []byte { b[1] = 3; return b }), order.ErrDamaged},
		{"no kind", change(func(b []byte) []byte { b[1] = 0; return b }), order.ErrDamaged},
		{"reserved byte", change(func(b []byte) []byte { b[3] = 1; return b }), order.ErrDamaged},
		{"barrier with records", change(func(b []byte) []byte { b[1] = byte(order.BarrierMessage); return b }), order.ErrDamaged},
		{"batch without records", change(func(b []byte) []byte { return b[:32] }), order.ErrDamaged},
		{"no body", change(func(b []byte) []byte { return b[:12] }), order.ErrDamaged},
		{"batch id is another's", change(func(b []byte) []byte { b[24]++; return b }), order.ErrDamaged},
		{"a byte too many", change(func(b []byte) []byte { return append(b, 0) }), order.ErrDamaged},
		{"a byte missing", change(func(b []byte) []byte { return b[:len(b)-1] }), order.ErrDamaged},
	}
	for _, test := range tests {
		m, err := order.DecodeMessage(test.b)
		if !errors.Is(err, test.want) || m != nil {
			t.Errorf("%s: message %v, error %v; want no message and %v", test.name, m, err, test.want)
		}
	}
}

// An engine publishes what it finds in an outbox, also records that only a newer program reads: such a message stops its
// partition at whoever does not know them, and is read by whoever does.
func TestNewerRecordsMakeANewerMessage(t *testing.T) {
	t.Parallel()
	b := records(fullRecord())
	b[3] = order.MessageVersion // the next one
	if _, err := order.DecodeRecord(b, new(order.Record)); !errors.Is(err, order.ErrVersion) {
		t.Errorf("a newer record: %v", err)
	}
	message := order.AppendBatch(nil, 3, 9, order.BatchID(fullRecord().ID), b)
	if _, err := order.DecodeMessage(message); !errors.Is(err, order.ErrVersion) || message[0] != order.MessageVersion+1 {
		t.Errorf("a message of newer records has version %d: %v", message[0], err)
	}
}

func TestRecordOutOfBounds(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*order.Record){
		"key":      func(r *order.Record) { r.Key = strings.Repeat("k", order.KeyMax+1) },
		"group":    func(r *order.Record) { r.Group = strings.Repeat("g", order.GroupMax+1) },
		"sku":      func(r *order.Record) { r.Items[1].SKU = strings.Repeat("s", order.SKUMax+1) },
		"details":  func(r *order.Record) { r.Details = make([]byte, order.DetailsMax+1) },
		"items":    func(r *order.Record) { r.Items = make([]order.Item, order.LinesMax+1) },
		"currency": func(r *order.Record) { r.Currency = "EURO" },
	}
	for name, breakIt := range tests {
		r := fullRecord()
		breakIt(&r)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: a record out of bounds was encoded", name)
				}
			}()
			order.AppendRecord(nil, &r)
		}()
	}
}

// TestRecordAtItsBounds encodes the largest record there is and reads it back.
func TestRecordAtItsBounds(t *testing.T) {
	t.Parallel()
	r := fullRecord()
	r.Key, r.Group = strings.Repeat("k", order.KeyMax), strings.Repeat("g", order.GroupMax)
	r.Details = make([]byte, order.DetailsMax)
	for len(r.Items) < order.LinesMax {
		r.Items = append(r.Items, r.Items[0])
	}
	for i := range r.Items {
		r.Items[i] = order.Item{
			Line:      order.Line{Offer: order.MaxID, Quantity: order.QuantityMax},
			UnitPrice: order.UnitPriceMax, PriceVersion: 1<<32 - 1, SKU: strings.Repeat("s", order.SKUMax),
		}
	}
	var got order.Record
	rest, err := order.DecodeRecord(records(r), &got)
	if err != nil || len(rest) != 0 {
		t.Fatalf("rest %d bytes, error %v", len(rest), err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := order.Money(order.LinesMax * order.QuantityMax * order.UnitPriceMax); r.Goods() != want || want < 0 {
		t.Errorf("goods amount %d, want %d", r.Goods(), want)
	}
}

func TestDecodeRecordReusesItems(t *testing.T) {
	t.Parallel()
	b := records(fullRecord(), plainRecord())
	var r order.Record
	rest, err := order.DecodeRecord(b, &r)
	if err != nil {
		t.Fatal(err)
	}
	first := &r.Items[0]
	if _, err = order.DecodeRecord(rest, &r); err != nil {
		t.Fatal(err)
	}
	want := plainRecord()
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("the second record keeps something of the first (-want +got):\n%s", diff)
	}
	if first != &r.Items[0] {
		t.Error("items were allocated again although there was room")
	}
}

func TestRecordAmountAndKey(t *testing.T) {
	t.Parallel()
	r := fullRecord()
	r.Items = r.Items[:1]
	if r.Goods() != 3998 || r.Amount() != 3998-150+600 {
		t.Errorf("goods %d, amount %d; want 3998 and 4448", r.Goods(), r.Amount())
	}
	if got, want := r.KeyHash(), order.KeyHash("s9", "key-1"); got != want {
		t.Errorf("key hash %x, want %x", got, want)
	}
	r.Key = ""
	other := r
	other.ID++
	if r.KeyHash() == other.KeyHash() || r.KeyHash() == order.KeyHash("s9", "") {
		t.Error("orders without a key must have keys of their own")
	}
}
