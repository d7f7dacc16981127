package gateway

import (
	"strconv"

	"sluice/engine/order"
)

// appendOrder appends an order as the API shows it. Fields that say nothing are left out: reason, expires_at, paid_at
// and details.
func appendOrder(dst []byte, o *order.Order) []byte {
	dst = appendID(append(dst, `{"id":"`...), uint64(o.ID))
	dst = appendID(append(dst, `,"user_id":"`...), uint64(o.User))
	dst = appendID(append(dst, `,"shop_id":"`...), uint64(o.Shop))
	dst = append(append(dst, `,"kind":"`...), o.Kind.String()...)
	dst = append(append(append(dst, `","status":"`...), o.Status...), '"')
	if o.Reason != order.ReasonNone {
		dst = append(append(append(dst, `,"reason":"`...), o.Reason...), '"')
	}
	dst = appendItems(append(dst, `,"items":[`...), o.Items)
	dst = strconv.AppendInt(append(dst, `],"goods_amount":`...), int64(o.Goods), 10)
	dst = strconv.AppendInt(append(dst, `,"discount":`...), int64(o.Discount), 10)
	dst = strconv.AppendInt(append(dst, `,"freight":`...), int64(o.Freight), 10)
	dst = strconv.AppendInt(append(dst, `,"amount":`...), int64(o.Amount), 10)
	dst = append(append(dst, `,"currency":"`...), o.Currency...)
	dst = appendTime(append(dst, `","created_at":`...), o.Created)
	dst = appendTime(append(dst, `,"updated_at":`...), o.Updated)
	if o.Expires != 0 {
		dst = appendTime(append(dst, `,"expires_at":`...), o.Expires)
	}
	if o.Paid != 0 {
		dst = appendTime(append(dst, `,"paid_at":`...), o.Paid)
	}
	if len(o.Details) > 0 {
		dst = append(append(dst, `,"details":`...), o.Details...)
	}
	return append(dst, '}')
}

func appendItems(dst []byte, items []order.Item) []byte {
	for i := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendID(append(dst, `{"offer_id":"`...), uint64(items[i].Offer))
		dst = appendString(append(dst, `,"sku":`...), items[i].SKU)
		dst = strconv.AppendUint(append(dst, `,"quantity":`...), uint64(items[i].Quantity), 10)
		dst = strconv.AppendInt(append(dst, `,"unit_price":`...), int64(items[i].UnitPrice), 10)
		dst = append(dst, '}')
	}
	return dst
}

// appendID appends the digits and the closing quote.
func appendID(dst []byte, id uint64) []byte { return append(strconv.AppendUint(dst, id, 10), '"') }

// appendPending appends what is known of an accepted order that is not stored yet.
func appendPending(dst []byte, id order.ID) []byte {
	dst = appendID(append(dst, `{"id":"`...), uint64(id))
	dst = appendTime(append(dst, `,"status":"pending","created_at":`...), id.Time())
	return append(dst, '}')
}

// appendOffer appends an offer as the API shows it, without the closing brace.
func appendOffer(dst []byte, o *order.Offer, left int64, state order.OfferState) []byte {
	dst = appendID(append(dst, `{"id":"`...), uint64(o.ID))
	dst = appendID(append(dst, `,"shop_id":"`...), uint64(o.Shop))
	dst = appendString(append(dst, `,"group":`...), o.Group)
	dst = appendString(append(dst, `,"sku":`...), o.SKU)
	dst = appendString(append(dst, `,"title":`...), o.Title)
	dst = append(append(dst, `,"kind":"`...), o.Kind.String()...)
	dst = strconv.AppendInt(append(dst, `","unit_price":`...), int64(o.UnitPrice), 10)
	dst = append(append(dst, `,"currency":"`...), o.Currency...)
	dst = strconv.AppendInt(append(dst, `","total":`...), o.Total, 10)
	dst = strconv.AppendInt(append(dst, `,"remaining":`...), left, 10)
	dst = strconv.AppendUint(append(dst, `,"per_user_limit":`...), uint64(o.Limit), 10)
	if o.Opens != 0 {
		dst = appendTime(append(dst, `,"opens_at":`...), o.Opens)
	}
	if o.Closes != 0 {
		dst = appendTime(append(dst, `,"closes_at":`...), o.Closes)
	}
	return append(append(append(dst, `,"state":"`...), state...), '"')
}
