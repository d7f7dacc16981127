package gateway

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"
)

const (
	ordersPath = "/v1/orders"
	offersPath = "/v1/offers"
	batchPath  = "/v1/orders/batch"
	filePath   = "/openapi.yaml"
)

// route is one path and what serves it, by method; nil: not with this method. HEAD is GET without a body.
type route struct {
	path      string // at most one segment of it is {id}
	get, post func(c *call, id []byte)

	before, after string // what stands before and behind {id}; after is empty if there is none
	isOne         bool   // there is an {id}
}

// routes is every route there is. Of several that match the first one counts. openapi.yaml describes them; a test holds
// the two equal.
var routes = split([]route{
	{path: ordersPath, get: (*call).listOrders, post: (*call).placeOrder},
	{path: batchPath, post: (*call).placeBatch},
	{path: ordersPath + "/{id}", get: (*call).readOrder},
	{path: ordersPath + "/{id}/cancel", post: (*call).cancelOrder},
	{path: offersPath, get: (*call).listOffers},
	{path: offersPath + "/{id}", get: (*call).readOffer},
	{path: filePath, get: (*call).readFile},
})

func split(list []route) []route {
	for i := range list {
		r := &list[i]
		r.before, r.after, r.isOne = strings.Cut(r.path, "{id}")
	}
	return list
}

// match tells whether the route has this path, and what stands at {id}: one segment, as the path has it.
func (r *route) match(path []byte) (id []byte, ok bool) {
	if !r.isOne {
		return nil, string(path) == r.path
	}
	if len(path) < len(r.before)+len(r.after) || string(path[:len(r.before)]) != r.before ||
		string(path[len(path)-len(r.after):]) != r.after {
		return nil, false
	}
	id = path[len(r.before) : len(path)-len(r.after)]
	return id, bytes.IndexByte(id, '/') < 0
}

// serve is the handler of every request that could be read.
func (g *Gateway) serve(ctx *fasthttp.RequestCtx) {
	c := g.begin(ctx)
	defer c.end()
	c.welcome()
	if !c.admit() {
		return
	}
	path := ctx.Path()
	for i := range routes {
		if id, ok := routes[i].match(path); ok {
			c.serve(&routes[i], id)
			return
		}
	}
	c.refuse(&problem{code: codeNotFound, detail: "This address does not exist. Orders are at /v1/orders, offers at /v1/offers; " +
		"/openapi.yaml describes every route."})
}

func (c *call) serve(r *route, id []byte) {
	switch {
	case r.post != nil && c.ctx.IsPost():
		r.post(c, id)
	case r.get != nil && (c.ctx.IsGet() || c.ctx.IsHead()):
		r.get(c, id)
	case c.preflight(r):
	default:
		allow := r.allow()
		c.ctx.Response.Header.SetCanonical(headAllow, []byte(allow))
		c.refuse(&problem{code: codeMethodNotAllowed, detail: "This address takes " + allow + "."})
	}
}

// allow is what the Allow header says.
func (r *route) allow() string {
	switch {
	case r.get == nil:
		return "POST"
	case r.post == nil:
		return "GET, HEAD"
	}
	return "GET, HEAD, POST"
}
