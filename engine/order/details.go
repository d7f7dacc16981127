package order

import (
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
	var d Details
	if details == nil || json.Unmarshal(details, &d) != nil {
		return nil
	}
	hide := func(texts ...*string) {
		for _, text := range texts {
			if *text != "" {
				*text = "***"
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
