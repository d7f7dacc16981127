package gateway

import (
	"crypto/subtle"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/engine/order"
)

// call is one request on its way through the gateway. Calls are reused; nothing of one outlives its handler.
type call struct {
	g    *Gateway
	ctx  *fasthttp.RequestCtx
	now  time.Time // when the request had arrived
	id   [16]byte  // of the request, as text
	buf  []byte    // the answer's body
	head []byte    // room for header values
	body orderBody
	code code
	// placing is true from the moment at which an order may exist of which the client has not been told.
	placing   bool
	admission admission
}

// typeNDJSON is one JSON value per line (github.com/ndjson/ndjson-spec).
const typeNDJSON = "application/x-ndjson"

var calls = sync.Pool{New: func() any { return &call{} }}

// Header names and values in the form that fasthttp sends.
var (
	headRequestID   = []byte("Sluice-Request-Id")
	headUser        = []byte("Sluice-User")
	headTiming      = []byte("Server-Timing")
	headLocation    = []byte("Location")
	headRetryAfter  = []byte("Retry-After")
	headReplayed    = []byte("Idempotent-Replayed")
	headKey         = []byte("Idempotency-Key")
	headAuth        = []byte("Authorization")
	headTraceparent = []byte("Traceparent")
	headChallenge   = []byte("Www-Authenticate")
	headAllow       = []byte("Allow")
	headCache       = []byte("Cache-Control")
	headETag        = []byte("Etag")
	headIfNoneMatch = []byte("If-None-Match")

	typeJSON    = []byte("application/json")
	typeProblem = []byte("application/problem+json")
	valueTrue   = []byte("true")
	valueBearer = []byte("Bearer")
	valueMaxAge = []byte("max-age=1")
	valueStore  = []byte("no-store")
	seconds     = [...][]byte{[]byte("1"), []byte("2"), []byte("3")}
)

// begin counts the request and gives it its id.
func (g *Gateway) begin(ctx *fasthttp.RequestCtx) *call {
	n := g.stats.in.Add(1)
	c := calls.Get().(*call)
	c.g, c.ctx, c.code, c.placing = g, ctx, codeNone, false
	if c.now = ctx.Time(); c.now.IsZero() {
		c.now = time.Now() // a request that could not be read
	}
	c.id = g.requestID(n)
	ctx.Response.Header.SetCanonical(headRequestID, c.id[:])
	return c
}

// requestID is the id of the nth request: no two of a process are the same.
func (g *Gateway) requestID(n int64) (id [16]byte) {
	number := order.SplitMix64(g.seed + uint64(n))
	for i := range id {
		id[i] = hexDigits[number>>(4*i)&0xf]
	}
	return id
}

// end counts the answer. A panic becomes an answer: what one request can trigger must not end the process.
func (c *call) end() {
	fault := recover()
	if fault != nil {
		c.g.deps.Log.Error("a request has failed", "fault", fault, "request_id", string(c.id[:]), "stack", string(debug.Stack()))
		c.ctx.Response.Reset()
		c.ctx.Response.Header.SetCanonical(headRequestID, c.id[:])
		if c.placing {
			c.refuse(&problem{code: codeOutcomeUnknown, detail: outcomeUnknown})
		} else {
			c.refuse(&problem{code: codeInternal})
		}
	}
	c.g.stats.answered(c.code)
	if c.g, c.ctx = nil, nil; fault == nil {
		calls.Put(c) // after a panic the engine may still read its body
	}
}

// send answers with c.buf.
func (c *call) send(status int) {
	r := &c.ctx.Response
	r.SetStatusCode(status)
	r.Header.SetContentTypeBytes(typeJSON)
	r.SetBody(c.buf)
}

// refuse answers with a problem document.
func (c *call) refuse(p *problem) {
	c.code = p.code
	c.buf = appendProblem(c.buf[:0], p, c.id[:])
	c.send(problems[p.code].status)
	h := &c.ctx.Response.Header
	h.SetContentTypeBytes(typeProblem)
	switch p.code {
	case codeUnauthenticated:
		h.SetCanonical(headChallenge, valueBearer)
	case codeRateLimited:
		c.head = appendRetryAfter(c.head[:0], p.limited.wait)
		h.SetCanonical(headRetryAfter, c.head)
	case codeOverloaded, codeNotReady, codeOutcomeUnknown, codeStillPending:
		h.SetCanonical(headRetryAfter, c.spread())
	}
}

// invalid refuses one input outside the body.
func (c *call) invalid(pointer, detail string) {
	c.refuse(&problem{code: codeInvalidRequest, detail: pointer + " " + detail + ".",
		errors: []fieldError{{pointer, detail}}})
}

// spread is 1 to 3 seconds, so that those who were turned away together do not come back together.
func (c *call) spread() []byte { return seconds[int(c.id[0])%len(seconds)] }

// user is who the request acts for, if the limit per user lets him. ok is false if it was refused.
func (c *call) user() (u order.UserID, ok bool) {
	if u, ok = c.authenticated(); !ok {
		return 0, false
	}
	return u, c.pass(c.admission.takeUser(u))
}

// authenticated is who the request acts for. ok is false if it was refused.
func (c *call) authenticated() (u order.UserID, ok bool) {
	h := &c.ctx.Request.Header
	token, bearer := bearerToken(h.PeekCanonical(headAuth))
	as := h.PeekCanonical(headUser)
	if bearer {
		if u, ok = c.g.tokens.verify(token, c.now); ok && len(as) == 0 {
			return u, true
		}
	}
	switch {
	case ok:
		c.refuse(&problem{code: codeForbidden, detail: "Only a service token may name a user with Sluice-User."})
	case !bearer:
		c.refuse(&problem{code: codeUnauthenticated, detail: "Send a token: Authorization: Bearer TOKEN."})
	case !c.g.isService(token):
		c.refuse(&problem{code: codeUnauthenticated, detail: c.g.tokens.why(token, c.now)})
	case len(as) == 0:
		c.refuse(&problem{code: codeForbidden, detail: "A service token acts for a user: name one with Sluice-User."})
	default:
		if u, ok = parseUser(as); ok {
			return u, true
		}
		c.invalid("Sluice-User", "must be a user id")
	}
	return 0, false
}

// bearerToken is the token of an Authorization header. The scheme's case does not matter.
func bearerToken(header []byte) (token []byte, ok bool) {
	const scheme = "bearer "
	if len(header) <= len(scheme) {
		return nil, false
	}
	for i := range scheme {
		c := header[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != scheme[i] {
			return nil, false
		}
	}
	return header[len(scheme):], true
}

// hasServiceToken tells whether the request comes from one of the shop's own servers.
func (c *call) hasServiceToken() bool {
	token, bearer := bearerToken(c.ctx.Request.Header.PeekCanonical(headAuth))
	return bearer && c.g.isService(token)
}

// isService tells whether token is one of the shop's own servers.
func (g *Gateway) isService(token []byte) bool {
	found := 0
	for _, t := range *g.services.Load() {
		found |= subtle.ConstantTimeCompare([]byte(t), token)
	}
	return found == 1
}

// location sets the address of the order.
func (c *call) location(id order.ID) {
	c.head = strconv.AppendUint(append(c.head[:0], "/v1/orders/"...), uint64(id), 10)
	c.ctx.Response.Header.SetCanonical(headLocation, c.head)
}
