package order

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An event is one JSON object, in the feed and for whoever reads it:
//
//	shard     number of the user shard                                  number    of the event on its shard, from 1, without gaps
//	order_id  text                                                      event     of the order: 0 recorded, then 1, 2, 3 ...
//	type      recorded, or the status that it led to, or another word   at        RFC 3339 with milliseconds, UTC
//	actor     record, user, expiry, operator ...                        status    of the order behind it; absent: as before
//	reason    of a rejected order                                       user_id, shop_id
//	details   the order's, masked; absent: it has none
//
// Fields and types are added, never changed: readers skip what they do not know.

// EventBytesMax bounds the JSON of one event: details, which may grow a little as they are masked, and what stands around.
const EventBytesMax = 2 * DetailsMax

// Event is one change of a stored order.
type Event struct {
	Shard   int
	Number  int64 // on its shard
	Order   ID
	N       int // of the order's events; 0: it was recorded
	Type    string
	At      Milli
	Actor   string
	Status  Status // of the order behind it; empty: it changed none
	Reason  Reason
	User    UserID
	Shop    ShopID
	Details []byte // masked JSON; nil: none
}

const eventTime = "2006-01-02T15:04:05.000Z"

// AppendEvent appends an event as JSON.
func AppendEvent(b []byte, e *Event) []byte {
	text := func(key, value string) {
		if value != "" {
			b = append(b, `,"`+key+`":`...)
			b = appendJSON(b, value)
		}
	}
	b = strconv.AppendInt(append(b, `{"shard":`...), int64(e.Shard), 10)
	b = strconv.AppendInt(append(b, `,"number":`...), e.Number, 10)
	text("order_id", e.Order.String())
	b = strconv.AppendInt(append(b, `,"event":`...), int64(e.N), 10)
	text("type", e.Type)
	text("at", e.At.Time().UTC().Format(eventTime))
	text("actor", e.Actor)
	text("status", string(e.Status))
	text("reason", string(e.Reason))
	text("user_id", ID(e.User).String())
	if e.Shop != 0 { // a bare row has none
		text("shop_id", ID(e.Shop).String())
	}
	if e.Details != nil {
		b = append(append(b, `,"details":`...), e.Details...)
	}
	return append(b, '}')
}

// appendJSON appends a JSON string.
func appendJSON(b []byte, s string) []byte {
	if plain(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a text does not encode: " + err.Error())
	}
	return append(b, text...)
}

// plain tells that encoding/json writes a text as it is, between quotes.
func plain[T string | []byte](text T) bool {
	multi := false
	for i := range len(text) {
		switch c := text[i]; {
		case c >= utf8.RuneSelf:
			multi = true
		case c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&':
			return false
		}
	}
	// U+2028 and U+2029 are escaped.
	return !multi || utf8.ValidString(string(text)) && !strings.Contains(string(text), "\u2028"[:2])
}

// ParseEvent reads what AppendEvent writes, and skips fields that it does not know. The event keeps nothing of b.
func ParseEvent(b []byte) (Event, error) {
	var in struct {
		Shard   int             `json:"shard"`
		Number  int64           `json:"number"`
		Order   string          `json:"order_id"`
		N       int             `json:"event"`
		Type    string          `json:"type"`
		At      time.Time       `json:"at"`
		Actor   string          `json:"actor"`
		Status  Status          `json:"status"`
		Reason  Reason          `json:"reason"`
		User    string          `json:"user_id"`
		Shop    string          `json:"shop_id"`
		Details json.RawMessage `json:"details"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return Event{}, fmt.Errorf("event: %w", err)
	}
	id, idOK := ParseID(in.Order)
	user, userOK := ParseID(in.User)
	shop, shopOK := ParseID(in.Shop)
	if !idOK || !userOK || !shopOK && in.Shop != "" || in.Number < 1 || in.Shard < 0 || in.N < 0 {
		return Event{}, fmt.Errorf("event: its ids or numbers do not read: %.200s", b)
	}
	return Event{Shard: in.Shard, Number: in.Number, Order: ID(id), N: in.N, Type: in.Type, At: MilliOf(in.At), Actor: in.Actor,
		Status: in.Status, Reason: in.Reason, User: UserID(user), Shop: ShopID(shop), Details: in.Details}, nil
}
