package load

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"sluice/engine/order"
)

// Spec describes requests to build. Every request has its own token (never used before), and unless Keyless its own
// idempotency key.
type Spec struct {
	Count    int
	Users    int           // distinct users, used in turn; 0: as many as requests
	Random   bool          // users at random instead of in turn
	Offer    order.OfferID // what is bought
	Quantity int           // units of one order; 0 means 1
	Keyless  bool
	Details  int       // bytes of the details object, at least DetailsMin; 0: none
	Secret   []byte    // HS256 secret of the server
	Expires  time.Time // of the first token; each later token expires a second later, which makes it another token
	Seed     uint64    // other seeds give other users and keys
	Host     string    // of the Host header
	Wait     int       // seconds of ?wait=; 0: none
	// Lines is the orders of one send: that many go to the batch endpoint together, with the service token. 0: a send is
	// one order of its buyer. Count becomes a multiple of it.
	Lines   int
	Service string // the service token; of batches only
	// Shops makes the orders carts instead of orders of Offer: of 1 to CartMax offers of one shop, at random.
	Shops   [][]order.OfferID
	CartMax int
}

// Requests are built orders. They are immutable and safe for concurrent use.
type Requests struct {
	spec  Spec
	sends [][]byte // of carts: they differ in size
	// Of all others: sends of one size, one after the other.
	stride int
	data   []byte
}

// DetailsMin is the least size of a details object that Spec.Details may ask for.
const DetailsMin = 160

const (
	userDigits  = 18
	keyBytes    = 20
	tokenHeader = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" // {"alg":"HS256","typ":"JWT"}
)

// Describe gives the requests without their bytes, for who sends them by other means: Bytes and Write are not to be called.
func Describe(s Spec) (*Requests, error) {
	if s.Count <= 0 || len(s.Secret) == 0 || s.Offer == 0 && len(s.Shops) == 0 {
		return nil, errors.New("requests need a count, a secret and an offer")
	}
	if s.Details != 0 && s.Details < DetailsMin {
		return nil, fmt.Errorf("details of %d bytes are too small: at least %d", s.Details, DetailsMin)
	}
	if s.Lines > 0 {
		s.Count = max(s.Count/s.Lines, 1) * s.Lines
	}
	if s.Users <= 0 {
		s.Users = s.Count
	}
	s.Quantity = max(s.Quantity, 1)
	return &Requests{spec: s}, nil
}

// Build builds the requests, on all cores.
func Build(s Spec) (*Requests, error) {
	r, err := Describe(s)
	if err != nil {
		return nil, err
	}
	sends := r.Sends()
	if len(s.Shops) > 0 {
		r.sends = make([][]byte, sends)
	} else {
		r.stride = len(newWriter(r).append(nil, 0))
		r.data = make([]byte, r.stride*sends)
	}
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rw := newWriter(r)
			for i := sends * w / workers; i < sends*(w+1)/workers; i++ {
				if r.sends != nil {
					r.sends[i] = rw.append(nil, i)
					continue
				}
				at := i * r.stride
				if got := rw.append(r.data[at:at:at+r.stride], i); len(got) != r.stride {
					panic("BUG: requests differ in size")
				}
			}
		})
	}
	wg.Wait()
	return r, nil
}

// Len is the number of orders.
func (r *Requests) Len() int { return r.spec.Count }

// Lines is the orders of one send.
func (r *Requests) Lines() int { return max(r.spec.Lines, 1) }

// Sends is the number of sends: send i has the orders from i*Lines on.
func (r *Requests) Sends() int { return r.spec.Count / r.Lines() }

// Bytes is send i as it goes over the wire. It must not be written to.
func (r *Requests) Bytes(i int) []byte {
	if r.sends != nil {
		return r.sends[i]
	}
	return r.data[i*r.stride : (i+1)*r.stride : (i+1)*r.stride]
}

// User is the buyer of order i.
func (r *Requests) User(i int) order.UserID {
	const from = 1e17
	at := uint64(i)
	if r.spec.Random {
		at = order.SplitMix64(order.SplitMix64(r.spec.Seed+3) + at)
	}
	return order.UserID(from + order.SplitMix64(order.SplitMix64(r.spec.Seed)+at%uint64(r.spec.Users))%(9*from))
}

// Key is the idempotency key of order i; empty if the orders have none.
func (r *Requests) Key(i int) string {
	if r.spec.Keyless {
		return ""
	}
	return string(appendKey(nil, r.spec.Seed, i))
}

// Units is what order i asks for.
func (r *Requests) Units(i int) int {
	if len(r.spec.Shops) > 0 {
		return r.spec.Quantity * len(r.Cart(i))
	}
	return r.spec.Quantity
}

// Spec is what they were built from.
func (r *Requests) Spec() Spec { return r.spec }

// Offer is what the orders buy; 0 of carts.
func (r *Requests) Offer() order.OfferID { return r.spec.Offer }

// Token is the bearer token of the buyer of order i.
func (r *Requests) Token(i int) string {
	return string(newWriter(r).appendToken(nil, i))
}

// Cart is the offers of order i.
func (r *Requests) Cart(i int) []order.OfferID { return r.spec.cart(i) }

// Body is the JSON body of order i.
func (r *Requests) Body(i int) []byte { return newWriter(r).appendBody(nil, i) }

// Write stores the requests in a file, one after the other, for a generator outside. All have the size of the first.
func (r *Requests) Write(path string) error {
	if r.sends != nil {
		return errors.New("carts differ in size: they cannot be written as one file")
	}
	return os.WriteFile(path, r.data, 0o600)
}

func appendKey(b []byte, seed uint64, i int) []byte {
	const hex = "0123456789abcdef"
	b = append(b, "key-"...)
	h := order.SplitMix64(order.SplitMix64(^seed) + uint64(i))
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hex[h>>shift&15])
	}
	return b
}

// writer appends requests; it belongs to one goroutine.
type writer struct {
	r       *Requests
	mac     interface{ Write([]byte) (int, error) }
	sum     func([]byte) []byte
	reset   func()
	claims  []byte
	scratch []byte
	body    []byte
}

func newWriter(r *Requests) *writer {
	mac := hmac.New(sha256.New, r.spec.Secret)
	return &writer{r: r, mac: mac, sum: mac.Sum, reset: mac.Reset}
}

// append appends send i.
func (w *writer) append(b []byte, i int) []byte {
	s := &w.r.spec
	if s.Lines > 0 {
		return w.appendBatch(b, i)
	}
	b = append(b, "POST /v1/orders"...)
	if s.Wait > 0 {
		b = strconv.AppendInt(append(b, "?wait="...), int64(s.Wait), 10)
	}
	b = append(append(b, " HTTP/1.1\r\nHost: "...), s.Host...)
	b = append(b, "\r\nContent-Type: application/json\r\nAuthorization: Bearer "...)
	b = w.appendToken(b, i)
	if !s.Keyless {
		b = appendKey(append(b, "\r\nIdempotency-Key: "...), s.Seed, i)
	}
	w.body = w.appendBody(w.body[:0], i)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(w.body)), 10)
	return append(append(b, "\r\n\r\n"...), w.body...)
}

// appendBatch appends a request with the orders of send i, a line each.
func (w *writer) appendBatch(b []byte, i int) []byte {
	s := &w.r.spec
	w.body = w.body[:0]
	for at := i * s.Lines; at < (i+1)*s.Lines; at++ {
		w.body = strconv.AppendUint(append(w.body, `{"user_id":"`...), uint64(w.r.User(at)), 10)
		w.body = append(w.body, '"')
		if !s.Keyless {
			w.body = append(appendKey(append(w.body, `,"idempotency_key":"`...), s.Seed, at), '"')
		}
		start := len(w.body)
		w.body = w.appendBody(w.body, at)
		w.body[start] = ',' // the order's members follow those of the line
		w.body = append(w.body, '\n')
	}
	b = append(append(b, "POST /v1/orders/batch HTTP/1.1\r\nHost: "...), s.Host...)
	b = append(append(b, "\r\nContent-Type: application/x-ndjson\r\nAuthorization: Bearer "...), s.Service...)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(w.body)), 10)
	return append(append(b, "\r\n\r\n"...), w.body...)
}

func (w *writer) appendBody(b []byte, i int) []byte {
	s := &w.r.spec
	b = append(b, `{"items":[`...)
	for n, offer := range s.cart(i) {
		if n > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(b, `{"offer_id":"`...), uint64(offer), 10)
		b = append(strconv.AppendInt(append(b, `","quantity":`...), int64(s.Quantity), 10), '}')
	}
	b = append(b, ']')
	if s.Details > 0 {
		b = w.appendDetails(append(b, `,"details":`...), i)
	}
	return append(b, '}')
}

// cart is what order i buys: neighbours in the list of a shop.
func (s *Spec) cart(i int) []order.OfferID {
	if len(s.Shops) == 0 {
		return []order.OfferID{s.Offer}
	}
	h := order.SplitMix64(order.SplitMix64(s.Seed+1) + uint64(i))
	shop := s.Shops[h%uint64(len(s.Shops))]
	size := 1 + int(h>>16%uint64(max(1, min(s.CartMax, len(shop)))))
	from := int(h >> 32 % uint64(len(shop)-size+1))
	return shop[from : from+size]
}

// appendDetails appends a details object of exactly Details bytes, the filler in the address line.
func (w *writer) appendDetails(b []byte, i int) []byte {
	start := len(b)
	user := uint64(w.r.User(i))
	b = strconv.AppendUint(append(b, `{"address":{"name":"Buyer `...), user%1e6+1e6, 10)
	b = strconv.AppendUint(append(b, `","phone":"+86139`...), user%1e8+1e8, 10)
	b = append(b, `","region":"Zhejiang/Hangzhou","line":"`...)
	const tail = `","postcode":"310000"},"delivery_method":"express"}`
	for len(b)-start+len(tail) < w.r.spec.Details {
		b = append(b, "No. 27 Long Street, "[(len(b)-start)%20])
	}
	return append(b, tail...)
}

func (w *writer) appendToken(b []byte, i int) []byte {
	start := len(b)
	b = append(append(b, tokenHeader...), '.')
	w.claims = append(w.claims[:0], `{"sub":"`...)
	w.claims = strconv.AppendUint(w.claims, uint64(w.r.User(i)), 10)
	w.claims = append(w.claims, `","exp":`...)
	w.claims = strconv.AppendInt(w.claims, w.r.spec.Expires.Unix()+int64(i), 10)
	w.claims = append(w.claims, '}')
	b = base64.RawURLEncoding.AppendEncode(b, w.claims)
	w.reset()
	_, _ = w.mac.Write(b[start:])
	w.scratch = w.sum(w.scratch[:0])
	return base64.RawURLEncoding.AppendEncode(append(b, '.'), w.scratch)
}
