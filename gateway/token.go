package gateway

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"hash"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/engine/order"
)

// tokens verifies users' tokens: JWT with `exp`, an optional `nbf`, and `sub`, a user id in decimal; HS256 with one of
// the secrets, or RS256, ES256 and EdDSA with one of the public keys. The algorithm chooses between secrets and public
// keys, `kid` among the public keys, and a key verifies its own algorithm only. It is safe for concurrent use.
//
// A token as everybody writes them, with exactly the header {"alg":"HS256","typ":"JWT"} and a small flat payload, is
// checked here without an allocation; any other goes to golang-jwt. Both accept the same tokens. Tokens of
// public keys are remembered until they expire or the keys change, those of secrets are not: a look into a shared table
// costs about as much as their check.
type tokens struct {
	secrets atomic.Pointer[secretKeys]
	parser  *jwt.Parser

	public *jwt.Validator // of the claims of tokens that public keys have signed, beside those of all tokens
	keys   atomic.Pointer[keySet]
}

// secretKeys are the secrets as they are at one moment.
type secretKeys struct {
	macs []*sync.Pool // of *mac, one pool per key: making a keyed hash costs more than using it
	set  jwt.VerificationKeySet
}

const (
	tokenHeader          = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
	tokenHeaderTypeFirst = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9" // as some libraries write it
	payloadMax           = 512                                    // bytes of base64 that the quick check takes
	signatureSize        = 43                                     // bytes of base64
)

func newTokens(o *Options) *tokens {
	t := &tokens{parser: jwt.NewParser(jwt.WithValidMethods([]string{"HS256", "RS256", "ES256", "EdDSA"}), jwt.WithExpirationRequired())}
	t.keys.Store(&keySet{})
	var claims []jwt.ParserOption
	if o.TokenIssuer != "" {
		claims = append(claims, jwt.WithIssuer(o.TokenIssuer))
	}
	if o.TokenAudience != "" {
		claims = append(claims, jwt.WithAudience(o.TokenAudience))
	}
	t.public = jwt.NewValidator(claims...)
	t.trust(o.JWTSecrets)
	return t
}

// trust replaces the secrets. A token that is being verified is so by the former ones or by these.
func (t *tokens) trust(secrets []string) {
	keys := &secretKeys{}
	for _, secret := range secrets {
		key := []byte(secret)
		keys.macs = append(keys.macs, &sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }})
		keys.set.Keys = append(keys.set.Keys, key)
	}
	t.secrets.Store(keys)
}

// MintToken returns a token for a user that verifies under secret until expires.
func MintToken(secret string, user order.UserID, expires time.Time) string {
	b := append([]byte(tokenHeader), '.')
	payload := append(strconv.AppendUint([]byte(`{"sub":"`), uint64(user), 10), `","exp":`...)
	payload = append(strconv.AppendInt(payload, expires.Unix(), 10), '}')
	b = base64.RawURLEncoding.AppendEncode(b, payload)
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(b)
	return string(base64.RawURLEncoding.AppendEncode(append(b, '.'), h.Sum(nil)))
}

// verify returns the user that token names, if it is valid now.
func (t *tokens) verify(token []byte, now time.Time) (order.UserID, bool) {
	head, tail := bytes.IndexByte(token, '.'), bytes.LastIndexByte(token, '.')
	if head < 0 || head == tail || bytes.IndexByte(token[head+1:tail], '.') >= 0 {
		return 0, false
	}
	payload, signature := token[head+1:tail], token[tail+1:]
	if h := token[:head]; string(h) != tokenHeader && string(h) != tokenHeaderTypeFirst ||
		len(payload) > payloadMax || len(signature) != signatureSize {
		return t.remembered(token, now)
	}
	if !t.signed(token[:tail], signature) {
		return 0, false
	}
	var buf [payloadMax * 3 / 4]byte
	n, err := base64.RawURLEncoding.Decode(buf[:], payload)
	if err != nil {
		return 0, false
	}
	c, usual := readClaims(buf[:n])
	if !usual {
		return t.slow(token)
	}
	if now.Unix() >= c.exp || now.Unix() < c.nbf {
		return 0, false
	}
	return c.user, c.user != 0
}

// remembered is slow, but once only for each token that a public key has signed.
func (t *tokens) remembered(token []byte, now time.Time) (order.UserID, bool) {
	keys := t.keys.Load()
	if len(keys.keys) == 0 {
		return t.slow(token)
	}
	sum := tokenSum(sha256.Sum256(token))
	if user, ok := keys.verified.get(&sum, now.Unix()); ok {
		return user, true
	}
	parsed, user, ok := t.parse(token, keys)
	if !ok || parsed.Method == jwt.SigningMethodHS256 {
		return user, ok
	}
	if exp, err := parsed.Claims.GetExpirationTime(); err == nil {
		keys.verified.put(&sum, verifiedToken{user, exp.Unix()})
	}
	return user, true
}

// slow is golang-jwt's opinion.
func (t *tokens) slow(token []byte) (order.UserID, bool) {
	_, user, ok := t.parse(token, t.keys.Load())
	return user, ok
}

func (t *tokens) parse(token []byte, keys *keySet) (parsed *jwt.Token, user order.UserID, ok bool) {
	parsed, err := t.parser.Parse(string(token), func(p *jwt.Token) (any, error) {
		switch _, critical := p.Header["crit"]; {
		case critical:
			return nil, errCritical
		case p.Method == jwt.SigningMethodHS256:
			return t.secrets.Load().set, nil
		}
		return keys.candidates(p.Header, p.Method.Alg()), nil
	})
	if err != nil || parsed.Method != jwt.SigningMethodHS256 && t.public.Validate(parsed.Claims) != nil {
		return nil, 0, false
	}
	sub, err := parsed.Claims.GetSubject()
	if err != nil {
		return nil, 0, false
	}
	user, ok = parseUser([]byte(sub))
	return parsed, user, ok
}

// why says, for the one who sent it, what is wrong with a token that verify has refused. When it is valid stands in the
// token itself: to say so needs no key, and gives nothing away.
func (t *tokens) why(token []byte, now time.Time) string {
	var c jwt.RegisteredClaims
	if _, _, err := t.parser.ParseUnverified(string(token), &c); err == nil {
		switch {
		case c.ExpiresAt == nil:
			return "The token has no exp: it must say until when it is valid."
		case !now.Before(c.ExpiresAt.Time):
			return "The token expired at " + c.ExpiresAt.UTC().Format(time.RFC3339) + ". Get a new one."
		case c.NotBefore != nil && now.Before(c.NotBefore.Time):
			return "The token is not valid before " + c.NotBefore.UTC().Format(time.RFC3339) + ", by the server's clock."
		}
	}
	return "The token is damaged, signed with a key that this server does not trust, or not meant for it (sub, iss, aud). Get a new one."
}

// errCritical refuses what RFC 7515 wants refused by whoever does not know it: nothing of that kind is known here.
var errCritical = errors.New("the header has crit")

func parseUser(sub []byte) (order.UserID, bool) {
	if len(sub) > 19 {
		return 0, false
	}
	id, ok := order.ParseID(string(sub))
	if !ok {
		return 0, false
	}
	return order.UserID(id), true
}

// mac is a pooled hash with room for its sum and for the signature that it is compared with.
type mac struct {
	hash.Hash
	sum, given [sha256.Size + 1]byte
}

// signed tells whether signature (base64) is that of text under one of the keys. It takes the same time whatever the
// signature is.
func (t *tokens) signed(text, signature []byte) bool {
	for _, macs := range t.secrets.Load().macs {
		m := macs.Get().(*mac)
		m.Reset()
		m.Write(text)
		sum := m.Sum(m.sum[:0])
		n, err := base64.RawURLEncoding.Decode(m.given[:], signature)
		equal := err == nil && subtle.ConstantTimeCompare(sum, m.given[:n]) == 1
		macs.Put(m)
		if equal {
			return true
		}
	}
	return false
}

// claims are what matters of a payload. user is 0 if `sub` names none.
type claims struct {
	user     order.UserID
	exp, nbf int64
}

// readClaims reads a payload that is one flat JSON object of plain strings and whole numbers without white space. usual
// is false for everything else, which may still be valid. Of repeated members the last one counts.
func readClaims(b []byte) (c claims, usual bool) {
	if len(b) < 2 || b[0] != '{' {
		return c, false
	}
	for b = b[1:]; ; b = b[1:] {
		name, rest, ok := plainString(b)
		if !ok || len(rest) < 2 || rest[0] != ':' {
			return c, false
		}
		if b, ok = c.member(name, rest[1:]); !ok || len(b) == 0 {
			return c, false
		}
		if b[0] == '}' {
			return c, len(b) == 1
		}
		if b[0] != ',' {
			return c, false
		}
	}
}

// member reads the value of one member and returns what follows it.
func (c *claims) member(name, b []byte) (rest []byte, usual bool) {
	if b[0] == '"' {
		text, rest, ok := plainString(b)
		if string(name) == "sub" {
			c.user, _ = parseUser(text)
		}
		return rest, ok && string(name) != "exp" && string(name) != "nbf"
	}
	n, rest, ok := plainNumber(b)
	switch string(name) {
	case "sub":
		return nil, false
	case "exp":
		c.exp = n
	case "nbf":
		c.nbf = n
	}
	return rest, ok
}

// plainString reads a JSON string of ASCII without escapes from the front of b.
func plainString(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[1:i], b[i+1:], true
		case c == '\\' || c < 0x20 || c >= 0x80:
			return nil, nil, false
		}
	}
	return nil, nil, false
}

// plainNumber reads a JSON number of 1 to 15 digits, which a float64 holds exactly, from the front of b.
func plainNumber(b []byte) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(b) && i < 16 && b[i]-'0' <= 9 {
		n = n*10 + int64(b[i]-'0')
		i++
	}
	if i == 0 || i > 15 || i > 1 && b[0] == '0' || i < len(b) && b[i] != ',' && b[i] != '}' {
		return 0, nil, false
	}
	return n, b[i:], true
}
