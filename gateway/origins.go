package gateway

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Cross-origin requests (the CORS protocol of the Fetch standard): pages of the origins that the options name may call
// this listener from a browser. No cookies are at play, so no credentials are allowed; the token is a header like others.

// anyOrigin in the options stands for every origin.
const anyOrigin = "*"

var (
	headOrigin        = []byte("Origin")
	headVary          = []byte("Vary")
	headAllowOrigin   = []byte("Access-Control-Allow-Origin")
	headAllowMethods  = []byte("Access-Control-Allow-Methods")
	headAllowHeaders  = []byte("Access-Control-Allow-Headers")
	headExposeHeaders = []byte("Access-Control-Expose-Headers")
	headMaxAge        = []byte("Access-Control-Max-Age")
	headAsksMethod    = []byte("Access-Control-Request-Method")

	valueAllowHeaders  = []byte("Authorization, Content-Type, Idempotency-Key, Sluice-User, If-None-Match, Traceparent")
	valueExposeHeaders = []byte("Location, Retry-After, ETag, Idempotent-Replayed, Server-Timing, Sluice-Request-Id")
	valueTwoHours      = []byte("7200")
)

// validOrigin tells whether text is an origin as browsers send it, or that for all of them.
func validOrigin(text string) error {
	u, err := url.Parse(text)
	if text == anyOrigin || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
		text == strings.ToLower(u.Scheme+"://"+u.Host) {
		return nil
	}
	return fmt.Errorf("must be an origin such as https://shop.example, without a path, or * for all, not %q", text)
}

// welcome lets the page that asks read the answer, if its origin is one that may.
func (c *call) welcome() (ok bool) {
	origins := c.g.opts.CORSOrigins
	if len(origins) == 0 {
		return false
	}
	h := &c.ctx.Response.Header
	h.SetCanonical(headVary, headOrigin) // a cache must not give one origin's answer to another
	origin := c.ctx.Request.Header.PeekCanonical(headOrigin)
	if len(origin) == 0 || !slices.Contains(origins, anyOrigin) && !slices.Contains(origins, string(origin)) {
		return false
	}
	h.SetCanonical(headAllowOrigin, origin)
	h.SetCanonical(headExposeHeaders, valueExposeHeaders)
	return true
}

// preflight answers a browser that asks what a page may send to this route. ok is false if this is no such question, or
// none of a page that may ask.
func (c *call) preflight(r *route) (ok bool) {
	if !c.ctx.IsOptions() || len(c.ctx.Request.Header.PeekCanonical(headAsksMethod)) == 0 || !c.welcome() {
		return false
	}
	h := &c.ctx.Response.Header
	h.SetCanonical(headAllowMethods, []byte(r.allow()))
	h.SetCanonical(headAllowHeaders, valueAllowHeaders)
	h.SetCanonical(headMaxAge, valueTwoHours)
	c.ctx.SetStatusCode(204)
	return true
}
