package order

import "time"

// The ids of the domain. All are positive and below 2^63, so that a signed SQL column holds them; zero means none.
type (
	// UserID names a buyer: the `sub` of the token.
	UserID uint64
	// ShopID names a seller.
	ShopID uint64
	// OfferID names something on sale.
	OfferID uint64
	// BatchID names a batch: the ID of its first order. It is unique for ever, also across epochs.
	BatchID uint64
	// Epoch numbers the incarnations of one partition's fast stock. It only grows; at least the Unix time in
	// milliseconds at which it began.
	Epoch uint64
	// Money is an amount in minor units of its currency.
	Money int64
	// Milli is a moment: milliseconds since 1970 UTC.
	Milli int64
)

// MaxID is the largest id of any type: 2^63-1.
const MaxID = 1<<63 - 1

// Time is the moment as a time in UTC; the zero Milli gives the zero Time.
func (m Milli) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}

// MilliOf is t rounded down to a millisecond; the zero Time gives 0.
func MilliOf(t time.Time) Milli {
	if t.IsZero() {
		return 0
	}
	return Milli(t.UnixMilli())
}

// Kind tells a flash sale's offers and orders from ordinary ones. Kinds never share a queue, a partition or a consumer.
type Kind uint8

// The kinds. The zero Kind is none.
const (
	Normal Kind = 1
	Flash  Kind = 2
)

// Kinds lists every kind in the order of the partitions' number space.
var Kinds = [...]Kind{Normal, Flash}

// String is "normal" or "flash".
func (k Kind) String() string {
	switch k {
	case Normal:
		return "normal"
	case Flash:
		return "flash"
	}
	return "none"
}

// ParseKind reads what Kind.String writes; ok is false for anything else.
func ParseKind(s string) (k Kind, ok bool) {
	for _, k := range Kinds {
		if s == k.String() {
			return k, true
		}
	}
	return 0, false
}

// Line is one line of an order as it is asked for.
type Line struct {
	Offer    OfferID
	Quantity uint32 // 1 to QuantityMax
}

// Item is one line of an order as it was sold: the price is that of PriceVersion, for ever.
type Item struct {
	Line
	UnitPrice    Money
	PriceVersion uint32
	SKU          string // at most SKUMax bytes
}

// Bounds of one order and of one reserve call. The wire format has room for all of them.
const (
	LinesMax        = 50        // lines of one order
	QuantityMax     = 10_000    // units in one line
	KeyMax          = 64        // bytes of an idempotency key, visible ASCII
	GroupMax        = 64        // bytes of a group's name
	SKUMax          = 64        // bytes
	TitleMax        = 200       // bytes of an offer's title
	DetailsMax      = 2 << 10   // bytes of Details as JSON
	BatchOrdersMax  = 1_000     // orders (and requests of one reserve call)
	BatchLinesMax   = 4_000     // lines of one reserve call
	BatchBytesMax   = 512 << 10 // bytes of all records of one reserve call
	UnitPriceMax    = 1 << 40   // minor units: with LinesMax and QuantityMax an amount stays below 2^63
	PerUserLimitMax = 1 << 20   // units
	TotalMax        = 1 << 40   // units of one offer
)

// Order is an order as it is stored and shown.
type Order struct {
	ID     ID
	Batch  BatchID
	Epoch  Epoch
	User   UserID
	Shop   ShopID
	Group  string
	Key    string // the client's idempotency key; empty if none was given
	Kind   Kind
	Status Status
	Reason Reason // why Status is Rejected, else empty
	// DuplicateOf is the earlier order of the same key, for Reason ReasonDuplicate and ReasonKeyReused; else 0.
	DuplicateOf ID
	Fingerprint uint64
	Items       []Item
	Goods       Money // sum of quantity times unit price
	Discount    Money
	Freight     Money
	Amount      Money // Goods - Discount + Freight
	Currency    string
	Details     []byte // canonical JSON of Details; nil if none
	Created     Milli
	Updated     Milli
	Expires     Milli // when an unpaid order expires; 0 if it no longer can
	Paid        Milli // 0 if never
}

// GoodsAmount is the sum over items of quantity times unit price. It cannot overflow within the bounds of this package.
func GoodsAmount(items []Item) Money {
	var sum Money
	for i := range items {
		sum += Money(items[i].Quantity) * items[i].UnitPrice
	}
	return sum
}
