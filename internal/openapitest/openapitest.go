// Package openapitest holds a server to its OpenAPI file, for tests. Nothing of it is in the program.
package openapitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// Contract is a file, made strict: answers may have those fields only that it names. It is safe for concurrent use.
type Contract struct {
	doc  *openapi3.T
	mux  *http.ServeMux // finds the route of a request, as the server does
	mu   sync.Mutex
	seen map[string]bool // such as "GET /ops/offers 400"
}

// Load reads a file.
func Load(text []byte) (*Contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err == nil {
		err = doc.Validate(context.Background())
	}
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	c := &Contract{doc: doc, mux: http.NewServeMux(), seen: map[string]bool{}}
	no := false
	for _, s := range doc.Components.Schemas {
		if extra := &s.Value.AdditionalProperties; s.Value.Type.Is("object") && extra.Has == nil && extra.Schema == nil {
			extra.Has = &no
		}
	}
	for _, pattern := range c.Patterns() {
		c.mux.Handle(pattern, http.NotFoundHandler())
	}
	return c, nil
}

// Patterns lists the file's routes as http.ServeMux takes them, sorted.
func (c *Contract) Patterns() []string {
	var list []string
	for path, item := range c.doc.Paths.Map() {
		for method := range item.Operations() {
			list = append(list, strings.TrimSuffix(method+" "+path, " /")+map[bool]string{true: " /{$}"}[path == "/"])
		}
	}
	slices.Sort(list)
	return list
}

// Codes gives every problem code of the file with its statuses.
func (c *Contract) Codes() map[string][]int {
	codes := map[string][]int{}
	for _, r := range c.doc.Components.Responses {
		properties := r.Value.Content["application/problem+json"].Schema.Value.AllOf[1].Value.Properties
		for _, code := range properties["code"].Value.Enum {
			for _, status := range properties["status"].Value.Enum {
				if !slices.Contains(codes[code.(string)], int(status.(float64))) {
					codes[code.(string)] = append(codes[code.(string)], int(status.(float64)))
				}
			}
		}
	}
	for _, statuses := range codes {
		slices.Sort(statuses)
	}
	return codes
}

// Promised lists the answers that the file has and Check was not shown, such as "GET /ops/offers 400", sorted.
func (c *Contract) Promised() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, pattern := range c.Patterns() {
		for status := range c.operation(pattern).Responses.Map() {
			if what := pattern + " " + status; !c.seen[what] {
				list = append(list, what)
			}
		}
	}
	slices.Sort(list)
	return list
}

func (c *Contract) operation(pattern string) *openapi3.Operation {
	method, path, _ := strings.Cut(pattern, " ")
	return c.doc.Paths.Value(strings.TrimSuffix(path, "{$}")).GetOperation(method)
}

// Check tells why an answer is not one that the file has for its request. What no route takes may be told so.
func (c *Contract) Check(r *http.Request, status int, header http.Header, body []byte) error {
	_, pattern := c.mux.Handler(&http.Request{Method: r.Method, Host: r.Host, URL: r.URL})
	if pattern == "" {
		if status == 401 || status == 404 || status == 405 {
			return nil
		}
		return fmt.Errorf("%s %s is no route of openapi.yaml", r.Method, r.URL.Path)
	}
	promise := c.operation(pattern).Responses.Status(status)
	if promise == nil {
		return fmt.Errorf("%s: openapi.yaml has no status %d", pattern, status)
	}
	c.mu.Lock()
	c.seen[fmt.Sprint(pattern, " ", status)] = true
	c.mu.Unlock()
	given, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	content := promise.Value.Content[given]
	if err != nil || content == nil {
		return fmt.Errorf("%s %d: openapi.yaml has no content type %q", pattern, status, header.Get("Content-Type"))
	}
	if !strings.HasSuffix(given, "json") {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	for {
		var value any
		if err := d.Decode(&value); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s %d: %w", pattern, status, err)
		}
		if err := content.Schema.Value.VisitJSON(value, openapi3.MultiErrors()); err != nil {
			return fmt.Errorf("%s %d against openapi.yaml: %w", pattern, status, err)
		}
	}
}
