package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// described is openapi.yaml, made strict: it says that answers may get new fields, but those that this server sends must
// all be in it.
var described = sync.OnceValue(func() *openapi3.T {
	openapi3filter.RegisterBodyDecoder(typeNDJSON, decodeLines)
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err == nil {
		err = doc.Validate(context.Background())
	}
	if err != nil {
		panic(fmt.Sprint("BUG: openapi.yaml: ", err))
	}
	no := false
	for _, s := range doc.Components.Schemas {
		if s.Value.Type.Is("object") {
			s.Value.AdditionalProperties.Has = &no
		}
	}
	return doc
})

// decodeLines reads NDJSON as an array.
func decodeLines(r io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
	list := []any{}
	for d := json.NewDecoder(r); ; {
		var v any
		err := d.Decode(&v)
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}

// contract holds requests and answers to openapi.yaml, and remembers which of its answers it has seen.
type contract struct {
	doc  *openapi3.T
	mu   sync.Mutex
	seen map[string]bool // such as "POST /v1/orders 409 sold_out"; without a code for what is no problem
}

func newContract() *contract { return &contract{doc: described(), seen: map[string]bool{}} }

// operation is the template and the operation of a request; nil if the file has none.
func (x *contract) operation(method, path string) (template string, op *openapi3.Operation) {
	for i := range routes {
		if _, ok := routes[i].match([]byte(path)); ok {
			if method == "HEAD" {
				method = "GET"
			}
			if item := x.doc.Paths.Value(routes[i].path); item != nil {
				op = item.GetOperation(method)
			}
			return routes[i].path, op
		}
	}
	return "", nil
}

// check fails the test unless the answer is one that the file has for this request; and the request, if it was served, one
// that the file allows.
func (x *contract) check(t testing.TB, r *http.Request, body string, a answer) {
	t.Helper()
	template, op := x.operation(r.Method, r.URL.EscapedPath())
	fail := func(err error) {
		t.Helper()
		t.Errorf("%s %s against openapi.yaml: %v\nrequest %s\nanswer %d %v %s", r.Method, r.URL, err, body, a.status, a.header, a.raw)
	}
	if op == nil {
		want := map[int]string{404: "NoSuchOrder", 405: "MethodNotAllowed", 429: "RateLimited"}[a.status]
		if want == "" || template != "" && a.status == 404 {
			fail(errors.New("it has no such route"))
		} else if a.raw != "" {
			if err := x.fits(x.doc.Components.Responses[want].Value.Content["application/problem+json"].Schema, a.raw); err != nil {
				fail(err)
			}
		}
		return
	}
	x.mu.Lock()
	x.seen[strings.TrimSpace(fmt.Sprintf("%s %s %d %s", r.Method, template, a.status, a.text("code")))] = true
	x.mu.Unlock()
	response := op.Responses.Status(a.status)
	if response == nil {
		fail(fmt.Errorf("status %d is not in it", a.status))
		return
	}
	for name := range a.header {
		if !slices.Contains([]string{"Date", "Content-Type", "Content-Length", "Connection"}, name) && header(response.Value, name) == nil {
			fail(fmt.Errorf("header %s is not in it", name))
		}
	}
	if err := x.validate(r, template, op, body, a); err != nil {
		fail(err)
	}
}

func header(r *openapi3.Response, name string) *openapi3.HeaderRef {
	for n, h := range r.Headers {
		if http.CanonicalHeaderKey(n) == name {
			return h
		}
	}
	return nil
}

func (x *contract) validate(r *http.Request, template string, op *openapi3.Operation, body string, a answer) error {
	r = r.Clone(context.Background())
	r.Body = io.NopCloser(strings.NewReader(body))
	options := &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
	var route *route
	for i := range routes {
		if routes[i].path == template {
			route = &routes[i]
		}
	}
	id, _ := route.match([]byte(r.URL.EscapedPath()))
	in := &openapi3filter.RequestValidationInput{Request: r, Options: options, PathParams: map[string]string{"id": string(id)},
		Route: &routers.Route{Spec: x.doc, Path: template, PathItem: x.doc.Paths.Value(template), Method: r.Method, Operation: op}}
	badLines := template == batchPath && strings.Contains(a.raw, `"status":4`) // they fail alone
	if a.status < 400 && !badLines && (body != "" || op.RequestBody == nil) {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			return err
		}
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{RequestValidationInput: in,
		Status: a.status, Header: a.header, Body: io.NopCloser(strings.NewReader(a.raw)), Options: options})
}

// fits tells whether a JSON text fits a schema.
func (x *contract) fits(schema *openapi3.SchemaRef, text string) error {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	return schema.Value.VisitJSON(v)
}

// codesOf are the problem codes that a response names; nil if it is no problem.
func codesOf(t testing.TB, r *openapi3.Response) (codes []string) {
	t.Helper()
	media := r.Content["application/problem+json"]
	if media == nil {
		return nil
	}
	for _, s := range media.Schema.Value.AllOf {
		if code := s.Value.Properties["code"]; code != nil {
			for _, c := range code.Value.Enum {
				codes = append(codes, c.(string))
			}
		}
	}
	if len(codes) == 0 {
		t.Fatalf("a problem without codes: %s", *r.Description)
	}
	return codes
}
