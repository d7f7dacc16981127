package order

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Record is an order on its way from the engine to the store: what is decided when it is placed and never again.
//
// On the wire, little-endian, without padding; text is a length (1 byte, details 2) and the bytes:
//
//	length u24 | version u8 | id u64 | user u64 | shop u64 | fingerprint u64 | discount i64 | freight i64 |
//	currency 3 bytes | key text | group text | items u8 |
//	items times ( offer u64 | quantity u32 | unit price i64 | price version u32 | sku text ) | details text
//
// length counts what follows the version, which is MessageVersion - 1. Records lie in queues, in outboxes and parked, and
// two releases meet there: each record says how it reads, and whoever carries it on need not be able to read it. The kind
// is that of the partition, the time of creation that of the id, and the amounts follow from the items.
type Record struct {
	ID          ID
	User        UserID
	Shop        ShopID
	Fingerprint uint64
	Discount    Money
	Freight     Money
	Currency    string
	Key         string // the client's; empty: the order's id is its key
	Group       string
	Items       []Item
	Details     []byte
}

// Goods is the sum of the items.
func (r *Record) Goods() Money { return GoodsAmount(r.Items) }

// Amount is what the buyer owes.
func (r *Record) Amount() Money { return r.Goods() - r.Discount + r.Freight }

// KeyHash is the hash under which the order's key is known to fast stock. A record without a key has its id as key.
func (r *Record) KeyHash() uint64 {
	if r.Key == "" {
		return SplitMix64(uint64(r.ID))
	}
	return KeyHash(r.Group, r.Key)
}

// AppendRecord appends the wire form of r. Texts longer than the bounds of this package are a bug of the caller.
func AppendRecord(dst []byte, r *Record) []byte {
	if !r.inBounds() {
		panic("BUG: record out of bounds")
	}
	start := len(dst)
	le := binary.LittleEndian
	dst = append(dst, 0, 0, 0, 0)
	dst = le.AppendUint64(dst, uint64(r.ID))
	dst = le.AppendUint64(dst, uint64(r.User))
	dst = le.AppendUint64(dst, uint64(r.Shop))
	dst = le.AppendUint64(dst, r.Fingerprint)
	dst = le.AppendUint64(dst, uint64(r.Discount))
	dst = le.AppendUint64(dst, uint64(r.Freight))
	dst = append(dst, r.Currency...)
	dst = appendText(dst, r.Key)
	dst = appendText(dst, r.Group)
	dst = append(dst, byte(len(r.Items)))
	for i := range r.Items {
		it := &r.Items[i]
		dst = le.AppendUint64(dst, uint64(it.Offer))
		dst = le.AppendUint32(dst, it.Quantity)
		dst = le.AppendUint64(dst, uint64(it.UnitPrice))
		dst = le.AppendUint32(dst, it.PriceVersion)
		dst = appendText(dst, it.SKU)
	}
	dst = le.AppendUint16(dst, uint16(len(r.Details)))
	dst = append(dst, r.Details...)
	le.PutUint32(dst[start:], uint32(len(dst)-start-recordHead)|(MessageVersion-1)<<24)
	return dst
}

// recordHead is the size of what is the same in every version: length and version.
const recordHead = 4

// inBounds tells whether the texts and the items fit the wire format. Both ends of the pipe hold a record to it.
func (r *Record) inBounds() bool {
	for i := range r.Items {
		if len(r.Items[i].SKU) > SKUMax {
			return false
		}
	}
	return len(r.Key) <= KeyMax && len(r.Group) <= GroupMax && len(r.Details) <= DetailsMax &&
		len(r.Items) <= LinesMax && len(r.Currency) == 3
}

func appendText(dst []byte, s string) []byte {
	return append(append(dst, byte(len(s))), s...)
}

// DecodeRecord reads one record from the front of b into r and returns the bytes behind it. r.Details and nothing else
// aliases b. r.Items is reused when it has room. The error is ErrDamaged or ErrVersion.
func DecodeRecord(b []byte, r *Record) (rest []byte, err error) {
	d := decoder{b: b}
	head := d.u32()
	if version := head>>24 + 1; version > MessageVersion {
		return nil, fmt.Errorf("%w: %d", ErrVersion, version)
	}
	d = decoder{b: d.bytes(int(head & (1<<24 - 1)))}
	if d.b == nil {
		return nil, fmt.Errorf("%w: record is cut short", ErrDamaged)
	}
	rest = b[recordHead+len(d.b):]
	r.ID, r.User, r.Shop = ID(d.u64()), UserID(d.u64()), ShopID(d.u64())
	r.Fingerprint, r.Discount, r.Freight = d.u64(), Money(d.u64()), Money(d.u64())
	r.Currency = string(d.bytes(3))
	r.Key, r.Group = d.text(), d.text()
	r.Items = r.Items[:0]
	for n := d.u8(); n > 0 && !d.short; n-- {
		it := Item{Line: Line{Offer: OfferID(d.u64()), Quantity: d.u32()}}
		it.UnitPrice, it.PriceVersion, it.SKU = Money(d.u64()), d.u32(), d.text()
		r.Items = append(r.Items, it)
	}
	if r.Details = d.bytes(int(d.u16())); len(r.Details) == 0 {
		r.Details = nil
	}
	if d.short || len(d.b) > 0 {
		return nil, fmt.Errorf("%w: record does not fill its length", ErrDamaged)
	}
	if !r.inBounds() {
		return nil, fmt.Errorf("%w: record out of bounds", ErrDamaged)
	}
	return rest, nil
}

// MessageKind tells what a queue message carries.
type MessageKind uint8

// The kinds of messages.
const (
	BatchMessage   MessageKind = 1
	BarrierMessage MessageKind = 2
)

// Message is a decoded queue message. A batch has an id and records; a barrier begins an epoch and carries the time at
// which it was made.
//
// On the wire, little-endian:
//
//	version u8 | kind u8 | zero u16 | length u32 | CRC-32C u32 | partition u32 | epoch u64 |
//	batch id u64 (barrier: time in ms) | records of a batch, one after the other
//
// length counts what follows the checksum; the checksum covers everything but itself. The version is that of the records, 1
// for a barrier. All but the records is the same in every version: a reader can tell a newer message from a damaged one, and
// an engine publishes from an outbox what only newer programs read.
type Message struct {
	Kind      MessageKind
	Partition Partition
	Epoch     Epoch
	Batch     BatchID
	At        Milli
	Records   []Record
}

// MessageVersion is the version of the wire format that this program writes, and the newest that it reads. A new one is read
// by one release and written by the next, so that all readers know it by then (docs/operations.md, "Upgrading").
const MessageVersion = 1

const (
	headerSize = 12 // up to and with the checksum
	bodyMin    = 20
)

// ErrDamaged says that bytes are not a message: cut short, checksum wrong, or contents that do not parse. It never
// heals; ErrVersion does, by a newer program.
var (
	ErrDamaged = errors.New("message is damaged")
	ErrVersion = errors.New("message has a version that this program does not know")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendBatch appends the message of a batch. records are the concatenated wire forms of its orders in batch order. The
// result is a pure function of the arguments: publishing a batch again gives the same bytes.
func AppendBatch(dst []byte, p Partition, e Epoch, id BatchID, records []byte) []byte {
	return appendMessage(dst, BatchMessage, p, e, uint64(id), records)
}

// AppendBarrier appends the message that begins epoch e.
func AppendBarrier(dst []byte, p Partition, e Epoch, at Milli) []byte {
	return appendMessage(dst, BarrierMessage, p, e, uint64(at), nil)
}

func appendMessage(dst []byte, kind MessageKind, p Partition, e Epoch, what uint64, records []byte) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = append(dst, versionOf(records), byte(kind), 0, 0)
	dst = le.AppendUint32(dst, uint32(bodyMin+len(records)))
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, uint32(p))
	dst = le.AppendUint64(dst, uint64(e))
	dst = le.AppendUint64(dst, what)
	dst = append(dst, records...)
	le.PutUint32(dst[start+8:], checksum(dst[start:]))
	return dst
}

// versionOf is the version of a message with these records. Those of one batch were made by one program.
func versionOf(records []byte) byte {
	if len(records) < recordHead {
		return 1
	}
	return records[recordHead-1] + 1
}

func checksum(message []byte) uint32 {
	return crc32.Update(crc32.Checksum(message[:8], castagnoli), castagnoli, message[headerSize:])
}

// DecodeMessage reads one message that fills b. The records' details alias b. A batch has at least one record, and its
// id is the id of the first.
func DecodeMessage(b []byte) (*Message, error) {
	if len(b) < headerSize || int(binary.LittleEndian.Uint32(b[4:])) != len(b)-headerSize {
		return nil, fmt.Errorf("%w: wrong length", ErrDamaged)
	}
	if binary.LittleEndian.Uint32(b[8:]) != checksum(b) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	if b[0] < 1 || b[0] > MessageVersion {
		return nil, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	if b[2] != 0 || b[3] != 0 {
		return nil, fmt.Errorf("%w: reserved bytes are not zero", ErrDamaged)
	}
	d := decoder{b: b[headerSize:]}
	m := &Message{Kind: MessageKind(b[1]), Partition: Partition(d.u32()), Epoch: Epoch(d.u64())}
	switch what := d.u64(); {
	case d.short:
		return nil, fmt.Errorf("%w: cut short", ErrDamaged)
	case m.Kind == BarrierMessage && len(d.b) == 0 && b[0] == versionOf(nil):
		m.At = Milli(what)
		return m, nil
	case m.Kind == BatchMessage:
		m.Batch = BatchID(what)
	default:
		return nil, fmt.Errorf("%w: kind %d", ErrDamaged, b[1])
	}
	var err error
	m.Records, err = DecodeRecords(d.b)
	if err == nil && (len(m.Records) == 0 || BatchID(m.Records[0].ID) != m.Batch || b[0] != versionOf(d.b)) {
		err = fmt.Errorf("%w: batch id or version is not its first order's", ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// DecodeRecords reads concatenated records. The error is ErrDamaged or ErrVersion.
func DecodeRecords(b []byte) ([]Record, error) {
	var records []Record
	for len(b) > 0 {
		var r Record
		rest, err := DecodeRecord(b, &r)
		if err != nil {
			return nil, err
		}
		records, b = append(records, r), rest
	}
	return records, nil
}

// decoder reads little-endian values from the front of b. Reading past the end sets short and gives zeros.
type decoder struct {
	b     []byte
	short bool
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.b, d.short = nil, true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8 {
	if v := d.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.bytes(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.bytes(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.bytes(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) text() string { return string(d.bytes(int(d.u8()))) }
