package gateway

import (
	"bytes"
	"sort"
	"sync"
	"time"

	"sluice/engine"
	"sluice/engine/order"
)

// offersPage is the catalogue sorted for lists, made anew at most once a second.
type offersPage struct {
	mu     sync.Mutex
	made   time.Time
	all    []*engine.Offer
	byKind map[order.Kind][]*engine.Offer
	byShop map[order.ShopID][]*engine.Offer
}

const offersPageAge = time.Second

// of lists the offers of a kind (0: any), or of a shop, in the order of their ids. A shop's offers are of both kinds.
func (p *offersPage) of(c Catalogue, kind order.Kind, shop order.ShopID) []*engine.Offer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.made) > offersPageAge {
		p.all = c.Offers()
		p.byKind, p.byShop = map[order.Kind][]*engine.Offer{}, map[order.ShopID][]*engine.Offer{}
		for _, o := range p.all {
			p.byKind[o.Kind] = append(p.byKind[o.Kind], o)
			p.byShop[o.Shop] = append(p.byShop[o.Shop], o)
		}
		p.made = time.Now()
	}
	switch {
	case shop != 0:
		return p.byShop[shop]
	case kind != 0:
		return p.byKind[kind]
	}
	return p.all
}

// readOffer is GET /v1/offers/{id}. It needs no token: it says what every buyer may see, and caches may keep it.
func (c *call) readOffer(path []byte) {
	id, ok := parseID(path)
	var o *engine.Offer
	if ok {
		o = c.g.deps.Catalogue.Offer(order.OfferID(id))
	}
	if o == nil {
		c.refuse(&problem{code: codeOfferNotFound, detail: "There is no offer with this id, or it is too new."})
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
	c.appendPage(c.g.offers.of(c.g.deps.Catalogue, kind, order.ShopID(shop)), page{after: order.OfferID(after), kind: kind,
		limit: limit, now: now})
	c.answerOffers(now)
}

type page struct {
	after order.OfferID
	kind  order.Kind // 0: any
	limit int
	now   order.Milli
}

// appendPage makes c.buf the part of list that p names, without the closing brace.
func (c *call) appendPage(list []*engine.Offer, p page) {
	c.buf = append(c.buf[:0], `{"data":[`...)
	first := sort.Search(len(list), func(i int) bool { return list[i].ID > p.after })
	n, last := 0, order.OfferID(0)
	for _, o := range list[first:] {
		if p.kind != 0 && o.Kind != p.kind {
			continue
		}
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
