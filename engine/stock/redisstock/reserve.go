package redisstock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// reserveArgs are the arguments of reserve.lua while they are built. They are kept between calls: a call at its bounds
// has half a megabyte of them.
type reserveArgs struct {
	keys, ids, shape, sizes, records, confirmed []byte
	places                                      map[order.OfferID]int
	named                                       []order.OfferID
	args                                        []any
}

var reserveArgsPool = sync.Pool{New: func() any { return &reserveArgs{places: map[order.OfferID]int{}} }}

// linesMax is what reserve.lua can read: one byte.
const linesMax = 255

// Reserve decides a batch of requests (stock.Stock).
func (s *Stock) Reserve(ctx context.Context, call *stock.ReserveCall) (*stock.Reserved, error) {
	a := reserveArgsPool.Get().(*reserveArgs)
	if err := a.build(call); err != nil {
		return nil, refused(s.scripts.reserve, call.Partition, err)
	}
	values, err := s.run(ctx, s.scripts.reserve, call.Partition, a.args...)
	if err != nil {
		return nil, err // a may still be read by whoever sends: it is not used again
	}
	res, err := a.answer(call, values)
	if err != nil {
		return nil, fmt.Errorf("reserve on partition %d: %w", call.Partition, err)
	}
	reserveArgsPool.Put(a)
	return res, nil
}

func (a *reserveArgs) build(call *stock.ReserveCall) error {
	a.keys, a.ids, a.shape, a.sizes, a.named = a.keys[:0], a.ids[:0], a.shape[:0], a.sizes[:0], a.named[:0]
	a.records = appendEntryHead(a.records[:0], call.Epoch)
	head := len(a.records)
	clear(a.places)
	lines := 0
	for i := range call.Requests {
		r := &call.Requests[i]
		switch lines += len(r.Lines); {
		case r.Order == 0:
			return fmt.Errorf("request %d has no order id", i)
		case len(r.Lines) > linesMax:
			return fmt.Errorf("request %d has %d lines; one may have %d", i, len(r.Lines), linesMax)
		}
		a.keys = appendKey(a.keys, r.User, r.Key)
		a.ids = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(a.ids, uint64(r.Order)), r.Fingerprint)
		a.shape = append(a.shape, byte(len(r.Lines)))
		for _, l := range r.Lines {
			a.shape = binary.BigEndian.AppendUint16(a.shape, uint16(a.place(l.Offer)))
			a.shape = binary.BigEndian.AppendUint32(a.shape, l.Quantity)
		}
		a.sizes = binary.BigEndian.AppendUint32(a.sizes, uint32(len(r.Record)))
		a.records = append(a.records, r.Record...)
	}
	if size := len(a.records) - head; len(call.Requests) > order.BatchOrdersMax || lines > order.BatchLinesMax || size > order.BatchBytesMax {
		return fmt.Errorf("%d requests with %d lines and %d bytes are more than one call takes", len(call.Requests), lines, size)
	}
	a.confirmed = appendBatches(a.confirmed[:0], call.Confirmed)
	a.args = append(a.args[:0], epochText(call.Epoch), a.keys, a.ids, a.shape, a.sizes, a.records, a.confirmed)
	for _, id := range a.named {
		a.args = append(a.args, offerText(id))
	}
	return nil
}

// place is the position of an offer among those that the call names.
func (a *reserveArgs) place(id order.OfferID) int {
	at, ok := a.places[id]
	if !ok {
		at = len(a.named)
		a.places[id] = at
		a.named = append(a.named, id)
	}
	return at
}

func (a *reserveArgs) answer(call *stock.ReserveCall, values []any) (*stock.Reserved, error) {
	r := reader{values: values}
	res := &stock.Reserved{Applied: r.number(), Outcomes: make([]stock.Outcome, len(call.Requests))}
	first, codes, left := r.integer(), r.text(), r.list()
	extra := reader{values: r.list()}
	if r.err != nil {
		return nil, r.err
	}
	if len(codes) != len(call.Requests) || len(left) != len(a.named) || first < 0 || first > int64(len(codes)) {
		return nil, errors.New("the answer has another shape than the call")
	}
	if first > 0 {
		res.Batch = order.BatchID(call.Requests[first-1].Order)
	}
	for i := range res.Outcomes {
		out := &res.Outcomes[i]
		out.Code = order.Code(codes[i])
		switch {
		case out.Code == order.Accepted:
			out.Order, out.Batch = call.Requests[i].Order, res.Batch
		case out.Code == order.Repeated:
			extra.repeated(out)
		case out.Code != order.KeyReused:
			out.Line = int(extra.integer())
		}
	}
	units := reader{values: left}
	res.Left = make([]stock.Left, len(a.named))
	for i, id := range a.named {
		res.Left[i] = stock.Left{Offer: id, Units: units.integer()}
	}
	return res, errors.Join(extra.err, units.err)
}

// repeated reads the order and the batch that a key belongs to.
func (r *reader) repeated(out *stock.Outcome) {
	s := r.text()
	if len(s) != 17 {
		r.fail(fmt.Errorf("%d bytes for a repeated key", len(s)))
		return
	}
	out.Order = order.ID(binary.BigEndian.Uint64([]byte(s[:8])))
	out.Batch = order.BatchID(binary.BigEndian.Uint64([]byte(s[8:16])))
	out.Outboxed = s[16] == '1'
}

func appendKey(b []byte, user order.UserID, key uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, uint64(user)), key)
}

// appendEntryHead appends what an outbox entry has in front of its records.
func appendEntryHead(b []byte, e order.Epoch) []byte {
	return append(strconv.AppendUint(b, uint64(e), 10), ':')
}

func appendBatches(b []byte, batches []order.BatchID) []byte {
	for _, id := range batches {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	return b
}

func epochText(e order.Epoch) string { return strconv.FormatUint(uint64(e), 10) }

func offerText(id order.OfferID) string { return strconv.FormatUint(uint64(id), 10) }

// buyerField is the name of a buyer in a hash: the offer in decimal, a colon, 8 bytes of the user.
func buyerField(offer order.OfferID, user order.UserID) string {
	return offerText(offer) + ":" + string(binary.BigEndian.AppendUint64(nil, uint64(user)))
}
