package store

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

// record is an order of a user for pairs of offer and quantity.
func record(id order.ID, u order.UserID, lines ...int) order.Record {
	r := order.Record{ID: id, User: u, Shop: 1, Currency: "CNY"}
	for i := 0; i < len(lines); i += 2 {
		line := order.Line{Offer: order.OfferID(lines[i]), Quantity: uint32(lines[i+1])}
		r.Items = append(r.Items, order.Item{Line: line, UnitPrice: 100, PriceVersion: 1, SKU: "sku"})
	}
	return r
}

// batch is a message of records; its id is the first one's.
func batch(p order.Partition, e order.Epoch, records ...order.Record) *order.Message {
	return &order.Message{Kind: order.BatchMessage, Partition: p, Epoch: e, Batch: order.BatchID(records[0].ID), Records: records}
}

func barrier(p order.Partition, e order.Epoch) *order.Message {
	return &order.Message{Kind: order.BarrierMessage, Partition: p, Epoch: e}
}

func TestDecide(t *testing.T) {
	const soldOut, overLimit = order.ReasonSoldOut, order.ReasonOverLimit
	tests := []struct {
		name    string
		records []order.Record
		left    map[order.OfferID]int64 // offer 1 is limited to 2, offer 2 is not limited
		want    []Reject
	}{
		{"all fit", []order.Record{record(1, 1, 1, 2), record(2, 2, 2, 3)}, map[order.OfferID]int64{1: 2, 2: 3}, nil},
		{"first come", []order.Record{record(1, 1, 1, 1), record(2, 2, 1, 1)}, map[order.OfferID]int64{1: 1}, []Reject{{1, soldOut}}},
		{"a small order after a refused large one", []order.Record{record(1, 1, 2, 5), record(2, 1, 2, 4)},
			map[order.OfferID]int64{2: 4}, []Reject{{0, soldOut}}},
		{"all lines or none", []order.Record{record(1, 1, 2, 1, 1, 1), record(2, 2, 2, 1)},
			map[order.OfferID]int64{1: 0, 2: 1}, []Reject{{0, soldOut}}},
		{"over the limit in one order", []order.Record{record(1, 1, 1, 3)}, map[order.OfferID]int64{1: 9}, []Reject{{0, overLimit}}},
		{"over the limit in two orders", []order.Record{record(1, 1, 1, 2), record(2, 1, 1, 1), record(3, 2, 1, 1)},
			map[order.OfferID]int64{1: 9}, []Reject{{1, overLimit}}},
		{"a refused order leaves room", []order.Record{record(1, 1, 1, 2, 2, 1), record(2, 1, 1, 2)},
			map[order.OfferID]int64{1: 2, 2: 0}, []Reject{{0, soldOut}}},
		{"the same offer on two lines", []order.Record{record(1, 1, 2, 2, 2, 2), record(2, 1, 2, 3)},
			map[order.OfferID]int64{2: 3}, []Reject{{0, soldOut}}},
		{"the limit before the stock", []order.Record{record(1, 1, 2, 9, 1, 3)}, map[order.OfferID]int64{}, []Reject{{0, overLimit}}},
		{"unknown offer", []order.Record{record(1, 1, 7, 1)}, map[order.OfferID]int64{}, []Reject{{0, soldOut}}},
	}
	for _, tt := range tests {
		g := &guards{left: tt.left, room: map[holder]int64{{1, 1}: 2, {1, 2}: 2}}
		if diff := cmp.Diff(tt.want, g.decide(tt.records)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		for offer, left := range g.left {
			if left < 0 {
				t.Errorf("%s: %d units left of offer %d", tt.name, left, offer)
			}
		}
	}
}

func TestSortOut(t *testing.T) {
	old, now, late := batch(0, 5, record(1, 1, 1, 1)), batch(0, 7, record(2, 1, 1, 1)), batch(0, 5, record(3, 1, 1, 1), record(4, 2, 1, 1))
	part := Part{Epoch: 7, Barrier: 5, Recorded: 3}
	cut := Verdict{Rejects: []Reject{{0, order.ReasonCut}, {1, order.ReasonCut}}}
	tests := []struct {
		name     string
		part     Part
		messages []*order.Message
		before   map[batchKey]Verdict
		want     []Verdict
		fresh    int
		decided  int
	}{
		{"below and above a barrier", part, []*order.Message{old, barrier(0, 7), now, late}, nil, []Verdict{{}, {}, {}, cut}, 2, 3},
		{"claimed in front of the barrier, repeated behind it", part, []*order.Message{old, barrier(0, 7), old}, nil, []Verdict{{}, {}, {}}, 1, 1},
		{"claimed before, barrier since", Part{Epoch: 7, Barrier: 7}, []*order.Message{late},
			map[batchKey]Verdict{keyOf(late): {Rejects: []Reject{{1, order.ReasonSoldOut}}}},
			[]Verdict{{Rejects: []Reject{{1, order.ReasonSoldOut}}}}, 0, 0},
		{"a barrier never goes back", Part{Epoch: 7, Barrier: 7}, []*order.Message{barrier(0, 5), late}, nil, []Verdict{{}, cut}, 0, 1},
		{"recorded", Part{Epoch: 9, Barrier: 9, Recorded: 7}, []*order.Message{old, now}, nil,
			[]Verdict{{Stale: true}, {Rejects: []Reject{{0, order.ReasonCut}}}}, 0, 1},
	}
	for _, tt := range tests {
		c, err := sortOut(tt.messages, map[order.Partition]*Part{0: &tt.part}, tt.before)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, c.aligned(tt.messages)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if len(c.fresh) != tt.fresh || len(c.decided) != tt.decided {
			t.Errorf("%s: %d fresh and %d decided, want %d and %d", tt.name, len(c.fresh), len(c.decided), tt.fresh, tt.decided)
		}
	}
	for _, m := range []*order.Message{now, barrier(0, 8)} {
		_, err := sortOut([]*order.Message{old, m}, map[order.Partition]*Part{0: &part}, nil)
		if ahead, ok := errors.AsType[*AheadError](err); !ok || ahead.Partition != 0 {
			t.Errorf("a message of epoch %d: %v, want an AheadError", m.Epoch, err)
		}
	}
}

func TestRejectsAreStored(t *testing.T) {
	want := []Reject{{0, order.ReasonSoldOut}, {3, order.ReasonOverLimit}, {9, order.ReasonSoldOut}}
	got, err := decodeRejects(encodeRejects(want))
	noError(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	const text = `{"over_limit":[3],"sold_out":[0,9]}` // the auditor reads it too
	if b := encodeRejects(want); string(b) != text {
		t.Errorf("stored as %s, want %s", b, text)
	}
}
