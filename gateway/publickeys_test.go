package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"sluice/engine/order"
)

// testKeys are private keys of each algorithm, made once.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	keys["RS256"], _ = rsa.GenerateKey(rand.Reader, 2048)
	keys["ES256"], _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, keys["EdDSA"], _ = ed25519.GenerateKey(rand.Reader)
	keys["small"], _ = rsa.GenerateKey(rand.Reader, 1024)
	keys["P-384"], _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	return keys
})

var publicAlgorithms = []string{"RS256", "ES256", "EdDSA"}

// sign signs a token for user 42 with the test key of alg, with these header fields and claims instead of the usual ones.
func sign(t testing.TB, alg string, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{"sub": "42", "exp": 4102444800})
	for name, value := range header {
		token.Header[name] = value
	}
	for name, value := range claims {
		token.Claims.(jwt.MapClaims)[name] = value
	}
	s, err := token.SignedString(testKeys()[alg])
	must(t, err)
	return s
}

func kid(s string) map[string]any { return map[string]any{"kid": s} }

func jwkOf(alg string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: testKeys()[alg].Public(), KeyID: "kid-" + alg, Algorithm: alg, Use: "sig"}
}

func jwks(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": append([]jose.JSONWebKey{}, keys...)})
	must(t, err)
	return b
}

func pemOf(t testing.TB, alg string) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(testKeys()[alg].Public())
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// tokensOf verifies with the test secret and the keys of a file.
func tokensOf(t testing.TB, file []byte, change ...func(*Options)) *tokens {
	t.Helper()
	o := Options{JWTSecrets: []string{testSecret}}
	for _, f := range change {
		f(&o)
	}
	tok := newTokens(&o)
	set, _, err := parseKeys(file)
	must(t, err)
	tok.keys.Store(set)
	return tok
}

func allKeys(t testing.TB) []byte { return jwks(t, jwkOf("RS256"), jwkOf("ES256"), jwkOf("EdDSA")) }

func TestPublicKeyTokens(t *testing.T) {
	t.Parallel()
	tok := tokensOf(t, allKeys(t))
	var allPEM []byte
	for _, alg := range publicAlgorithms {
		allPEM = append(allPEM, pemOf(t, alg)...)
	}
	fromPEM := tokensOf(t, allPEM)
	now := time.Now()
	for _, alg := range publicAlgorithms {
		good, other := sign(t, alg, kid("kid-"+alg), nil), sign(t, alg, nil, nil)
		for name, c := range map[string]struct {
			tok   *tokens
			token string
			ok    bool
		}{
			"good":                 {tok, good, true},
			"no kid":               {tok, sign(t, alg, nil, nil), false},
			"unknown kid":          {tok, sign(t, alg, kid("other"), nil), false},
			"kid of another":       {tok, sign(t, alg, kid(map[string]string{"RS256": "kid-ES256", "ES256": "kid-EdDSA", "EdDSA": "kid-RS256"}[alg]), nil), false},
			"kid is a number":      {tok, sign(t, alg, map[string]any{"kid": 1}, nil), false},
			"kid is empty":         {tok, sign(t, alg, kid(""), nil), false},
			"key in the header":    {tok, sign(t, alg, map[string]any{"jwk": jwkOf(alg), "kid": "new"}, nil), false},
			"crit":                 {tok, sign(t, alg, map[string]any{"kid": "kid-" + alg, "crit": []string{"b64"}, "b64": true}, nil), false},
			"PEM, no kid":          {fromPEM, sign(t, alg, nil, nil), true},
			"PEM, any kid":         {fromPEM, sign(t, alg, kid("whatever"), nil), true},
			"no such key":          {tokensOf(t, jwks(t)), good, false},
			"expired":              {tok, sign(t, alg, kid("kid-"+alg), jwt.MapClaims{"exp": now.Add(-time.Second).Unix()}), false},
			"no exp":               {tok, sign(t, alg, kid("kid-"+alg), jwt.MapClaims{"exp": nil}), false},
			"not yet":              {tok, sign(t, alg, kid("kid-"+alg), jwt.MapClaims{"nbf": now.Add(time.Minute).Unix()}), false},
			"nbf passed":           {tok, sign(t, alg, kid("kid-"+alg), jwt.MapClaims{"nbf": 1}), true},
			"no user":              {tok, sign(t, alg, kid("kid-"+alg), jwt.MapClaims{"sub": "mei"}), false},
			"signature of another": {tok, good[:strings.LastIndexByte(good, '.')] + other[strings.LastIndexByte(other, '.'):], false},
		} {
			for round := range 2 { // the second time from memory
				if user, ok := c.tok.verify([]byte(c.token), now); ok != c.ok || ok && user != 42 {
					t.Errorf("%s, %s, round %d: got %d, %v", alg, name, round, user, ok)
				}
			}
		}
	}
	if user, ok := tok.verify([]byte(MintToken(testSecret, 7, now.Add(time.Hour))), now); !ok || user != 7 {
		t.Error("tokens of the secret are valid beside public keys")
	}
}

// A public key is no secret: nobody may use one as the key of HS256, nor a key for an algorithm that is not its own.
func TestAlgorithmConfusion(t *testing.T) {
	t.Parallel()
	for _, file := range [][]byte{allKeys(t), pemOf(t, "RS256")} {
		tok := tokensOf(t, file)
		der, err := x509.MarshalPKIXPublicKey(testKeys()["RS256"].Public())
		must(t, err)
		n := testKeys()["RS256"].Public().(*rsa.PublicKey).N.Bytes()
		for name, secret := range map[string][]byte{"PEM": pemOf(t, "RS256"), "DER": der, "modulus": n, "file": file,
			"EdDSA key": testKeys()["EdDSA"].Public().(ed25519.PublicKey)} {
			for _, header := range []string{`{"alg":"HS256","typ":"JWT"}`, `{"alg":"HS256","kid":"kid-RS256"}`, `{"alg":"HS256","kid":"kid-EdDSA"}`} {
				token := rawToken(t, header, `{"sub":"42","exp":4102444800}`, string(secret))
				if _, ok := tok.verify([]byte(token), time.Now()); ok {
					t.Errorf("%s as a secret: %s was accepted", name, header)
				}
			}
		}
		for _, alg := range []string{"RS384", "RS512", "PS256"} {
			token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{"sub": "42", "exp": 4102444800})
			token.Header["kid"] = "kid-RS256"
			s, err := token.SignedString(testKeys()["RS256"])
			must(t, err)
			if _, ok := tok.verify([]byte(s), time.Now()); ok {
				t.Errorf("a key for RS256 verified %s", alg)
			}
		}
		none := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"sub": "42", "exp": 4102444800})
		none.Header["kid"] = "kid-RS256"
		s, err := none.SignedString(jwt.UnsafeAllowNoneSignatureType)
		must(t, err)
		if _, ok := tok.verify([]byte(s), time.Now()); ok {
			t.Error("none was accepted")
		}
	}
}

func TestIssuerAndAudience(t *testing.T) {
	t.Parallel()
	tok := tokensOf(t, allKeys(t), func(o *Options) { o.TokenIssuer, o.TokenAudience = "https://id.shop", "orders" })
	for _, c := range []struct {
		iss string
		aud any
		ok  bool
	}{
		{"https://id.shop", "orders", true}, {"https://id.shop", []string{"x", "orders"}, true}, {"https://id.shop", "other", false},
		{"https://id.else", "orders", false}, {"", "orders", false}, {"https://id.shop", nil, false},
	} {
		token := sign(t, "EdDSA", kid("kid-EdDSA"), jwt.MapClaims{"iss": c.iss, "aud": c.aud})
		if _, ok := tok.verify([]byte(token), time.Now()); ok != c.ok {
			t.Errorf("%+v: %v", c, ok)
		}
	}
	if _, ok := tok.verify([]byte(tokenOf(1)), time.Now()); !ok {
		t.Error("tokens of the secret have no issuer")
	}
}

func TestKeyFileMistakes(t *testing.T) {
	t.Parallel()
	private := jose.JSONWebKey{Key: testKeys()["RS256"], KeyID: "p"}
	secret := jose.JSONWebKey{Key: []byte(testSecret), KeyID: "s"}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(testKeys()["ES256"])
	must(t, err)
	small, curve, wrong, sealing := jwkOf("small"), jwkOf("P-384"), jwkOf("RS256"), jwkOf("ES256")
	small.Algorithm, curve.Algorithm, wrong.Algorithm, sealing.Use = "", "", "RS512", "enc"
	for _, c := range []struct {
		file []byte
		want string // empty: no error
		keys int
	}{
		{allKeys(t), "", 3},
		{jwks(t), "", 0}, // nobody is trusted
		{jwks(t, jwkOf("ES256"), small, curve, wrong, sealing), "", 1},
		{[]byte(`{"keys":[{"kty":"ZZ"},` + string(jwks(t, jwkOf("ES256")))[len(`{"keys":[`):]), "", 1},
		{pemOf(t, "EdDSA"), "", 1},
		{jwks(t, small), "2048", 0}, {jwks(t, curve), "P-256", 0}, {jwks(t, wrong), "RS512", 0}, {jwks(t, sealing), "not for signatures", 0},
		{jwks(t, jwkOf("ES256"), private), "private or secret", 0},
		{jwks(t, jwkOf("ES256"), secret), "private or secret", 0},
		{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), "private or secret", 0},
		{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pkcs8}), "is a CERTIFICATE", 0},
		{pemOf(t, "small"), "2048", 0},
		{jwks(t, jwkOf("ES256"), jwkOf("ES256")), `two keys have the kid "kid-ES256"`, 0},
		{[]byte(`{"keys":`), "not a JWKS", 0}, {[]byte(`{}`), `no "keys"`, 0}, {nil, "neither", 0}, {[]byte("x"), "neither", 0},
	} {
		set, _, err := parseKeys(c.file)
		if c.want == "" && (err != nil || len(set.keys) != c.keys) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.60s: %v, want %q", c.file, err, c.want)
		}
	}
}

// The cache does not outlive what a token's own check would say.
func TestRememberedTokens(t *testing.T) {
	t.Parallel()
	tok := tokensOf(t, jwks(t, jwkOf("ES256"), jwkOf("EdDSA")))
	now := time.Now()
	token := []byte(sign(t, "ES256", kid("kid-ES256"), jwt.MapClaims{"exp": now.Add(time.Hour).Unix()}))
	sum := tokenSum(sha256.Sum256(token))
	if _, ok := tok.verify(token, now); !ok {
		t.Fatal("refused")
	}
	set := tok.keys.Load()
	if user, ok := set.verified.get(&sum, now.Unix()); !ok || user != 42 {
		t.Fatalf("not remembered: %d, %v", user, ok)
	}
	if _, ok := set.verified.get(&sum, now.Add(time.Hour).Unix()); ok {
		t.Error("remembered beyond its exp")
	}
	minted := []byte(rawToken(t, `{"alg":"HS256","kid":"x"}`, `{"sub":"42","exp":4102444800}`, testSecret))
	tok.verify(minted, now)
	sum = sha256.Sum256(minted)
	if _, ok := set.verified.get(&sum, now.Unix()); ok {
		t.Error("a token of a secret was remembered")
	}
	without, _, err := parseKeys(jwks(t, jwkOf("EdDSA")))
	must(t, err)
	tok.keys.Store(without)
	if _, ok := tok.verify(token, now); ok {
		t.Error("remembered although its key is gone")
	}
}

func TestTokenCacheIsBounded(t *testing.T) {
	t.Parallel()
	var c tokenCache
	sumOf := func(i int) *tokenSum { s := tokenSum(sha256.Sum256(fmt.Append(nil, i))); return &s }
	for i := range verifiedMax * 2 {
		c.put(sumOf(i), verifiedToken{order.UserID(i), 1 << 40})
		c.get(sumOf(0), 1) // in use
	}
	n := 0
	for i := range c.shards {
		n += len(c.shards[i].young) + len(c.shards[i].old)
	}
	if n > verifiedMax || n < verifiedMax/4 {
		t.Errorf("%d tokens are remembered, bound %d", n, verifiedMax)
	}
	if _, ok := c.get(sumOf(0), 1); !ok {
		t.Error("a token in use was forgotten")
	}
}

func TestKeysAreRereadAndTheLastGoodOnesStay(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	put := func(b []byte) {
		t.Helper()
		must(t, os.WriteFile(path+".new", b, 0o600))
		must(t, os.Rename(path+".new", path))
	}
	put(jwks(t, jwkOf("ES256")))
	w := newWorld(t, func(o *Options) { o.PublicKeysFile = path })
	status := func(alg string) int {
		return w.do(request{method: "GET", path: "/v1/orders", header: map[string]string{
			"Authorization": "Bearer " + sign(t, alg, kid("kid-"+alg), nil)}}).status
	}
	if status("ES256") != 200 || status("EdDSA") != 401 {
		t.Fatal("only ES256 is known")
	}
	put(jwks(t, jwkOf("ES256"), jwkOf("EdDSA")))
	await(t, "the new key", func() bool { return status("EdDSA") == 200 })
	put(jwks(t, jwkOf("EdDSA")))
	await(t, "the old key's end", func() bool { return status("ES256") == 401 })
	put([]byte("half a fi"))
	await(t, "the complaint", func() bool { return strings.Contains(w.logs.String(), "the former ones stay") })
	if status("EdDSA") != 200 {
		t.Error("a broken file took the good keys away")
	}
	must(t, os.Remove(path))
	await(t, "the second complaint", func() bool { return strings.Contains(w.logs.String(), "no such file") })
	if status("EdDSA") != 200 || strings.Count(w.logs.String(), "the former ones stay") != 2 {
		t.Errorf("a missing file took the good keys away, or was told too often:\n%s", w.logs)
	}
	put(jwks(t, jwkOf("ES256")))
	await(t, "the old key's return", func() bool { return status("ES256") == 200 })
}

func TestStartNeedsTheKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.gateway.opts
	o.PublicKeysFile = filepath.Join(t.TempDir(), "none")
	g := New(o, Deps{Placer: w.placer, Catalogue: w.engine, Orders: w.orders, Canceller: w.lifecycle, Log: slog.New(slog.DiscardHandler)})
	if err := g.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "gateway.public_keys_file") {
		t.Errorf("%v", err)
	}
	must(t, g.Close(t.Context()))
}

// FuzzKeys holds every key that is taken to the rules of its algorithm.
func FuzzKeys(f *testing.F) {
	f.Add(allKeys(f))
	f.Add(jwks(f, jwkOf("small"), jwkOf("P-384")))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"X25519","x":"AA"}]}`))
	for _, alg := range publicAlgorithms {
		f.Add(pemOf(f, alg))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		set, _, err := parseKeys(b)
		if err != nil {
			return
		}
		for _, k := range set.keys {
			switch key := k.key.(type) {
			case *rsa.PublicKey:
				if k.alg != "RS256" || key.N.BitLen() < 2048 {
					t.Fatalf("%+v", k)
				}
			case *ecdsa.PublicKey:
				if _, err := key.Bytes(); err != nil || k.alg != "ES256" || key.Curve != elliptic.P256() {
					t.Fatalf("%+v: %v", k, err)
				}
			case ed25519.PublicKey:
				if k.alg != "EdDSA" || len(key) != ed25519.PublicKeySize {
					t.Fatalf("%+v", k)
				}
			default:
				t.Fatalf("%T", key)
			}
		}
	})
}

func BenchmarkPublicKeyToken(b *testing.B) {
	tok := tokensOf(b, allKeys(b))
	for _, alg := range publicAlgorithms {
		token, now := []byte(sign(b, alg, kid("kid-"+alg), nil)), time.Now()
		b.Run(alg+"/check", func(b *testing.B) {
			for b.Loop() {
				if _, ok := tok.slow(token); !ok {
					b.Fatal("refused")
				}
			}
		})
		b.Run(alg+"/remembered", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := tok.verify(token, now); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}
