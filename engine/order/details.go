package order

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Details is what the warehouse and the invoice need and the engine does not look at. All fields are optional. Names,
// phones, and address lines are personal: they never reach logs, metrics or the feed unmasked.
type Details struct {
	Address        *Address `json:"address,omitempty"`
	DeliveryMethod string   `json:"delivery_method,omitempty"`
	Invoice        *Invoice `json:"invoice,omitempty"`
	Note           string   `json:"note,omitempty"`
}

// Address is where the goods go.
type Address struct {
	Name     string `json:"name"`
	Phone    string `json:"phone"`
	Region   string `json:"region"`
	Line     string `json:"line"`
	Postcode string `json:"postcode,omitempty"`
}

// Invoice is whom to bill.
type Invoice struct {
	Title string `json:"title"`
	TaxID string `json:"tax_id,omitempty"`
}

// MaskDetails is details as JSON without what is personal; nil if there are none or they do not read.
func MaskDetails(details []byte) []byte {
	if masked, ok := maskStored(details); ok {
		return masked
	}
	var d Details
	if details == nil || json.Unmarshal(details, &d) != nil {
		return nil
	}
	hide := func(texts ...*string) {
		for _, text := range texts {
			if *text != "" {
				*text = hidden
			}
		}
	}
	hide(&d.Note)
	if a := d.Address; a != nil {
		hide(&a.Name, &a.Phone, &a.Line, &a.Postcode)
	}
	if i := d.Invoice; i != nil {
		hide(&i.Title, &i.TaxID)
	}
	b, err := json.Marshal(&d)
	if err != nil {
		panic("BUG: details do not encode: " + err.Error())
	}
	return b
}

const hidden = "***"

// masker reads details in the form in which orders store them, and writes them masked. The relay does it for every order
// of a sale: reading any JSON is three times as dear.
type masker struct {
	in, out []byte
	other   bool // it is another form
}

// maskStored is false for details of another form, and where encoding/json writes what is shown differently.
func maskStored(details []byte) ([]byte, bool) {
	m := masker{in: details, out: make([]byte, 0, len(details)+6*len(hidden))}
	m.must(`{`)
	if m.take(`"address":`) {
		m.text(`{"name":`, false)
		m.text(`,"phone":`, false)
		m.text(`,"region":`, true)
		m.text(`,"line":`, false)
		m.optional(`,"postcode":`, false)
		m.must(`}`)
	}
	m.optional(m.comma()+`"delivery_method":`, true)
	if m.take(m.comma() + `"invoice":`) {
		m.text(`{"title":`, false)
		m.optional(`,"tax_id":`, false)
		m.must(`}`)
	}
	m.optional(m.comma()+`"note":`, false)
	m.must(`}`)
	return m.out, !m.other && len(m.in) == 0
}

func (m *masker) comma() string {
	if len(m.out) > 1 {
		return ","
	}
	return ""
}

func (m *masker) take(text string) bool {
	rest, ok := bytes.CutPrefix(m.in, []byte(text))
	if ok {
		m.in, m.out = rest, append(m.out, text...)
	}
	return ok
}

func (m *masker) must(text string) {
	if !m.take(text) {
		m.other = true
	}
}

// optional reads a member that is left out if its text is empty.
func (m *masker) optional(name string, show bool) {
	if bytes.HasPrefix(m.in, []byte(name+`"`)) {
		m.other = m.other || bytes.HasPrefix(m.in[len(name):], []byte(`""`))
		m.text(name, show)
	}
}

func (m *masker) text(name string, show bool) {
	if m.must(name); !m.take(`"`) {
		m.other = true
		return
	}
	end := 0
	for end < len(m.in) && m.in[end] != '"' {
		if m.in[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(m.in) {
		m.other = true
		return
	}
	switch text := m.in[:end]; {
	case show:
		m.other = m.other || !plain(text)
		m.out = append(m.out, text...)
	case end > 0:
		m.out = append(m.out, hidden...)
	}
	m.out, m.in = append(m.out, '"'), m.in[end+1:]
}

// Validate reports every field that is too long, joined; nil if none is. Whether the whole fits DetailsMax is checked
// on its JSON.
func (d *Details) Validate() error {
	var errs []error
	check := func(field, s string, most int) {
		if len(s) > most {
			errs = append(errs, &FieldError{Field: field, Detail: "is too long"})
		}
	}
	check("delivery_method", d.DeliveryMethod, 64)
	check("note", d.Note, 500)
	if a := d.Address; a != nil {
		check("address/name", a.Name, 200)
		check("address/phone", a.Phone, 64)
		check("address/region", a.Region, 200)
		check("address/line", a.Line, 500)
		check("address/postcode", a.Postcode, 32)
	}
	if i := d.Invoice; i != nil {
		check("invoice/title", i.Title, 200)
		check("invoice/tax_id", i.TaxID, 64)
	}
	return errors.Join(errs...)
}
