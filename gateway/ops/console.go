package ops

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

// The console is one page: its style and its script stand in it, and it asks nobody but this listener.
var (
	//go:embed console/page.html
	consolePage string
	//go:embed console/style.css
	consoleStyle string
	//go:embed console/script.js
	consoleScript string
)

// consoleBody is the page as it is sent, consolePolicy what a browser lets it do: run this script, ask this listener.
var consoleBody, consolePolicy = composeConsole()

func composeConsole() (body []byte, policy string) {
	page := strings.Replace(consolePage, "{{style}}", consoleStyle, 1)
	page = strings.Replace(page, "{{script}}", consoleScript, 1)
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return []byte(page), "default-src 'none'; style-src " + hash(consoleStyle) + "; script-src " + hash(consoleScript) +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// openAPI describes every route of this listener but /debug/pprof.
//
//go:embed openapi.yaml
var openAPI []byte

// describe sends openapi.yaml. It needs no token.
func describe(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, "application/yaml", openAPI)
}

// console sends the page. It needs no token and holds no secret: what it shows comes from /ops/events, with the token.
func console(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", consolePolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	write(w, http.StatusOK, "text/html; charset=utf-8", consoleBody)
}
