package gateway

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/engine/order"
)

const (
	testSecret    = "0123456789abcdef0123456789abcdef"
	testOldSecret = "fedcba9876543210fedcba9876543210"
)

// rawToken signs header and payload as they are.
func rawToken(t testing.TB, header, payload, secret string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	sig, err := jwt.SigningMethodHS256.Sign(text, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func usualToken(t testing.TB, payload string) string {
	return rawToken(t, `{"alg":"HS256","typ":"JWT"}`, payload, testSecret)
}

func TestTokenVerdicts(t *testing.T) {
	t.Parallel()
	tok := newTokens(&Options{JWTSecrets: []string{testSecret, testOldSecret}})
	const year2100 = `"exp":4102444800`
	good := usualToken(t, `{"sub":"42",`+year2100+`}`)
	dot := strings.LastIndexByte(good, '.')
	for name, c := range map[string]struct {
		token string
		user  order.UserID // 0: refused
	}{
		"minted":               {MintToken(testSecret, 42, time.Now().Add(time.Hour)), 42},
		"minted, expired":      {MintToken(testSecret, 42, time.Now().Add(-time.Second)), 0},
		"old key":              {MintToken(testOldSecret, 7, time.Now().Add(time.Hour)), 7},
		"other key":            {MintToken(strings.Repeat("x", 32), 7, time.Now().Add(time.Hour)), 0},
		"usual":                {good, 42},
		"largest id":           {usualToken(t, `{"sub":"9223372036854775807",`+year2100+`}`), order.MaxID},
		"more claims":          {usualToken(t, `{"iss":"shop","iat":1,"nbf":1,"sub":"42",`+year2100+`}`), 42},
		"type first":           {rawToken(t, `{"typ":"JWT","alg":"HS256"}`, `{"sub":"42",`+year2100+`}`, testSecret), 42},
		"unusual header":       {rawToken(t, `{"alg":"HS256"}`, `{"sub":"42",`+year2100+`}`, testSecret), 42},
		"kid":                  {rawToken(t, `{"alg":"HS256","kid":"1"}`, `{"sub":"42",`+year2100+`}`, testSecret), 42},
		"white space":          {usualToken(t, "{ \"sub\": \"42\", "+year2100+"}\n"), 42},
		"escapes":              {usualToken(t, `{"\u0073ub":"4\u0032",`+year2100+`}`), 42},
		"nested claim":         {usualToken(t, `{"sub":"42","roles":["a"],`+year2100+`}`), 42},
		"fraction":             {usualToken(t, `{"sub":"42","exp":4102444800.5}`), 42},
		"last member counts":   {usualToken(t, `{"sub":"1","sub":"42",`+year2100+`}`), 42},
		"not yet":              {usualToken(t, `{"sub":"42","nbf":4102444800,`+year2100+`}`), 0},
		"expired":              {usualToken(t, `{"sub":"42","exp":1}`), 0},
		"exp zero":             {usualToken(t, `{"sub":"42","exp":0}`), 0},
		"no exp":               {usualToken(t, `{"sub":"42"}`), 0},
		"exp text":             {usualToken(t, `{"sub":"42","exp":"4102444800"}`), 0},
		"nbf text":             {usualToken(t, `{"sub":"42","nbf":"1",`+year2100+`}`), 0},
		"no sub":               {usualToken(t, `{`+year2100+`}`), 0},
		"sub number":           {usualToken(t, `{"sub":42,`+year2100+`}`), 0},
		"sub zero":             {usualToken(t, `{"sub":"0",`+year2100+`}`), 0},
		"sub negative":         {usualToken(t, `{"sub":"-1",`+year2100+`}`), 0},
		"sub leading zero":     {usualToken(t, `{"sub":"042",`+year2100+`}`), 0},
		"sub 64 bits":          {usualToken(t, `{"sub":"9223372036854775808",`+year2100+`}`), 0},
		"sub long":             {usualToken(t, `{"sub":"`+strings.Repeat("1", 30)+`",`+year2100+`}`), 0},
		"sub other case":       {usualToken(t, `{"SUB":"42",`+year2100+`}`), 0},
		"text behind":          {usualToken(t, `{"sub":"42",`+year2100+`}x`), 0},
		"comma behind":         {usualToken(t, `{"sub":"42",`+year2100+`,}`), 0},
		"leading zero":         {usualToken(t, `{"sub":"42","exp":04102444800}`), 0},
		"alg none":             {rawToken(t, `{"alg":"none","typ":"JWT"}`, `{"sub":"42",`+year2100+`}`, testSecret), 0},
		"alg none, unsigned":   {base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + good[36:dot] + ".", 0},
		"crit":                 {rawToken(t, `{"alg":"HS256","crit":["b64"],"b64":true}`, `{"sub":"42",`+year2100+`}`, testSecret), 0},
		"alg HS512":            {hs512(t), 0},
		"no signature":         {good[:dot+1], 0},
		"signature cut":        {good[:len(good)-1], 0},
		"signature of another": {good[:dot] + usualToken(t, `{"sub":"43",`+year2100+`}`)[dot:], 0},
		"payload changed":      {strings.Replace(good, ".e", ".f", 1), 0},
		"four parts":           {good + ".x", 0},
		"two parts":            {good[:dot], 0},
		"empty":                {"", 0},
		"dots":                 {"..", 0},
		"padded":               {good + "=", 0},
		"payload not an array": {usualToken(t, `["sub"]`), 0},
		"payload null":         {usualToken(t, `null`), 0},
	} {
		user, ok := tok.verify([]byte(c.token), time.Now())
		if ok != (c.user != 0) || ok && user != c.user {
			t.Errorf("%s: got %d, %v; want %d", name, user, ok, c.user)
		}
		if slow, okSlow := tok.slow([]byte(c.token)); okSlow != ok || ok && slow != user {
			t.Errorf("%s: golang-jwt says %d, %v", name, slow, okSlow)
		}
	}
}

func hs512(t *testing.T) string {
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS512, jwt.MapClaims{"sub": "42", "exp": 4102444800}).SignedString([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The usual tokens must not need golang-jwt, nor memory.
func TestTokenQuickTakesUsual(t *testing.T) {
	tok := newTokens(&Options{JWTSecrets: []string{testSecret}})
	tok.parser, tok.secrets.Load().set = nil, jwt.VerificationKeySet{} // slow would crash
	for _, token := range []string{
		MintToken(testSecret, 42, time.Now().Add(time.Hour)),
		usualToken(t, `{"iss":"shop","sub":"42","iat":1700000000,"exp":4102444800}`),
	} {
		b := []byte(token)
		if user, ok := tok.verify(b, time.Now()); !ok || user != 42 {
			t.Fatalf("got %d, %v", user, ok)
		}
		if string(b) != token {
			t.Fatal("the token was written to")
		}
		if n := testing.AllocsPerRun(100, func() { tok.verify(b, time.Now()) }); n > 0 && !raceEnabled {
			t.Errorf("%v allocations", n)
		}
	}
}

// FuzzToken signs what it is given, as header and payload, or takes it as a token, and holds the quick check equal to
// golang-jwt.
func FuzzToken(f *testing.F) {
	f.Add(`{"alg":"HS256","typ":"JWT"}`, `{"sub":"42","exp":4102444800}`, byte(0))
	f.Add(`{"typ":"JWT","alg":"HS256"}`, `{"sub":"42","nbf":1,"exp":4102444800}`, byte(0))
	f.Add(`{"alg":"none"}`, `{"sub":"42","exp":41024448000000000000}`, byte(0))
	f.Add(`{"alg":"HS256","typ":"JWT"}`, `{"sub":"4\u0032","sub":"1","exp":1e9,"nbf":0}`, byte(0))
	f.Add(`{"alg":"HS256","typ":"JWT"}`, `{"sub":"42","exp":4102444800}`, byte(1))
	f.Add(MintToken(testSecret, 42, time.Unix(4102444800, 0)), "", byte(2))
	for _, alg := range publicAlgorithms {
		f.Add(sign(f, alg, kid("kid-"+alg), nil), "", byte(2))
		f.Add(`{"alg":"`+alg+`","kid":"kid-`+alg+`"}`, `{"sub":"42","exp":4102444800}`, byte(3))
	}
	f.Add(`{"alg":"HS256","kid":"kid-RS256","crit":["exp"]}`, `{"sub":"42","exp":4102444800}`, byte(4))
	tok := tokensOf(f, allKeys(f), func(o *Options) { o.JWTSecrets = []string{testSecret, testOldSecret} })
	public := string(pemOf(f, "RS256"))
	f.Fuzz(func(t *testing.T, header, payload string, how byte) {
		token := header
		switch how % 5 {
		case 0:
			token = rawToken(t, header, payload, testSecret)
		case 1:
			token = rawToken(t, header, payload, testOldSecret)
			token = token[:len(token)-1] // the last character carries unused bits
			token += string("ABCDEFGHabcdefgh0123"[len(payload)%20])
		case 3:
			text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
			token = text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(testKeys()["EdDSA"].(ed25519.PrivateKey), []byte(text)))
		case 4:
			token = rawToken(t, header, payload, public)
		}
		now := time.Now()
		user, ok := tok.verify([]byte(token), now)
		if ok && how%5 == 4 {
			t.Fatalf("%q: a public key was taken for a secret", token)
		}
		slow, okSlow := tok.slow([]byte(token))
		if ok != okSlow || user != slow {
			if time.Since(now) > time.Second {
				t.Skip("the clock may have passed exp in between")
			}
			t.Fatalf("%q: quick says %d, %v; golang-jwt says %d, %v", token, user, ok, slow, okSlow)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	tok := newTokens(&Options{JWTSecrets: []string{testSecret}})
	token := []byte(MintToken(testSecret, 800_000_000, time.Now().Add(time.Hour)))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := tok.verify(token, now); !ok {
			b.Fatal("refused")
		}
	}
}

func BenchmarkTokenGolangJWT(b *testing.B) {
	tok := newTokens(&Options{JWTSecrets: []string{testSecret}})
	token := []byte(MintToken(testSecret, 800_000_000, time.Now().Add(time.Hour)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := tok.slow(token); !ok {
			b.Fatal("refused")
		}
	}
}

// TestTokenWhy: who sent a token that is refused is told what is wrong with it.
func TestTokenWhy(t *testing.T) {
	t.Parallel()
	tok, now := newTokens(&Options{JWTSecrets: []string{testSecret}}), time.Unix(1_800_000_000, 0)
	other := strings.Repeat("x", 32)
	for token, want := range map[string]string{
		MintToken(testSecret, 42, now):                                  "The token expired at 2027-01-15T08:00:00Z. Get a new one.",
		MintToken(other, 42, now.Add(-time.Hour)):                       "The token expired at 2027-01-15T07:00:00Z. Get a new one.",
		MintToken(other, 42, now.Add(time.Hour)):                        "signed with a key that this server does not trust",
		usualToken(t, `{"sub":"42","nbf":1800000060,"exp":4102444800}`): "is not valid before 2027-01-15T08:01:00Z, by the server's clock",
		usualToken(t, `{"sub":"42"}`):                                   "has no exp",
		usualToken(t, `{"sub":"bob","exp":4102444800}`):                 "or not meant for it (sub, iss, aud)",
		"a.b.c": "is damaged",
		"":      "is damaged",
		rawToken(t, `{"alg":"none"}`, `{"sub":"42","exp":1}`, testSecret)[1:]: "is damaged",
	} {
		if _, ok := tok.verify([]byte(token), now); ok || !strings.Contains(tok.why([]byte(token), now), want) {
			t.Errorf("%s: %v, %s", token, ok, tok.why([]byte(token), now))
		}
	}
}
