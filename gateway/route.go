package gateway

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

const (
	ordersPath = "/v1/orders"
	offersPath = "/v1/offers"
	batchPath  = "/v1/orders/batch"
)

// serve is the handler of every request that could be read.
func (g *Gateway) serve(ctx *fasthttp.RequestCtx) {
	c := g.begin(ctx)
	defer c.end()
	if !c.admit() {
		return
	}
	path := ctx.Path()
	switch {
	case string(path) == ordersPath:
		c.routeOrders()
	case string(path) == batchPath:
		c.only("POST", (*call).placeBatch)
	case string(path) == offersPath:
		c.only("GET", (*call).listOffers)
	case bytes.HasPrefix(path, []byte(ordersPath+"/")):
		id, action, found := bytes.Cut(path[len(ordersPath)+1:], []byte("/"))
		switch {
		case !found:
			c.onlyID("GET", id, (*call).readOrder)
		case string(action) == "cancel":
			c.onlyID("POST", id, (*call).cancelOrder)
		default:
			c.noRoute()
		}
	case bytes.HasPrefix(path, []byte(offersPath+"/")):
		if id := path[len(offersPath)+1:]; bytes.IndexByte(id, '/') < 0 {
			c.onlyID("GET", id, (*call).readOffer)
		} else {
			c.noRoute()
		}
	default:
		c.noRoute()
	}
}

func (c *call) routeOrders() {
	switch {
	case c.ctx.IsPost():
		c.placeOrder()
	case c.ctx.IsGet() || c.ctx.IsHead():
		c.listOrders()
	default:
		c.noMethod("GET, HEAD, POST")
	}
}

// is tells whether the request has the method, or HEAD for GET.
func (c *call) is(method string) bool {
	return string(c.ctx.Method()) == method || method == "GET" && c.ctx.IsHead()
}

func (c *call) only(method string, f func(*call)) {
	if c.is(method) {
		f(c)
		return
	}
	c.noMethod(allowed(method))
}

// onlyID is only for routes about one thing. The id is as the path has it.
func (c *call) onlyID(method string, id []byte, f func(*call, []byte)) {
	if c.is(method) {
		f(c, id)
		return
	}
	c.noMethod(allowed(method))
}

func allowed(method string) string {
	if method == "GET" {
		return "GET, HEAD"
	}
	return method
}

func (c *call) noRoute() {
	c.refuse(&problem{code: codeNotFound, detail: "This address does not exist. Orders are at /v1/orders, offers at /v1/offers."})
}

func (c *call) noMethod(allow string) {
	c.ctx.Response.Header.SetCanonical(headAllow, []byte(allow))
	c.refuse(&problem{code: codeMethodNotAllowed, detail: "This address takes " + allow + "."})
}
