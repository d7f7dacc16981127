package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// FuzzHTTP sends bytes over a connection: every answer is a whole one with a request id and JSON or nothing in it, none
// is 500, and the connection ends.
func FuzzHTTP(f *testing.F) {
	auth := "Host: x\r\nAuthorization: Bearer " + MintToken(testSecret, 42, time.Unix(4102444800, 0)) + "\r\n"
	body := `{"items":[{"offer_id":"1","quantity":1}],"details":` + fullDetails + `}`
	batchBody := `{"user_id":"42","idempotency_key":"k","items":[{"offer_id":"1","quantity":1}]}` + "\n\n{}\n"
	order := func(head string) string {
		return fmt.Sprintf("POST /v1/orders%s%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", head, auth, len(body), body)
	}
	for _, seed := range []string{
		order(" HTTP/1.1\r\n"),
		order("?wait=1 HTTP/1.1\r\nIdempotency-Key: k\r\n"),
		order(" HTTP/1.1\r\n") + order(" HTTP/1.1\r\n"),
		order(" HTTP/1.1\r\nExpect: 100-continue\r\n"),
		"POST /v1/orders HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ite\r\n0\r\n\r\n",
		fmt.Sprintf("POST /v1/orders/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\n"+
			"Content-Length: %d\r\n\r\n%s", testService, len(batchBody), batchBody),
		"GET /v1/orders?limit=2&status=paid&created_from=2026-01-01T00:00:00Z HTTP/1.1\r\n" + auth + "\r\n",
		"GET /v1/orders?idempotency_key=k HTTP/1.1\r\n" + auth + "\r\n",
		"GET /v1/orders/123456789012345678?wait=0 HTTP/1.1\r\n" + auth + "\r\n",
		"POST /v1/orders/123456789012345678/cancel HTTP/1.1\r\n" + auth + "Content-Length: 0\r\n\r\n",
		"GET /v1/offers/1 HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n",
		"GET /v1/offers?kind=flash&limit=1 HTTP/1.0\r\n\r\n",
		"HEAD /v1/offers/%31 HTTP/1.1\r\nHost: x\r\n\r\n",
		"HEAD /v1/offers/%31 HT\nTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x/v1/../v1//offers/1?a=%zz#b HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"POST /v1/orders HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
		"\r\n\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	w := newWorld(f, func(o *Options) { o.ReadTimeout, o.IdleTimeout = 200*time.Millisecond, 200*time.Millisecond })
	if id := w.offer(); id != 1 {
		f.Fatalf("the seeds name another offer than %d", id)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := net.Dial("tcp", w.gateway.Addr())
		must(t, err)
		defer func() { _ = c.Close() }()
		must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, _ = c.Write(b) // what the server does not want to read it need not
		must(t, c.(*net.TCPConn).CloseWrite())
		r := bufio.NewReader(c)
		for {
			if _, err := r.Peek(1); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%q: the connection hangs", b)
				}
				return
			}
			checkAnswer(t, r, b)
		}
	})
}

// checkAnswer reads one answer. Whether the server took the request for a HEAD is hard to tell: all bodies begin with a
// brace (openapi.yaml with an o), and no head does.
func checkAnswer(t *testing.T, r *bufio.Reader, sent []byte) {
	res, err := http.ReadResponse(r, &http.Request{Method: "HEAD"})
	if err != nil {
		t.Fatalf("%q: not an answer: %v", sent, err)
	}
	if res.StatusCode == 100 {
		return
	}
	if res.StatusCode == 500 || len(res.Header.Get("Sluice-Request-Id")) != 16 {
		t.Fatalf("%q: %d %v", sent, res.StatusCode, res.Header)
	}
	yaml := res.Header.Get("Content-Type") == "application/yaml"
	if first, _ := r.Peek(1); len(first) == 0 || first[0] != '{' && !(yaml && first[0] == openAPI[0]) {
		return
	}
	raw := make([]byte, max(0, res.ContentLength))
	_, err = io.ReadFull(r, raw)
	values := [][]byte{raw}
	if res.Header.Get("Content-Type") == typeNDJSON {
		values = bytes.SplitAfter(bytes.TrimSuffix(raw, newLine), newLine)
	}
	if yaml {
		values = nil
	}
	for _, value := range values {
		if err != nil || !json.Valid(value) {
			t.Fatalf("%q: %d with a body that is no JSON: %q, %v", sent, res.StatusCode, value, err)
		}
	}
}
