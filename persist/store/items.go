package store

import (
	"fmt"
	"strconv"

	"github.com/valyala/fastjson"

	"sluice/engine/order"
)

// appendItems appends the stored form of an order's items, a compact JSON array:
//
//	[{"offer_id":7,"sku":"A-1","quantity":2,"unit_price":1990,"price_version":1}]
func appendItems(dst []byte, items []order.Item) []byte {
	dst = append(dst, '[')
	for i := range items {
		it := &items[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(append(dst, `{"offer_id":`...), uint64(it.Offer), 10)
		dst = appendASCII(append(dst, `,"sku":"`...), it.SKU)
		dst = strconv.AppendUint(append(dst, `","quantity":`...), uint64(it.Quantity), 10)
		dst = strconv.AppendInt(append(dst, `,"unit_price":`...), int64(it.UnitPrice), 10)
		dst = strconv.AppendUint(append(dst, `,"price_version":`...), uint64(it.PriceVersion), 10)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendASCII appends s inside a JSON string. SKUs are visible ASCII; other bytes are written as the code points of
// their numbers, so that a damaged one cannot damage the array.
func appendASCII(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c > '~':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

const hexDigits = "0123456789abcdef"

var itemParsers fastjson.ParserPool

// decodeItems reads what appendItems wrote. It keeps nothing of b.
func decodeItems(b []byte) ([]order.Item, error) {
	p := itemParsers.Get()
	defer itemParsers.Put(p)
	v, err := p.ParseBytes(b)
	if err != nil {
		return nil, fmt.Errorf("items of an order: %w", err)
	}
	list, err := v.Array()
	if err != nil {
		return nil, fmt.Errorf("items of an order: %w", err)
	}
	items := make([]order.Item, len(list))
	for i, v := range list {
		items[i] = order.Item{
			Line:         order.Line{Offer: order.OfferID(v.GetUint64("offer_id")), Quantity: uint32(v.GetUint64("quantity"))},
			UnitPrice:    order.Money(v.GetInt64("unit_price")),
			PriceVersion: uint32(v.GetUint64("price_version")),
			SKU:          string(v.GetStringBytes("sku")),
		}
	}
	return items, nil
}

func linesOf(items []order.Item) []order.Line {
	lines := make([]order.Line, len(items))
	for i := range items {
		lines[i] = items[i].Line
	}
	return lines
}
