package gateway

import (
	"encoding/binary"
	"slices"
	"strconv"

	"sluice/engine/order"
)

// orderBody is the body of POST /v1/orders. It is reused: nothing of it may be kept.
//
// Fields are those of the design, with exactly these names; any other is an error, and so is one that is given twice.
// null means the same as leaving a field out.
type orderBody struct {
	lines   []order.Line
	details []byte // canonical JSON (order.Details as encoding/json writes it, without HTML escaping); empty if none
	// Of a line of a batch only: who orders, and the key.
	batch bool
	user  order.UserID
	key   []byte // empty if none

	s      scanner
	parts  [detailFields]text
	code   code // of the faults
	faults []fieldError
}

const faultsMax = 10

// parse reads b. It returns false, with code and faults set, if b is no valid order. details and lines do not alias b.
func (o *orderBody) parse(b []byte) bool {
	o.lines, o.details, o.faults, o.code = o.lines[:0], o.details[:0], o.faults[:0], codeNone
	o.user, o.key = 0, o.key[:0]
	clear(o.parts[:])
	o.s = scanner{b: b, item: -1, scratch: o.s.scratch}
	o.order()
	o.s.b = nil
	if o.s.failed {
		o.code, o.faults = codeInvalidRequest, append(o.faults[:0], o.s.invalid)
	}
	return o.code == codeNone
}

// fault notes that the field being read is wrong, and lets the reading go on. Of several codes, that of a bad request
// goes before those of bad numbers.
func (o *orderBody) fault(c code, detail string) {
	if o.code == codeNone || c == codeInvalidRequest {
		o.code = c
	}
	if len(o.faults) < faultsMax {
		o.faults = append(o.faults, fieldError{o.s.pointer(), detail})
	}
}

func (o *orderBody) order() {
	s := &o.s
	var seen uint
	if !s.open('{', "must be a JSON object") {
		return
	}
	for first := true; ; first = false {
		name, more := s.member(first)
		if !more {
			break
		}
		switch string(name) {
		case "items":
			if s.once(&seen, 1, "items") && !s.null() {
				o.items()
			}
		case "details":
			if s.once(&seen, 2, "details") && !s.null() {
				o.readDetails()
			}
		default:
			if !o.batch || !o.member(name, &seen) {
				s.unknown(name)
			}
		}
	}
	s.end()
	if s.failed {
		return
	}
	if o.batch && seen&4 == 0 {
		s.field = "user_id"
		o.fault(codeInvalidRequest, "is missing")
	}
	if len(o.lines) == 0 {
		s.field = "items"
		o.fault(codeInvalidRequest, "must have at least one item")
	}
	o.checkDetails()
}

// member reads what a line of a batch has instead of headers.
func (o *orderBody) member(name []byte, seen *uint) (known bool) {
	s := &o.s
	switch string(name) {
	case "user_id":
		if s.once(seen, 4, "user_id") {
			id, ok := s.id()
			if !ok {
				o.fault(codeInvalidRequest, "must be the id of a user: a text of digits")
			}
			o.user = order.UserID(id)
		}
	case "idempotency_key":
		if s.once(seen, 8, "idempotency_key") && !s.null() {
			t := s.text("must be a text")
			if o.key = t.appendDecoded(o.key); !s.failed && !order.ValidKey(string(o.key)) {
				o.fault(codeInvalidRequest, keyRule)
			}
		}
	default:
		return false
	}
	return true
}

func (o *orderBody) items() {
	s := &o.s
	if !s.open('[', "must be a list of items") {
		return
	}
	for s.parent, s.field = "/items", ""; s.next(']', len(o.lines) == 0); s.field = "" {
		s.item = len(o.lines)
		if s.item == order.LinesMax {
			s.item = -1
			s.fail("must have at most " + strconv.Itoa(order.LinesMax) + " items")
			return
		}
		o.item()
	}
	s.parent, s.item = "", -1
}

func (o *orderBody) item() {
	s := &o.s
	if !s.open('{', "must be an object") {
		return
	}
	var seen uint
	var line order.Line
	for first := true; ; first = false {
		name, more := s.member(first)
		if !more {
			break
		}
		switch string(name) {
		case "offer_id":
			if s.once(&seen, 1, "offer_id") {
				o.offerID(&line)
			}
		case "quantity":
			if s.once(&seen, 2, "quantity") {
				o.quantity(&line)
			}
		default:
			s.unknown(name)
		}
	}
	if seen != 3 && !s.failed {
		s.field = "offer_id"
		if seen&1 != 0 {
			s.field = "quantity"
		}
		o.fault(codeInvalidRequest, "is missing")
	}
	o.lines = append(o.lines, line)
}

func (o *orderBody) offerID(line *order.Line) {
	id, ok := o.s.id()
	if !ok {
		o.fault(codeInvalidRequest, "must be the id of an offer: a text of digits")
		return
	}
	line.Offer = order.OfferID(id)
	if slices.ContainsFunc(o.lines, func(l order.Line) bool { return l.Offer == line.Offer }) {
		o.fault(codeDuplicateItem, "is named before: give the sum as one item")
	}
}

func (o *orderBody) quantity(line *order.Line) {
	if line.Quantity = o.s.number(order.QuantityMax); line.Quantity == 0 {
		o.fault(codeQuantityInvalid, "must be a whole number from 1 to "+strconv.Itoa(order.QuantityMax))
	}
}

// fingerprint is the hash of the order's content: two bodies with the same lines, in the same order, and the same
// details have the same, however they are written. It is stored: it never changes.
func (o *orderBody) fingerprint() uint64 {
	var b [12]byte
	h := uint64(len(o.lines))
	for _, line := range o.lines {
		binary.LittleEndian.PutUint64(b[:], uint64(line.Offer))
		binary.LittleEndian.PutUint32(b[8:], line.Quantity)
		h = order.Hash(h, b[:])
	}
	return order.Hash(h, o.details)
}
