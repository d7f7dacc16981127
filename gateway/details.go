package gateway

import (
	"strconv"

	"sluice/engine/order"
)

// detail numbers the texts of the details.
type detail int

const (
	detailName detail = iota
	detailPhone
	detailRegion
	detailLine
	detailPostcode
	detailMethod
	detailTitle
	detailTaxID
	detailNote
	detailAddress // not a text: set if there is an address
	detailInvoice // not a text: set if there is an invoice
	detailFields
)

// detailTable has the texts in canonical order: name, object and bound of each. The bounds are those of
// order.Details.Validate; a test holds them equal.
var detailTable = [detailAddress]struct {
	parent, name string
	most         int
}{
	detailName:     {"/details/address", "name", 200},
	detailPhone:    {"/details/address", "phone", 64},
	detailRegion:   {"/details/address", "region", 200},
	detailLine:     {"/details/address", "line", 500},
	detailPostcode: {"/details/address", "postcode", 32},
	detailMethod:   {"/details", "delivery_method", 64},
	detailTitle:    {"/details/invoice", "title", 200},
	detailTaxID:    {"/details/invoice", "tax_id", 64},
	detailNote:     {"/details", "note", 500},
}

// readDetails reads the details object into o.parts.
func (o *orderBody) readDetails() {
	s := &o.s
	if !s.open('{', "must be an object") {
		return
	}
	s.parent = "/details"
	var seen uint
	for first := true; ; first = false {
		name, more := s.member(first)
		if !more {
			break
		}
		switch string(name) {
		case "address":
			if s.once(&seen, 1, "address") && !s.null() {
				o.readPart(detailAddress, detailName, detailPostcode)
			}
		case "delivery_method":
			if s.once(&seen, 2, "delivery_method") {
				o.readText(detailMethod)
			}
		case "invoice":
			if s.once(&seen, 4, "invoice") && !s.null() {
				o.readPart(detailInvoice, detailTitle, detailTaxID)
			}
		case "note":
			if s.once(&seen, 8, "note") {
				o.readText(detailNote)
			}
		default:
			s.unknown(name)
		}
	}
	if !s.failed {
		s.parent = ""
	}
}

// readPart reads the address or the invoice: an object of the texts from first to last.
func (o *orderBody) readPart(part, from, to detail) {
	s := &o.s
	if !s.open('{', "must be an object") {
		return
	}
	o.parts[part].set = true
	s.parent = detailTable[from].parent
	var seen uint
	for first := true; ; first = false {
		name, more := s.member(first)
		if !more {
			break
		}
		d := from
		for d <= to && string(name) != detailTable[d].name {
			d++
		}
		if d > to {
			s.unknown(name)
		} else if s.once(&seen, 1<<d, detailTable[d].name) {
			o.readText(d)
		}
	}
	if !s.failed {
		s.parent = "/details"
	}
}

func (o *orderBody) readText(d detail) {
	if !o.s.null() {
		o.parts[d] = o.s.text("must be a text")
	}
}

// checkDetails checks the lengths and writes the canonical form.
func (o *orderBody) checkDetails() {
	for d := range detailAddress {
		if t := &o.parts[d]; len(t.raw) > detailTable[d].most && o.size(t) > detailTable[d].most {
			o.s.parent, o.s.field = detailTable[d].parent, detailTable[d].name
			o.fault(codeInvalidRequest, "must have at most "+strconv.Itoa(detailTable[d].most)+" bytes")
		}
	}
	if o.writeDetails(); len(o.details) > order.DetailsMax {
		o.s.parent, o.s.field = "", "details"
		o.fault(codeInvalidRequest, "must have at most "+strconv.Itoa(order.DetailsMax)+" bytes in all")
	}
}

// size is the length of the text itself in bytes.
func (o *orderBody) size(t *text) int {
	if t.plain {
		return len(t.raw)
	}
	o.s.scratch = t.appendDecoded(o.s.scratch[:0])
	return len(o.s.scratch)
}

// writeDetails appends the canonical form to o.details: what encoding/json makes of the same order.Details.
func (o *orderBody) writeDetails() {
	o.details = append(o.details, '{')
	if o.parts[detailAddress].set {
		o.begin(`"address":{`)
		o.always(`"name":`, detailName)
		o.always(`,"phone":`, detailPhone)
		o.always(`,"region":`, detailRegion)
		o.always(`,"line":`, detailLine)
		o.ifAny(`"postcode":`, detailPostcode)
		o.details = append(o.details, '}')
	}
	o.ifAny(`"delivery_method":`, detailMethod)
	if o.parts[detailInvoice].set {
		o.begin(`"invoice":{`)
		o.always(`"title":`, detailTitle)
		o.ifAny(`"tax_id":`, detailTaxID)
		o.details = append(o.details, '}')
	}
	o.ifAny(`"note":`, detailNote)
	if len(o.details) == 1 {
		o.details = o.details[:0]
		return
	}
	o.details = append(o.details, '}')
}

// begin appends a member's name, behind a comma if something stands before it.
func (o *orderBody) begin(name string) {
	if o.details[len(o.details)-1] != '{' {
		o.details = append(o.details, ',')
	}
	o.details = append(o.details, name...)
}

func (o *orderBody) ifAny(name string, d detail) {
	if len(o.parts[d].raw) > 0 {
		o.begin(name)
		o.always("", d)
	}
}

func (o *orderBody) always(name string, d detail) {
	o.details = append(o.details, name...)
	t := &o.parts[d]
	if t.plain || len(t.raw) == 0 {
		o.details = append(append(append(o.details, '"'), t.raw...), '"')
		return
	}
	o.s.scratch = t.appendDecoded(o.s.scratch[:0])
	o.details = appendString(o.details, o.s.scratch)
}
