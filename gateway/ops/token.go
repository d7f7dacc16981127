package ops

import (
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
	"strings"
)

// Token is one that the listener takes: several while one is replaced, or one for each person who has to do with it.
type Token struct {
	Name   string // of whoever has it, for the audit log; empty: its number is said there
	Secret string
}

// knownToken is a token as the listener keeps it.
type knownToken struct {
	who string
	sum [sha256.Size]byte
}

// Trust replaces the tokens that are taken, from the next request on.
func (s *Server) Trust(tokens []Token) {
	if len(tokens) == 0 {
		panic("BUG: the ops listener has no token")
	}
	known := make([]knownToken, len(tokens))
	for i, t := range tokens {
		if t.Secret == "" {
			panic("BUG: a token of the ops listener is empty")
		}
		known[i] = knownToken{t.Name, sha256.Sum256([]byte(t.Secret))}
		if t.Name == "" {
			known[i].who = "token " + strconv.Itoa(i+1)
		}
	}
	s.tokens.Store(&known)
}

// who says whose token stands in a header Authorization; ok is false if it is nobody's. It takes the same time whatever the
// token is.
func (s *Server) who(authorization string) (who string, ok bool) {
	scheme, token, _ := strings.Cut(authorization, " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	for _, t := range *s.tokens.Load() {
		if subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1 && !ok {
			who, ok = t.who, true
		}
	}
	return who, ok
}
