package gateway

import (
	"bytes"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine"
	"sluice/engine/order"
)

// offerLists are the lists of the catalogue, made anew after a change, at most once a second.
type offerLists struct {
	making sync.Mutex
	made   atomic.Pointer[madeLists]
}

// listKey names a list: zero values do not narrow it.
type listKey struct {
	kind order.Kind
	shop order.ShopID
}

type madeLists struct {
	looked time.Time // when the catalogue was asked
	all    []*engine.Offer
	lists  map[listKey][]*engine.Offer // all but the list of all
}

const offerListsAge = time.Second

// of lists the offers of a key in the order of their ids. Nobody but the first waits while lists are made anew.
func (l *offerLists) of(c Catalogue, key listKey) []*engine.Offer {
	made := l.made.Load()
	switch {
	case made == nil:
		l.making.Lock()
		made = l.refresh(c)
	case time.Since(made.looked) > offerListsAge && l.making.TryLock():
		made = l.refresh(c)
	}
	if key == (listKey{}) {
		return made.all
	}
	return made.lists[key]
}

// refresh makes the lists anew if the catalogue has changed. The caller holds making, which is given back.
func (l *offerLists) refresh(c Catalogue) *madeLists {
	defer l.making.Unlock()
	old := l.made.Load()
	if old != nil && time.Since(old.looked) <= offerListsAge {
		return old
	}
	fresh := &madeLists{looked: time.Now(), all: c.Offers()}
	if old != nil && sameSlice(old.all, fresh.all) {
		fresh.lists = old.lists
	} else {
		fresh.lists = make(map[listKey][]*engine.Offer)
		for _, o := range fresh.all {
			for _, key := range [...]listKey{{kind: o.Kind}, {shop: o.Shop}, {o.Kind, o.Shop}} {
				fresh.lists[key] = append(fresh.lists[key], o)
			}
		}
	}
	l.made.Store(fresh)
	return fresh
}

func sameSlice(a, b []*engine.Offer) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// readOffer is GET /v1/offers/{id}. It needs no token: it says what every buyer may see, and caches may keep it.
func (c *call) readOffer(path []byte) {
	id, ok := parseID(path)
	var o *engine.Offer
	if ok {
		o = c.g.deps.Catalogue.Offer(order.OfferID(id))
	}
	if o == nil {
		c.refuse(&problem{code: codeOfferNotFound, detail: "There is no offer with this id" + c.g.noOffer + "."})
		return
	}
	now := order.MilliOf(c.now)
	left := o.Left()
	c.buf = appendOffer(c.buf[:0], &o.Offer, left, o.State(now, left))
	c.answerOffers(now)
}

// listOffers is GET /v1/offers.
func (c *call) listOffers([]byte) {
	args := c.ctx.QueryArgs()
	limit, ok := c.limit()
	if !ok {
		return
	}
	after, ok := c.cursor()
	if !ok {
		return
	}
	var kind order.Kind
	if args.Has("kind") {
		if kind, ok = order.ParseKind(string(args.Peek("kind"))); !ok {
			c.invalid("?kind", "must be normal or flash")
			return
		}
	}
	var shop uint64
	if args.Has("shop_id") {
		if shop, ok = parseID(args.Peek("shop_id")); !ok {
			c.invalid("?shop_id", "must be the id of a shop")
			return
		}
	}
	now := order.MilliOf(c.now)
	list := c.g.offers.of(c.g.deps.Catalogue, listKey{kind, order.ShopID(shop)})
	c.appendPage(list, page{after: order.OfferID(after), limit: limit, now: now})
	c.answerOffers(now)
}

type page struct {
	after order.OfferID
	limit int
	now   order.Milli
}

// appendPage makes c.buf the part of list that p names, without the closing brace.
func (c *call) appendPage(list []*engine.Offer, p page) {
	c.buf = append(c.buf[:0], `{"data":[`...)
	first := sort.Search(len(list), func(i int) bool { return list[i].ID > p.after })
	n, last := 0, order.OfferID(0)
	for _, o := range list[first:] {
		if n == p.limit {
			c.buf = appendID(append(c.buf, `],"next_cursor":"`...), uint64(last))
			return
		}
		if n++; n > 1 {
			c.buf = append(c.buf, ',')
		}
		left := o.Left()
		c.buf = append(appendOffer(c.buf, &o.Offer, left, o.State(p.now, left)), '}')
		last = o.ID
	}
	c.buf = append(c.buf, `],"next_cursor":null`...)
}

// answerOffers adds the server's time to the object in c.buf and sends it, or says that the client has it already. The
// tag is a weak one: it stands for everything but the time.
func (c *call) answerOffers(now order.Milli) {
	tag := order.Hash(0, c.buf)
	c.head = append(c.head[:0], `W/"`...)
	for shift := 60; shift >= 0; shift -= 4 {
		c.head = append(c.head, hexDigits[tag>>shift&0xf])
	}
	c.head = append(c.head, '"')
	h := &c.ctx.Response.Header
	h.SetCanonical(headETag, c.head)
	h.SetCanonical(headCache, valueMaxAge)
	if bytes.Contains(c.ctx.Request.Header.PeekCanonical(headIfNoneMatch), c.head) {
		c.ctx.Response.SetStatusCode(304)
		return
	}
	c.buf = append(appendTime(append(c.buf, `,"server_time":`...), now), '}')
	c.send(200)
}
