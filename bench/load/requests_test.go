package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/engine/order"
)

var spec = Spec{Count: 300, Offer: 7, Details: 200, Secret: []byte("a secret"), Expires: time.Now().Add(time.Hour), Seed: 1, Host: "sluice"}

func build(t *testing.T, s Spec) *Requests {
	t.Helper()
	r, err := Build(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRequestsReadAsHTTP reads every request with net/http and checks what it says.
func TestRequestsReadAsHTTP(t *testing.T) {
	r := build(t, spec)
	tokens, users, keys := map[string]bool{}, map[order.UserID]bool{}, map[string]bool{}
	for i := range r.Len() {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.Bytes(i))))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(req.Body)
		if err != nil || int64(len(b)) != req.ContentLength || req.URL.Path != "/v1/orders" || req.Host != "sluice" {
			t.Fatalf("%v %d %s %s", err, req.ContentLength, req.URL, req.Host)
		}
		var body struct {
			Items []struct {
				Offer    string `json:"offer_id"`
				Quantity int    `json:"quantity"`
			}
			Details json.RawMessage
		}
		var details order.Details
		if err := json.Unmarshal(b, &body); err != nil || len(body.Details) != 200 || len(body.Items) != 1 || body.Items[0].Offer != "7" ||
			json.Unmarshal(body.Details, &details) != nil || details.Validate() != nil || details.Address.Line == "" {
			t.Fatalf("%v %s", err, b)
		}
		token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		claims := jwt.RegisteredClaims{}
		if _, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return spec.Secret, nil }); err != nil {
			t.Fatal(err)
		}
		if claims.Subject != strconv.FormatUint(uint64(r.User(i)), 10) || token != r.Token(i) || req.Header.Get("Idempotency-Key") != r.Key(i) {
			t.Fatalf("request %d: user %s, key %s", i, claims.Subject, req.Header.Get("Idempotency-Key"))
		}
		tokens[token], users[r.User(i)], keys[r.Key(i)] = true, true, true
	}
	if len(tokens) != 300 || len(users) != 300 || len(keys) != 300 {
		t.Errorf("%d tokens, %d users, %d keys", len(tokens), len(users), len(keys))
	}
}

func TestFewUsersHaveManyTokens(t *testing.T) {
	s := spec
	s.Users, s.Keyless, s.Wait = 10, true, 5
	r := build(t, s)
	tokens, users := map[string]bool{}, map[order.UserID]bool{}
	for i := range r.Len() {
		tokens[r.Token(i)], users[r.User(i)] = true, true
	}
	if len(tokens) != 300 || len(users) != 10 || r.Key(0) != "" {
		t.Errorf("%d tokens, %d users, key %q", len(tokens), len(users), r.Key(0))
	}
	if b := string(r.Bytes(0)); strings.Contains(b, "Idempotency-Key") || !strings.HasPrefix(b, "POST /v1/orders?wait=5 HTTP/1.1\r\n") {
		t.Error(b)
	}
}

func TestSeedsDiffer(t *testing.T) {
	a, again := build(t, spec), build(t, spec)
	if !bytes.Equal(a.Bytes(5), again.Bytes(5)) {
		t.Error("a seed must give the same requests again")
	}
	users, keys := map[order.UserID]bool{}, map[string]bool{}
	for seed := range uint64(10) {
		s := spec
		s.Seed = seed
		r := build(t, s)
		for i := range r.Len() {
			users[r.User(i)], keys[r.Key(i)] = true, true
		}
	}
	if len(users) != 3000 || len(keys) != 3000 {
		t.Errorf("%d users and %d keys of 10 neighbouring seeds with 300 requests each", len(users), len(keys))
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"no count":      func(s *Spec) { s.Count = 0 },
		"no offer":      func(s *Spec) { s.Offer = 0 },
		"no secret":     func(s *Spec) { s.Secret = nil },
		"small details": func(s *Spec) { s.Details = DetailsMin - 1 },
	} {
		s := spec
		change(&s)
		if _, err := Build(s); err == nil {
			t.Error(name)
		}
	}
	s := spec
	s.Details = DetailsMin
	build(t, s)
}

func TestWrite(t *testing.T) {
	r := build(t, spec)
	path := filepath.Join(t.TempDir(), "requests")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) != 300*len(r.Bytes(0)) || !bytes.HasPrefix(b[len(r.Bytes(0)):], r.Bytes(1)) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// A send of a batch has the same orders as the single sends, a line each, with their buyers and keys.
func TestBatchHasTheOrdersOfSingleSends(t *testing.T) {
	s := spec
	s.Lines, s.Service = 7, "the-service-token"
	r := build(t, s)
	if r.Len() != 294 || r.Sends() != 42 || r.Lines() != 7 {
		t.Fatalf("%d orders in %d sends of %d", r.Len(), r.Sends(), r.Lines())
	}
	for send := range r.Sends() {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.Bytes(send))))
		if err != nil || req.URL.Path != "/v1/orders/batch" || req.Header.Get("Authorization") != "Bearer the-service-token" {
			t.Fatalf("%v %v", err, req)
		}
		lines := json.NewDecoder(req.Body)
		for at := send * 7; at < send*7+7; at++ {
			var line struct {
				User    string          `json:"user_id"`
				Key     string          `json:"idempotency_key"`
				Details json.RawMessage `json:"details"`
			}
			if err := lines.Decode(&line); err != nil || line.User != strconv.FormatUint(uint64(r.User(at)), 10) || line.Key != r.Key(at) ||
				len(line.Details) != 200 {
				t.Fatalf("order %d: %v %+v", at, err, line)
			}
		}
		if lines.More() {
			t.Fatalf("send %d has more orders", send)
		}
	}
}

// Users at random come more than once or not at all, and are always among so many.
func TestUsersAtRandom(t *testing.T) {
	s := spec
	s.Count, s.Users, s.Random = 1000, 500, true
	r, err := Describe(s)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[order.UserID]int{}
	for i := range r.Len() {
		seen[r.User(i)]++
	}
	if n := len(seen); n < 400 || n > 480 { // 432 are expected
		t.Errorf("%d users of 500 come 1000 times", n)
	}
}
