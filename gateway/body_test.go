package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

const fullDetails = `{"address":{"name":"李雷","phone":"13800000000","region":"上海市","line":"人民路 1 号","postcode":"200000"},` +
	`"delivery_method":"express","invoice":{"title":"Li Lei","tax_id":"91310000"},"note":"ring \"twice\""}`

func TestBodyAccepts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body, details string
		lines         []order.Line
	}{
		"smallest":      {`{"items":[{"offer_id":"7","quantity":1}]}`, "", []order.Line{{Offer: 7, Quantity: 1}}},
		"other order":   {`{"details":{},"items":[{"quantity":10000,"offer_id":"7"}]}`, "", []order.Line{{Offer: 7, Quantity: 10000}}},
		"white space":   {" {\n\t\"items\" : [ { \"offer_id\" : \"7\" , \"quantity\" : 1 } , {\"offer_id\":\"8\",\"quantity\":2} ] }\r\n", "", []order.Line{{Offer: 7, Quantity: 1}, {Offer: 8, Quantity: 2}}},
		"escaped names": {`{"\u0069tems":[{"offer_id":"\u0037","quantit\u0079":1}]}`, "", []order.Line{{Offer: 7, Quantity: 1}}},
		"largest id":    {`{"items":[{"offer_id":"9223372036854775807","quantity":1}]}`, "", []order.Line{{Offer: order.MaxID, Quantity: 1}}},
		"nulls":         {`{"items":[{"offer_id":"7","quantity":1}],"details":{"address":null,"note":null,"invoice":null}}`, "", []order.Line{{Offer: 7, Quantity: 1}}},
		"details":       {`{"items":[{"offer_id":"7","quantity":1}],"details":` + fullDetails + `}`, fullDetails, []order.Line{{Offer: 7, Quantity: 1}}},
		"details sorted": {`{"details":{"note":"n","address":{"line":"l","name":"\u4e2d\ud83d\ude00"}},"items":[{"offer_id":"7","quantity":1}]}`,
			`{"address":{"name":"中😀","phone":"","region":"","line":"l"},"note":"n"}`, []order.Line{{Offer: 7, Quantity: 1}}},
		"escapes kept": {`{"items":[{"offer_id":"7","quantity":1}],"details":{"note":"a\/\b\f\n\r\t\"\\\u0001\u2028` + "\u2029" + `<"}}`,
			`{"note":"a/\b\f\n\r\t\"\\\u0001\u2028\u2029<"}`, []order.Line{{Offer: 7, Quantity: 1}}},
		"lone surrogate": {`{"items":[{"offer_id":"7","quantity":1}],"details":{"note":"\ud800x\udc00\ud800\u0041"}}`,
			"{\"note\":\"\ufffdx\ufffd\ufffdA\"}", []order.Line{{Offer: 7, Quantity: 1}}},
	} {
		var o orderBody
		if !o.parse([]byte(c.body)) {
			t.Errorf("%s: refused: %v", name, o.faults)
			continue
		}
		if diff := cmp.Diff(c.lines, o.lines); diff != "" {
			t.Errorf("%s: lines %s", name, diff)
		}
		if string(o.details) != c.details {
			t.Errorf("%s: details %s, want %s", name, o.details, c.details)
		}
	}
}

func TestBodyRefuses(t *testing.T) {
	t.Parallel()
	item := `{"offer_id":"7","quantity":1}`
	with := func(details string) string { return `{"items":[` + item + `],"details":` + details + `}` }
	for name, c := range map[string]struct {
		body    string
		code    code
		pointer string
	}{
		"empty":               {``, codeInvalidRequest, ""},
		"null":                {`null`, codeInvalidRequest, ""},
		"list":                {`[]`, codeInvalidRequest, ""},
		"cut":                 {`{"items":[` + item, codeInvalidRequest, "/items/0"},
		"text behind":         {`{"items":[` + item + `]}x`, codeInvalidRequest, ""},
		"second value":        {`{"items":[` + item + `]}{}`, codeInvalidRequest, ""},
		"no items":            {`{}`, codeInvalidRequest, "/items"},
		"null items":          {`{"items":null}`, codeInvalidRequest, "/items"},
		"empty items":         {`{"items":[]}`, codeInvalidRequest, "/items"},
		"items no list":       {`{"items":{}}`, codeInvalidRequest, "/items"},
		"item no object":      {`{"items":[7]}`, codeInvalidRequest, "/items/0"},
		"null item":           {`{"items":[` + item + `,null]}`, codeInvalidRequest, "/items/1"},
		"comma behind":        {`{"items":[` + item + `,]}`, codeInvalidRequest, "/items/1"},
		"comma behind member": {`{"items":[` + item + `],}`, codeInvalidRequest, ""},
		"no comma":            {`{"items":[` + item + item + `]}`, codeInvalidRequest, "/items/0"},
		"unknown field":       {`{"items":[` + item + `],"coupon":1}`, codeInvalidRequest, "/coupon"},
		"unknown, escaped":    {`{"a/b~":1}`, codeInvalidRequest, "/a~1b~0"},
		"other case":          {`{"Items":[` + item + `]}`, codeInvalidRequest, "/Items"},
		"items twice":         {`{"items":[` + item + `],"items":[]}`, codeInvalidRequest, "/items"},
		"id twice":            {`{"items":[{"offer_id":"7","offer_id":"7","quantity":1}]}`, codeInvalidRequest, "/items/0/offer_id"},
		"note twice":          {with(`{"note":"","note":""}`), codeInvalidRequest, "/details/note"},
		"id number":           {`{"items":[{"offer_id":7,"quantity":1}]}`, codeInvalidRequest, "/items/0/offer_id"},
		"id text":             {`{"items":[{"offer_id":"x","quantity":1}]}`, codeInvalidRequest, "/items/0/offer_id"},
		"id zero":             {`{"items":[{"offer_id":"0","quantity":1}]}`, codeInvalidRequest, "/items/0/offer_id"},
		"id leading zero":     {`{"items":[{"offer_id":"07","quantity":1}]}`, codeInvalidRequest, "/items/0/offer_id"},
		"id huge":             {`{"items":[{"offer_id":"9223372036854775808","quantity":1}]}`, codeInvalidRequest, "/items/0/offer_id"},
		"id negative":         {`{"items":[{"offer_id":"-7","quantity":1}]}`, codeInvalidRequest, "/items/0/offer_id"},
		"no id":               {`{"items":[{"quantity":1}]}`, codeInvalidRequest, "/items/0/offer_id"},
		"no quantity":         {`{"items":[{"offer_id":"7"}]}`, codeInvalidRequest, "/items/0/quantity"},
		"quantity text":       {`{"items":[{"offer_id":"7","quantity":"1"}]}`, codeInvalidRequest, "/items/0/quantity"},
		"quantity 01":         {`{"items":[{"offer_id":"7","quantity":01}]}`, codeInvalidRequest, "/items/0/quantity"},
		"quantity 1.":         {`{"items":[{"offer_id":"7","quantity":1.}]}`, codeInvalidRequest, "/items/0/quantity"},
		"quantity 1e":         {`{"items":[{"offer_id":"7","quantity":1e}]}`, codeInvalidRequest, "/items/0/quantity"},
		"quantity zero":       {`{"items":[{"offer_id":"7","quantity":0}]}`, codeQuantityInvalid, "/items/0/quantity"},
		"quantity negative":   {`{"items":[{"offer_id":"7","quantity":-1}]}`, codeQuantityInvalid, "/items/0/quantity"},
		"quantity above":      {`{"items":[{"offer_id":"7","quantity":10001}]}`, codeQuantityInvalid, "/items/0/quantity"},
		"quantity huge":       {`{"items":[{"offer_id":"7","quantity":4294967297}]}`, codeQuantityInvalid, "/items/0/quantity"},
		"quantity float":      {`{"items":[{"offer_id":"7","quantity":1.5}]}`, codeQuantityInvalid, "/items/0/quantity"},
		"quantity exponent":   {`{"items":[{"offer_id":"7","quantity":1e2}]}`, codeQuantityInvalid, "/items/0/quantity"},
		"second quantity":     {`{"items":[` + item + `,{"offer_id":"8","quantity":0}]}`, codeQuantityInvalid, "/items/1/quantity"},
		"offer twice":         {`{"items":[` + item + `,` + item + `]}`, codeDuplicateItem, "/items/1/offer_id"},
		"too many":            {manyItems(51), codeInvalidRequest, "/items"},
		"details list":        {with(`[]`), codeInvalidRequest, "/details"},
		"details text":        {with(`"x"`), codeInvalidRequest, "/details"},
		"unknown detail":      {with(`{"gift":true}`), codeInvalidRequest, "/details/gift"},
		"note number":         {with(`{"note":1}`), codeInvalidRequest, "/details/note"},
		"address text":        {with(`{"address":"x"}`), codeInvalidRequest, "/details/address"},
		"unknown in address":  {with(`{"address":{"city":"x"}}`), codeInvalidRequest, "/details/address/city"},
		"phone number":        {with(`{"address":{"phone":138}}`), codeInvalidRequest, "/details/address/phone"},
		"tax id list":         {with(`{"invoice":{"tax_id":[]}}`), codeInvalidRequest, "/details/invoice/tax_id"},
		"long phone":          {with(`{"address":{"phone":"` + strings.Repeat("1", 65) + `"}}`), codeInvalidRequest, "/details/address/phone"},
		"long details": {with(`{"note":"` + strings.Repeat(`\u0001`, 400) + `"}`), codeInvalidRequest,
			"/details"},
		"deep":               {with(strings.Repeat("[", 5000)), codeInvalidRequest, "/details"},
		"deep objects":       {strings.Repeat(`{"details":`, 1000), codeInvalidRequest, "/details/details"},
		"control character":  {with("{\"note\":\"a\nb\"}"), codeInvalidRequest, "/details/note"},
		"not UTF-8":          {with("{\"note\":\"\xff\"}"), codeInvalidRequest, "/details/note"},
		"overlong UTF-8":     {with("{\"note\":\"\xc0\xaf\"}"), codeInvalidRequest, "/details/note"},
		"bad escape":         {with(`{"note":"\x41"}`), codeInvalidRequest, "/details/note"},
		"bad unicode escape": {with(`{"note":"\u12g4"}`), codeInvalidRequest, "/details/note"},
		"escape cut":         {`{"items":[` + item + `],"details":{"note":"\u12`, codeInvalidRequest, "/details/note"},
		"text without end":   {`{"items":[` + item + `],"details":{"note":"abc`, codeInvalidRequest, "/details/note"},
		"bare word":          {with(`{"note":nul}`), codeInvalidRequest, "/details/note"},
		"comment":            {`{/**/"items":[` + item + `]}`, codeInvalidRequest, ""},
		"byte order mark":    {"\ufeff" + `{"items":[` + item + `]}`, codeInvalidRequest, ""},
	} {
		var o orderBody
		if o.parse([]byte(c.body)) {
			t.Errorf("%s: accepted", name)
			continue
		}
		if o.code != c.code || o.faults[0].pointer != c.pointer {
			t.Errorf("%s: got %s at %v, want %s at %q", name, problems[o.code].name, o.faults, problems[c.code].name, c.pointer)
		}
	}
}

func manyItems(n int) string {
	var b strings.Builder
	b.WriteString(`{"items":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"offer_id":"%d","quantity":1}`, i+1)
	}
	b.WriteString(`]}`)
	return b.String()
}

func TestBodyCollectsFaults(t *testing.T) {
	t.Parallel()
	var o orderBody
	o.parse([]byte(`{"items":[{"offer_id":"7","quantity":0},{"offer_id":"7","quantity":1},{"offer_id":"x","quantity":-1}]}`))
	var pointers []string
	for _, f := range o.faults {
		pointers = append(pointers, f.pointer)
	}
	want := []string{"/items/0/quantity", "/items/1/offer_id", "/items/2/offer_id", "/items/2/quantity"}
	if !slices.Equal(pointers, want) || o.code != codeInvalidRequest {
		t.Errorf("got %v (%s)", pointers, problems[o.code].name)
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	of := func(body string) uint64 {
		var o orderBody
		if !o.parse([]byte(body)) {
			t.Fatal(body, o.faults)
		}
		return o.fingerprint()
	}
	const base = `{"items":[{"offer_id":"7","quantity":1},{"offer_id":"8","quantity":2}],"details":{"note":"a"}}`
	if got := of(base); got != 0x6a9b5564b0c483ba {
		t.Errorf("the stored fingerprint changed: %#x", got)
	}
	if of(base) != of(`{"details":{"invoice":null,"note":"\u0061"}, "items":[{"quantity":1,"offer_id":"7"},{"offer_id":"8","quantity":2}]}`) {
		t.Error("the same order written otherwise has another fingerprint")
	}
	for _, other := range []string{
		`{"items":[{"offer_id":"7","quantity":1},{"offer_id":"8","quantity":2}]}`,
		`{"items":[{"offer_id":"7","quantity":1},{"offer_id":"8","quantity":3}],"details":{"note":"a"}}`,
		`{"items":[{"offer_id":"7","quantity":1},{"offer_id":"9","quantity":2}],"details":{"note":"a"}}`,
		`{"items":[{"offer_id":"7","quantity":1}],"details":{"note":"a"}}`,
	} {
		if of(base) == of(other) {
			t.Error("another order has the same fingerprint:", other)
		}
	}
}

// reference is the order body as encoding/json reads it, and the rules that it does not know, written without a look at
// the scanner.
func reference(b []byte) (lines []order.Line, details []byte, err error) {
	var body struct {
		Items []struct {
			OfferID  string `json:"offer_id"`
			Quantity uint32 `json:"quantity"`
		} `json:"items"`
		Details *order.Details `json:"details"`
	}
	if !utf8.Valid(b) {
		return nil, nil, errors.New("not UTF-8")
	}
	if err := strictNames(b); err != nil {
		return nil, nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		return nil, nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, nil, errors.New("text behind")
	}
	for _, item := range body.Items {
		id, ok := order.ParseID(item.OfferID)
		if !ok || item.Quantity < 1 || item.Quantity > order.QuantityMax {
			return nil, nil, errors.New("bad item")
		}
		lines = append(lines, order.Line{Offer: order.OfferID(id), Quantity: item.Quantity})
	}
	distinct := slices.Clone(lines)
	slices.SortFunc(distinct, func(a, b order.Line) int { return int(min(1, max(-1, int64(a.Offer-b.Offer)))) })
	distinct = slices.CompactFunc(distinct, func(a, b order.Line) bool { return a.Offer == b.Offer })
	if len(lines) == 0 || len(lines) > order.LinesMax || len(distinct) < len(lines) {
		return nil, nil, errors.New("bad items")
	}
	if body.Details == nil {
		return lines, nil, nil
	}
	if err := body.Details.Validate(); err != nil {
		return nil, nil, err
	}
	var w bytes.Buffer
	e := json.NewEncoder(&w)
	e.SetEscapeHTML(false)
	if err := e.Encode(body.Details); err != nil {
		return nil, nil, err
	}
	details = bytes.TrimSuffix(w.Bytes(), []byte("\n"))
	if string(details) == "{}" {
		details = nil
	}
	if len(details) > order.DetailsMax {
		return nil, nil, errors.New("long details")
	}
	return lines, details, nil
}

// strictNames refuses members that are given twice and those that differ from a known name in case only.
func strictNames(b []byte) error {
	known := []string{"items", "offer_id", "quantity", "details", "address", "delivery_method", "invoice", "note", "name",
		"phone", "region", "line", "postcode", "title", "tax_id"}
	type frame struct {
		names map[string]bool
		name  bool // a member's name comes next
	}
	var stack []*frame
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		token, err := d.Token()
		if err != nil {
			return nil // the decoder proper will say
		}
		var top *frame
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if name, ok := token.(string); ok && top != nil && top.names != nil && top.name {
			if top.names[name] || !slices.Contains(known, name) {
				return fmt.Errorf("name %q", name)
			}
			top.names[name], top.name = true, false
			continue
		}
		if top != nil {
			top.name = true
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, &frame{names: map[string]bool{}, name: true})
		case json.Delim('['):
			stack = append(stack, &frame{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
	}
}

func FuzzPlainRun(f *testing.F) {
	for _, seed := range []string{"", "a", "abcdefgh", "abcdefg\"", "abcdefgh\x1fx", "0123456789\\", "0123456\x80", "\x7f\x7f !#[]~~~~~~~~~", "\xa2\xdc\x22", "\x00\x01!!!!!!"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		want := 0
		for want < len(b) && b[want] >= 0x20 && b[want] < 0x80 && b[want] != '"' && b[want] != '\\' {
			want++
		}
		if got := plainRun(b); got != want {
			t.Errorf("%q: got %d, want %d", b, got, want)
		}
	})
}

func FuzzOrderBody(f *testing.F) {
	for _, seed := range []string{
		`{"items":[{"offer_id":"7","quantity":1}]}`,
		`{"items":[{"offer_id":"7","quantity":1},{"offer_id":"8","quantity":10000}],"details":` + fullDetails + `}`,
		`{"details":{"note":"\u00e9\ud83d\ude00\ud800\/\u2028","address":{},"invoice":{"title":""}},"items":[{"quantity":2,"offer_id":"\u0037"}]}`,
		`{"items":[{"offer_id":"7","quantity":1e2}]}`,
		`{"items":[{"offer_id":"7","quantity":-0}],"items":null}`,
		` {"items" : [ ] , "details":null} `,
		`{"Items":[{"Offer_Id":"7","quantity":1}]}`,
		"{\"items\":[{\"offer_id\":\"7\",\"quantity\":1}],\"details\":{\"note\":\"\xff\u2029\"}}",
		manyItems(51),
	} {
		f.Add([]byte(seed))
	}
	var o orderBody
	f.Fuzz(func(t *testing.T, b []byte) {
		input := slices.Clone(b)
		ok := o.parse(b)
		lines, details, err := reference(b)
		if ok != (err == nil) {
			t.Fatalf("%q: parser says %v %v, encoding/json says %v", b, ok, o.faults, err)
		}
		if !bytes.Equal(input, b) {
			t.Fatal("the parser wrote to its input")
		}
		if !ok {
			if len(o.faults) == 0 || o.faults[0].detail == "" || problems[o.code].status/100 != 4 || !utf8.ValidString(o.faults[0].pointer) {
				t.Fatalf("%q: refused without a reason: %d %v", b, o.code, o.faults)
			}
			return
		}
		if diff := cmp.Diff(lines, o.lines); diff != "" {
			t.Fatalf("%q: %s", b, diff)
		}
		if !bytes.Equal(details, o.details) {
			t.Fatalf("%q: details %s, encoding/json has %s", b, o.details, details)
		}
	})
}

func TestBodyAllocatesNothing(t *testing.T) {
	var o orderBody
	body := []byte(`{"items":[{"offer_id":"7","quantity":1}],"details":` + fullDetails + `}`)
	o.parse(body)
	if n := testing.AllocsPerRun(100, func() { o.parse(body) }); n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBody(b *testing.B) {
	var o orderBody
	body := []byte(`{"items":[{"offer_id":"7","quantity":1}],"details":` + fullDetails + `}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if !o.parse(body) || o.fingerprint() == 0 {
			b.Fatal(o.faults)
		}
	}
}

func BenchmarkBodyEncodingJSON(b *testing.B) {
	body := []byte(`{"items":[{"offer_id":"7","quantity":1}],"details":` + fullDetails + `}`)
	b.ReportAllocs()
	for b.Loop() {
		var v struct {
			Items   []order.Line   `json:"-"`
			Details *order.Details `json:"details"`
		}
		if err := json.Unmarshal(body, &v); err != nil {
			b.Fatal(err)
		}
	}
}
