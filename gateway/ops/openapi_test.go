package ops_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
	"sluice/gateway/ops"
	"sluice/internal/openapitest"
)

// contract is openapi.yaml. Every answer in the tests of this package is held to it.
var contract = func() *openapitest.Contract {
	c, err := openapitest.Load(ops.OpenAPI)
	if err != nil {
		panic(err)
	}
	return c
}()

// TestMain runs the tests; when all of them have run, nothing may be promised that none of them was answered.
func TestMain(m *testing.M) {
	code := m.Run()
	if all := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""; all && code == 0 {
		missing := slices.DeleteFunc(contract.Promised(), func(what string) bool {
			return strings.Contains(what, " 5") // faults are tested where they are made
		})
		if len(missing) > 0 {
			fmt.Printf("openapi.yaml promises what was never answered:\n%s\n", strings.Join(missing, "\n"))
			code = 1
		}
	}
	os.Exit(code)
}

// The file has the routes of the listener, and no others.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	want := l.server.Patterns()
	slices.Sort(want)
	if diff := cmp.Diff(want, contract.Patterns()); diff != "" {
		t.Errorf("routes (-), openapi.yaml (+):\n%s", diff)
	}
	if status, body := l.call("GET", "/openapi.yaml", "", ""); status != 200 || body != string(ops.OpenAPI) {
		t.Errorf("GET /openapi.yaml: %d %.60s", status, body)
	}
}

// Every route but the open ones needs the token, and is 404 in a process that does not have it.
func TestEveryRouteIsGuarded(t *testing.T) {
	t.Parallel()
	l := start(t, func(p *ops.Program) { *p = ops.Program{Missing: p.Missing} })
	for _, pattern := range contract.Patterns() {
		method, path, _ := strings.Cut(regexp.MustCompile(`{\w+}`).ReplaceAllString(pattern, "1"), " ")
		if path = strings.TrimSuffix(path, "{$}"); slices.Contains([]string{"/", "/healthz", "/readyz", "/openapi.yaml"}, path) {
			if status, body := l.call(method, path, "", ""); status != 200 {
				t.Errorf("%s without a token: %d %s", pattern, status, body)
			}
			continue
		}
		if status, body := l.call(method, path, "", ""); status != 401 {
			t.Errorf("%s without a token: %d %s", pattern, status, body)
		}
		if status, body := l.ask(method, path, ""); status != 404 || !strings.Contains(body, `"code":"not_found"`) {
			t.Errorf("%s in a process without it: %d %s", pattern, status, body)
		}
	}
}

// shelf is a catalogue of one offer.
type shelf struct {
	slowCatalogue
	offer order.Offer
}

func (c *shelf) Offer(id order.OfferID) (order.Offer, int64, bool) {
	return c.offer, 3, id == c.offer.ID
}
func (c *shelf) Offers(order.OfferID) iter.Seq[*order.Offer] {
	return func(yield func(*order.Offer) bool) { yield(&c.offer) }
}

// TestAnswersOfTheProgram: what the program hands out is answered as the file says.
func TestAnswersOfTheProgram(t *testing.T) {
	t.Parallel()
	fixed := &ops.Problem{Status: 409, Code: "fixed_setting", Errors: []ops.FieldProblem{{Pointer: "data_dir", Detail: "is fixed"}}}
	reloads := []error{nil, fixed, &ops.Problem{Status: 422, Code: "invalid_configuration", Detail: "Nothing was changed."}}
	l := start(t, func(p *ops.Program) {
		p.Catalogue = &shelf{slowCatalogue{time.Now().Add(time.Hour)}, order.Offer{ID: 1, Shop: 2, Kind: order.Normal, Currency: "CNY", Total: 5}}
		p.Order = func(context.Context, order.ID) (*order.Order, error) {
			return &order.Order{ID: 5, User: 7, Shop: 1, Batch: 5, Kind: order.Flash, Currency: "CNY", Status: order.Paid, Created: 1, Updated: 1}, nil
		}
		p.Stats = func() any { return map[string]any{"any": 1} }
		p.Live = func() any { return map[string]any{"any": 1} }
		p.Stock = func(context.Context) ([]ops.Stock, error) {
			return []ops.Stock{{Kind: "flash", Left: map[string]int64{"1": 3}}}, nil
		}
		p.Rebuild = func(context.Context, []order.Partition) error { return nil }
		p.Config = func() any {
			return map[string]any{"settings": []any{}, "secrets": map[string]string{"ops_token": "********"}}
		}
		p.Metrics = func(w io.Writer) { _, _ = w.Write([]byte("up 1\n")) }
		p.Reload = func(bool) (any, error) {
			err := reloads[0]
			reloads = reloads[1:]
			return map[string]any{"dry_run": false, "changes": []any{}, "secrets": []any{}, "generation": 1, "hash": "0"}, err
		}
	})
	soon := time.Now().Add(30 * time.Second).UTC().Format(time.RFC3339)
	for _, c := range []struct {
		route, body string
		status      int
	}{
		{"POST /ops/offers", strings.Replace(good, "2026-11-11T12:00:00Z", soon, 1), 202},
		{"PATCH /ops/offers/1", `{"unit_price":5}`, 409},
		{"PATCH /ops/offers/1", strings.Repeat(" ", 17<<10), 413},
		{"PATCH /ops/offers/1", `{"title":"new"}`, 202},
		{"POST /ops/offers/1/close", "", 202},
		{"GET /ops/offers", "", 200},
		{"GET /ops/offers/1", "", 200},
		{"GET /ops/orders/5", "", 200},
		{"GET /ops/stats", "", 200},
		{"GET /ops/stock", "", 200},
		{"GET /ops/config", "", 200},
		{"GET /metrics", "", 200},
		{"POST /ops/reload", "", 200},
		{"POST /ops/reload", "", 409},
		{"POST /ops/reload", "", 422},
		{"POST /ops/rebuild", strings.Repeat(" ", 17<<10), 413},
	} {
		method, path, _ := strings.Cut(c.route, " ")
		if status, body := l.ask(method, path, c.body); status != c.status {
			t.Errorf("%s: %d %swant %d", c.route, status, body, c.status)
		}
	}
}

// The file has the problem codes that the sources name, with their statuses, and no others.
func TestOpenAPIHasEveryCode(t *testing.T) {
	t.Parallel()
	want := map[string][]int{}
	named := regexp.MustCompile(`Status: (\d+), Code: "(\w+)"`)
	for _, pattern := range []string{"*.go", "../../cmd/sluice/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range named.FindAllStringSubmatch(string(text), -1) {
				if status, _ := strconv.Atoi(m[1]); !strings.HasSuffix(file, "_test.go") && !slices.Contains(want[m[2]], status) {
					want[m[2]] = append(want[m[2]], status)
				}
			}
		}
	}
	if diff := cmp.Diff(want, contract.Codes()); diff != "" {
		t.Errorf("codes (-), openapi.yaml (+):\n%s", diff)
	}
}
