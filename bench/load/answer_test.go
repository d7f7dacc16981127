package load

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

func TestParse(t *testing.T) {
	tests := []struct {
		in   string
		want answer
	}{
		{"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 34\r\n\r\n" + `{"id":"4455","status":"pending"}  `,
			answer{code: 202, id: 4455, status: "pending", size: 111}},
		{"HTTP/1.1 409 Conflict\r\nContent-Length: 33\r\nX: y\r\n\r\n" + `{"type":"about","code":"sold_out"}`[:33],
			answer{code: 409, reason: reasonOf("sold_out"), size: 84}},
		{"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", answer{code: 503, reason: 1, size: 55}},
		{"HTTP/1.1 429 Too Many\r\nContent-Length: 14\r\n\r\n" + `{"code":"new"}`, answer{code: 429, reason: 1, size: 59}},
	}
	for _, test := range tests {
		var got answer
		err := parse([]byte(test.in), &got)
		got.body = nil
		if err != nil || !cmp.Equal(got, test.want, cmp.AllowUnexported(answer{})) {
			t.Errorf("%q: %+v %v, want %+v", test.in, got, err, test.want)
		}
		for cut := range len(test.in) {
			if err := parse([]byte(test.in[:cut]), &got); !errors.Is(err, errShort) {
				t.Fatalf("%q: %v", test.in[:cut], err)
			}
		}
	}
}

// Every line of a batch's answer is read; one that is missing, or of another order, is no answer.
func TestLines(t *testing.T) {
	body := []byte(`{"line":1,"status":202,"order":{"id":"77","status":"pending"}}
{"line":2,"status":409,"problem":{"type":"about","code":"sold_out"}}
{"line":4,"status":202,"order":{"id":"78","status":"pending"}}
`)
	var a answer
	if err := a.line(&body, 1); err != nil || a.code != 202 || a.id != 77 || a.status != order.Pending {
		t.Errorf("line 1: %+v %v", a, err)
	}
	if err := a.line(&body, 2); err != nil || a.code != 409 || a.id != 0 || a.reason != reasonOf("sold_out") {
		t.Errorf("line 2: %+v %v", a, err)
	}
	for range 2 {
		if err := a.line(&body, 3); !errors.Is(err, errLines) {
			t.Errorf("line 3: %+v %v", a, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n", "SPDY\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
	} {
		if err := parse([]byte(in), &answer{}); !errors.Is(err, errAnswer) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestReasonsAreKnown(t *testing.T) {
	for i, code := range reasons {
		if i > 1 && reasonOf(code) != Reason(i) {
			t.Errorf("%s: %d", code, reasonOf(code))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 202 Accepted\r\nContent-Length: 13\r\n\r\n" + `{"id":"4455"}`))
	f.Add([]byte("HTTP/1.1 2\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a answer
		if err := parse(b, &a); err == nil && (a.size > len(b) || a.size < 0) {
			t.Errorf("%d of %d bytes", a.size, len(b))
		}
	})
}
