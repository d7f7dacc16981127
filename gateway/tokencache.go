package gateway

import (
	"crypto/sha256"
	"sync"

	"sluice/engine/order"
)

// tokenCache remembers tokens that public keys have verified: a check costs fifty times a look. It is for one key set,
// and ends with it. The zero cache is ready; all methods are safe for concurrent use.
type tokenCache struct {
	shards [16]cacheShard
}

// verifiedMax bounds the tokens of a cache, about 100 bytes each. When half of them are new the older half goes.
const verifiedMax = 1 << 18

// tokenSum stands for a token: no two are known with the same one, and nobody can make two.
type tokenSum [sha256.Size]byte

type verifiedToken struct {
	user  order.UserID
	until int64 // Unix seconds: its exp
}

type cacheShard struct {
	mu         sync.Mutex
	young, old map[tokenSum]verifiedToken
}

func (c *tokenCache) shard(sum *tokenSum) *cacheShard { return &c.shards[sum[0]%16] }

// get is the user of a token that was verified and has not expired at now, in Unix seconds.
func (c *tokenCache) get(sum *tokenSum, now int64) (order.UserID, bool) {
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.young[*sum]
	if !ok {
		if v, ok = s.old[*sum]; ok {
			s.put(sum, v)
		}
	}
	return v.user, ok && now < v.until
}

// put remembers a token.
func (c *tokenCache) put(sum *tokenSum, v verifiedToken) {
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(sum, v)
}

func (s *cacheShard) put(sum *tokenSum, v verifiedToken) {
	if s.young == nil || len(s.young) >= verifiedMax/len(tokenCache{}.shards)/2 {
		s.old, s.young = s.young, make(map[tokenSum]verifiedToken)
	}
	s.young[*sum] = v
}
