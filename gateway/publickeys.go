package gateway

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// keySet are the public keys that tokens may be signed with, as the file held them at one moment, and the tokens that
// they have verified. The keys never change: new ones are a new set, and what the old ones verified is forgotten.
type keySet struct {
	keys     []publicKey
	verified tokenCache
}

// publicKey verifies the tokens of one algorithm: its own. A key without a kid is tried with every token.
type publicKey struct {
	kid, alg string
	key      any
}

// Bounds of a file of public keys.
const (
	keysFileMax = 1 << 20 // bytes
	keysMax     = 64
	rsaBitsMin  = 2048
	rsaBitsMax  = 8192
)

// candidates are the keys that a token with this header may be signed with.
func (s *keySet) candidates(header map[string]any, alg string) (set jwt.VerificationKeySet) {
	kid := ""
	if given, ok := header["kid"]; ok {
		if kid, ok = given.(string); !ok || kid == "" {
			return set
		}
	}
	for _, k := range s.keys {
		if k.alg == alg && (k.kid == kid || k.kid == "") {
			set.Keys = append(set.Keys, k.key)
		}
	}
	return set
}

// parseKeys reads a JWKS (RFC 7517) or public keys in PEM. skipped says which keys of a JWKS are not for us, and why;
// everything that may be a mistake is an error.
func parseKeys(b []byte) (set *keySet, skipped []string, err error) {
	set = &keySet{}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		skipped, err = set.addJWKS(b)
	} else {
		err = set.addPEM(b)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(set.keys) > keysMax {
		return nil, nil, fmt.Errorf("more than %d keys", keysMax)
	}
	for i, k := range set.keys {
		for _, other := range set.keys[:i] {
			if k.kid != "" && k.kid == other.kid && k.alg == other.alg {
				return nil, nil, fmt.Errorf("two keys have the kid %q", k.kid)
			}
		}
	}
	return set, skipped, nil
}

var errSecretKey = errors.New("holds a private or secret key: give the public ones only")

// addJWKS adds the keys of a JWKS. Keys for other purposes and algorithms are skipped, as RFC 7517 wants. An empty list
// is a set of no keys.
func (s *keySet) addJWKS(b []byte) (skipped []string, err error) {
	var file struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	if file.Keys == nil {
		return nil, errors.New(`not a JWKS: it has no "keys"`)
	}
	for i, raw := range file.Keys {
		var jwk jose.JSONWebKey
		err := jwk.UnmarshalJSON(raw)
		if err == nil && !jwk.IsPublic() {
			return nil, fmt.Errorf("key %d (kid %q) %w", i, jwk.KeyID, errSecretKey)
		}
		if err == nil && jwk.Use != "" && jwk.Use != "sig" {
			err = errors.New("it is not for signatures")
		}
		if err == nil {
			err = s.add(jwk.KeyID, jwk.Algorithm, jwk.Key)
		}
		if err != nil {
			skipped = append(skipped, "key "+strconv.Itoa(i)+" (kid "+strconv.Quote(jwk.KeyID)+"): "+err.Error())
		}
	}
	if len(file.Keys) > 0 && len(s.keys) == 0 {
		return nil, fmt.Errorf("no key can be used: %s", skipped[0])
	}
	return skipped, nil
}

func (s *keySet) addPEM(b []byte) error {
	for n := 1; ; n++ {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		var key any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			err = errSecretKey
		default:
			err = fmt.Errorf("is a %s, not a PUBLIC KEY", block.Type)
		}
		if err == nil {
			err = s.add("", "", key)
		}
		if err != nil {
			return fmt.Errorf("PEM block %d: %w", n, err)
		}
	}
	if len(s.keys) == 0 {
		return errors.New("neither a JWKS nor public keys in PEM")
	}
	return nil
}

// add adds one key, with the algorithm that it says it is for; empty: the one of its type.
func (s *keySet) add(kid, stated string, key any) error {
	alg := ""
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < rsaBitsMin || n > rsaBitsMax {
			return fmt.Errorf("an RSA key has %d to %d bits, not %d", rsaBitsMin, rsaBitsMax, n)
		}
		alg = "RS256"
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return errors.New("of elliptic curves only P-256 is known")
		}
		alg = "ES256"
	case ed25519.PublicKey:
		alg = "EdDSA"
	default:
		return fmt.Errorf("a %T is not an RSA, EC or Ed25519 key", key)
	}
	if stated != "" && stated != alg {
		return fmt.Errorf("its algorithm is %s; RS256, ES256 and EdDSA are known", stated)
	}
	s.keys = append(s.keys, publicKey{kid, alg, key})
	return nil
}

// keyFile is the file of public keys, which may change while the gateway runs. It is for one goroutine at a time.
type keyFile struct {
	path string
	log  *slog.Logger
	last []byte // what was read last, good or not
	told string // the last error, so that the log has it once
}

// read returns the keys, or nil if the file has not changed since the last time. What is wrong with a file that is as it
// was is said once.
func (f *keyFile) read() (*keySet, error) {
	b, err := readBounded(f.path)
	if err == nil && f.last != nil && bytes.Equal(b, f.last) {
		return nil, nil
	}
	var set *keySet
	var skipped []string
	if err == nil {
		f.last = b
		set, skipped, err = parseKeys(b)
	} else {
		f.last = nil
	}
	if err != nil {
		return nil, fmt.Errorf("gateway.public_keys_file %s: %w", f.path, err)
	}
	for _, why := range skipped {
		f.log.Warn("a public key is not used", "file", f.path, "why", why)
	}
	f.log.Info("public keys for tokens have been read", "file", f.path, "keys", len(set.keys))
	f.told = ""
	return set, nil
}

// reread gives t the keys if the file has changed. With an error the last good ones stay.
func (f *keyFile) reread(t *tokens) {
	set, err := f.read()
	switch {
	case err != nil && err.Error() != f.told:
		f.told = err.Error()
		f.log.Error("public keys cannot be read; the former ones stay", "error", err)
	case set != nil:
		t.keys.Store(set)
	}
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, keysFileMax+1))
	if err == nil && len(b) > keysFileMax {
		err = fmt.Errorf("larger than %d bytes", keysFileMax)
	}
	return b, err
}

// CheckPublicKeys says what is wrong with a file of public keys (Options.PublicKeysFile), nil if nothing is.
func CheckPublicKeys(path string) error {
	_, err := (&keyFile{path: path, log: slog.New(slog.DiscardHandler)}).read()
	return err
}
