package gateway

import (
	"bytes"
	_ "embed"
	"strconv"

	"sluice/engine/order"
)

// openAPI describes every route, parameter, answer and problem code for those who write clients. A test holds it and the
// server equal.
//
//go:embed openapi.yaml
var openAPI []byte

var (
	openAPITag  = []byte(`"` + strconv.FormatUint(order.Hash(0, openAPI), 16) + `"`)
	typeYAML    = []byte("application/yaml")
	valueMinute = []byte("max-age=60")
)

// readFile is GET /openapi.yaml. It needs no token.
func (c *call) readFile([]byte) {
	r := &c.ctx.Response
	r.Header.SetCanonical(headETag, openAPITag)
	r.Header.SetCanonical(headCache, valueMinute)
	if bytes.Contains(c.ctx.Request.Header.PeekCanonical(headIfNoneMatch), openAPITag) {
		r.SetStatusCode(304)
		return
	}
	r.Header.SetContentTypeBytes(typeYAML)
	r.SetBodyRaw(openAPI)
}
