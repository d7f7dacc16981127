package order_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

var update = flag.Bool("update", false, "rewrite the golden files; only after a deliberate new version of a format")

// golden compares text with a file of testdata. Stored data depends on these files: a difference is a broken format, not
// an outdated test.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s differs from what older programs wrote (-stored +now):\n%s", path, diff)
	}
}

// hexLines writes 16 bytes a line, so that a difference shows where it is.
func hexLines(b []byte) string {
	var text strings.Builder
	for len(b) > 0 {
		n := min(16, len(b))
		fmt.Fprintf(&text, "% x\n", b[:n])
		b = b[n:]
	}
	return text.String()
}

func fromHex(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".golden"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fullRecord uses every field; plainRecord as few as it can.
func fullRecord() order.Record {
	return order.Record{
		ID: order.MakeID(1767225600123, 5, 77, 3), User: 42, Shop: 9, Fingerprint: 0xfeedfacecafebeef,
		Discount: 150, Freight: 600, Currency: "CNY", Key: "key-1", Group: "s9",
		Items: []order.Item{
			{Line: order.Line{Offer: 7, Quantity: 2}, UnitPrice: 1999, PriceVersion: 1, SKU: "TEA-250"},
			{Line: order.Line{Offer: 8, Quantity: 10_000}, UnitPrice: order.UnitPriceMax, PriceVersion: 12, SKU: "CUP"},
		},
		Details: []byte(`{"note":"放门口"}`),
	}
}

func plainRecord() order.Record {
	return order.Record{
		ID: order.MakeID(1767225600124, 127, 255, 255), User: order.MaxID, Shop: 1, Currency: "EUR", Group: "f7",
		Items: []order.Item{{Line: order.Line{Offer: 7, Quantity: 1}, UnitPrice: 0, PriceVersion: 1, SKU: "S"}},
	}
}

func records(list ...order.Record) []byte {
	var b []byte
	for i := range list {
		b = order.AppendRecord(b, &list[i])
	}
	return b
}

func TestRecordGolden(t *testing.T) {
	t.Parallel()
	full, plain := fullRecord(), plainRecord()
	golden(t, "record", hexLines(records(full, plain)))
	got, err := order.DecodeRecords(fromHex(t, "record"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]order.Record{full, plain}, got); diff != "" {
		t.Errorf("stored records read differently (-want +got):\n%s", diff)
	}
}

func TestBatchGolden(t *testing.T) {
	t.Parallel()
	full, plain := fullRecord(), plainRecord()
	id := order.BatchID(full.ID)
	golden(t, "batch", hexLines(order.AppendBatch(nil, 3, 1767225600000, id, records(full, plain))))
	got, err := order.DecodeMessage(fromHex(t, "batch"))
	if err != nil {
		t.Fatal(err)
	}
	want := &order.Message{Kind: order.BatchMessage, Partition: 3, Epoch: 1767225600000, Batch: id, Records: []order.Record{full, plain}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a stored batch reads differently (-want +got):\n%s", diff)
	}
}

func TestBarrierGolden(t *testing.T) {
	t.Parallel()
	golden(t, "barrier", hexLines(order.AppendBarrier(nil, 1023, 1767225600001, 1767225600002)))
	got, err := order.DecodeMessage(fromHex(t, "barrier"))
	if err != nil {
		t.Fatal(err)
	}
	want := &order.Message{Kind: order.BarrierMessage, Partition: 1023, Epoch: 1767225600001, At: 1767225600002}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a stored barrier reads differently (-want +got):\n%s", diff)
	}
}

func TestLogItemsGolden(t *testing.T) {
	t.Parallel()
	items := []order.LogItem{
		{Op: order.OpCreate, Offer: 7, Units: 100, Limit: 2, Opens: 1767225600000, Closes: 1767229200000},
		{Op: order.OpWindow, Offer: 7, Opens: 1767225600000},
		{Op: order.OpGive, Offer: 7, User: order.MaxID, Units: 2},
		{Op: order.OpRaise, Offer: 7, Units: 50},
		{Op: order.OpNote, Offer: 7},
	}
	golden(t, "logitems", string(order.EncodeLogItems(items))+"\n")
	text, err := os.ReadFile("testdata/logitems.golden")
	if err != nil {
		t.Fatal(err)
	}
	got, err := order.DecodeLogItems(bytes.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(items, got); diff != "" {
		t.Errorf("stored items read differently (-want +got):\n%s", diff)
	}
}

// TestHashGolden holds every value that stored data depends on: partitions of groups, key hashes, shards of users.
func TestHashGolden(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, x := range []uint64{0, 1, 2, 42, 1 << 32, order.MaxID, 1<<64 - 1} {
		fmt.Fprintf(&text, "SplitMix64(%d) = %016x\n", x, order.SplitMix64(x))
	}
	for n := range 18 {
		s := "abcdefghijklmnopqrstuvwxyz"[:n]
		fmt.Fprintf(&text, "Hash(0, %q) = %016x\n", s, order.Hash(0, []byte(s)))
	}
	fmt.Fprintf(&text, "Hash(1, \"abc\") = %016x\n", order.Hash(1, []byte("abc")))
	fmt.Fprintf(&text, "Hash(0, \"a\\x00\") = %016x\n", order.HashString("a\x00"))
	for _, k := range [][2]string{{"s9", "key-1"}, {"f7", "key-1"}, {"f7", ""}, {"s9", "放门口"}} {
		fmt.Fprintf(&text, "KeyHash(%q, %q) = %016x\n", k[0], k[1], order.KeyHash(k[0], k[1]))
	}
	ps := order.Partitions{Normal: 4, Flash: 4}
	for _, g := range []string{"s1", "s2", "s9", "f1", "f2", "f7", "warehouse-3"} {
		fmt.Fprintf(&text, "Of(normal, %q) = %d, Of(flash, %q) = %d\n", g, ps.Of(order.Normal, g), g, ps.Of(order.Flash, g))
	}
	for _, u := range []order.UserID{1, 2, 42, 800_000_000, order.MaxID} {
		fmt.Fprintf(&text, "VirtualShard(%d) = %d\n", u, order.VirtualShard(u))
	}
	golden(t, "hash", text.String())
}

// TestSplitMix64 compares with the published generator: seeded with 1234567, its first outputs are these.
func TestSplitMix64(t *testing.T) {
	t.Parallel()
	const step = 0x9e3779b97f4a7c15
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := order.SplitMix64(1234567 + uint64(i)*step); got != want {
			t.Errorf("output %d = %d, want %d", i, got, want)
		}
	}
}
