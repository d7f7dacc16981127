package gateway

import (
	"net/http"
	"strings"
	"testing"
)

// from makes a request as a page of an origin does, past openapi.yaml: preflights are not in it.
func (w *world) from(origin, method, path string, header map[string]string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.gateway.Addr()+path, nil)
	must(w.t, err)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	res, err := http.DefaultClient.Do(req)
	must(w.t, err)
	must(w.t, res.Body.Close())
	return res
}

// TestOrigins: pages of the origins that the options name, and no others, may send orders and read every answer.
func TestOrigins(t *testing.T) {
	t.Parallel()
	asks := map[string]string{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}
	for _, c := range []struct {
		options []string
		origin  string
		allowed bool
	}{
		{nil, "https://shop.example", false},
		{[]string{"https://shop.example"}, "https://shop.example", true},
		{[]string{"https://other.example", "https://shop.example"}, "https://shop.example", true},
		{[]string{"https://shop.example"}, "https://shop.example.evil.example", false},
		{[]string{"https://shop.example"}, "http://shop.example", false},
		{[]string{"https://shop.example"}, "null", false},
		{[]string{"https://shop.example"}, "", false},
		{[]string{"*"}, "https://whoever.example:8443", true},
	} {
		w := newWorld(t, func(o *Options) { o.CORSOrigins = c.options })
		wantOrigin, wantStatus, wantVary := "", 405, ""
		if c.allowed {
			wantOrigin, wantStatus = c.origin, 204
		}
		if len(c.options) > 0 {
			wantVary = "Origin"
		}
		res := w.from(c.origin, "OPTIONS", "/v1/orders", asks)
		if res.StatusCode != wantStatus || res.Header.Get("Access-Control-Allow-Origin") != wantOrigin || res.Header.Get("Vary") != wantVary {
			t.Errorf("%v, preflight of %q: %d %v", c.options, c.origin, res.StatusCode, res.Header)
		}
		if h := res.Header; c.allowed && (h.Get("Access-Control-Allow-Methods") != "GET, HEAD, POST" || h.Get("Access-Control-Max-Age") != "7200" ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization, Content-Type, Idempotency-Key")) {
			t.Errorf("%v, preflight of %q: %v", c.options, c.origin, h)
		}
		for path, status := range map[string]int{"/v1/offers": 200, "/v1/orders": 401, "/nowhere": 404} {
			res := w.from(c.origin, "GET", path, nil)
			if res.StatusCode != status || res.Header.Get("Access-Control-Allow-Origin") != wantOrigin ||
				strings.Contains(res.Header.Get("Access-Control-Expose-Headers"), "Retry-After") != c.allowed || res.Header.Get("Vary") != wantVary {
				t.Errorf("%v, GET %s of %q: %d %v", c.options, path, c.origin, res.StatusCode, res.Header)
			}
			if res.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials are allowed")
			}
		}
	}
}

// TestNoPreflight: OPTIONS that is no preflight is a method like others.
func TestNoPreflight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.CORSOrigins = []string{"*"} })
	for path, status := range map[string]int{"/v1/orders": 405, "/nowhere": 404} {
		if res := w.from("https://shop.example", "OPTIONS", path, nil); res.StatusCode != status {
			t.Errorf("OPTIONS %s: %d", path, res.StatusCode)
		}
	}
}

func TestValidOrigin(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{"*": true, "https://shop.example": true, "http://127.0.0.1:5173": true, "http://[::1]:80": true,
		"": false, "shop.example": false, "https://shop.example/": false, "https://Shop.example": false, "https://a.example/x": false,
		"ftp://shop.example": false, "https://": false, "https://u@shop.example": false, "https://shop.example?x": false, "null": false} {
		if err := validOrigin(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
