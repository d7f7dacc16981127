package redisstock

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"sluice/internal/tlsfile"
)

// servers are one Redis, or the nodes of one Redis Cluster. Who has a partition is learned from the nodes: whoever does
// not have it says who does (MOVED). go-redis' own cluster client is not used: it would repeat calls that timed out.
//
// A slot that is on its way to another node (ASK, TRYAGAIN) is waited for and not followed: the fence names the node that
// it comes from, so nothing could be sold there; and a rebuild that opened there before the slot has arrived would have
// the old hashes put beside its own, or over them.
type servers struct {
	options *Options

	mu     sync.Mutex
	seeds  []string                 // those of the configuration, then what was learned
	named  int                      // how many are of the configuration
	nodes  map[string]*redis.Client // by address
	owners map[string]string        // key of the fence -> address
	next   int                      // the seed to ask next
	closed bool
}

func newServers(o *Options, seeds []string) *servers {
	return &servers{options: o, seeds: slices.Clone(seeds), named: len(seeds), nodes: map[string]*redis.Client{}, owners: map[string]string{}}
}

const (
	hopsMax    = 4   // how often one call follows MOVED, which proves that it was not executed
	learnedMax = 100 // addresses kept beside those of the configuration; a node that moves has a new one each time
)

// eval runs a script with the fence key and args.
func (s *servers) eval(ctx context.Context, sc *script, key string, args []any) ([]any, error) {
	addr := s.owner(key)
	for hop := 0; ; hop++ {
		reply, err := s.evalAt(ctx, addr, sc, call{key, args})
		to := moved(err, addr)
		switch {
		case to != "" && hop < hopsMax:
			s.learn(key, to)
			addr = to
			continue
		case to == "" && elsewhere(err):
			s.forget(key, addr)
		}
		return reply, err
	}
}

type call struct {
	key  string
	args []any
}

// evalAt runs a script on one node, which learns it first if it does not know it.
func (s *servers) evalAt(ctx context.Context, addr string, sc *script, c call) ([]any, error) {
	node, err := s.node(addr)
	if err != nil {
		return nil, err
	}
	args := make([]any, 0, len(c.args)+4)
	args = append(append(args, "EVALSHA", sc.sha, 1, c.key), c.args...)
	reply, err := node.Do(ctx, args...).Slice()
	if text, _ := replyOf(err); code(text) == "NOSCRIPT" {
		if err := node.ScriptLoad(ctx, sc.text).Err(); err != nil {
			return nil, &notBegun{err}
		}
		reply, err = node.Do(ctx, args...).Slice()
	}
	return reply, err
}

// moved reads from an error where the slot is, if the node that was asked does not have it.
func moved(err error, from string) (addr string) {
	text, _ := replyOf(err)
	words := strings.Fields(text)
	if len(words) != 3 || words[0] != "MOVED" {
		return ""
	}
	colon := strings.LastIndexByte(words[2], ':') // an address of IPv6 comes without brackets
	if colon < 0 {
		return ""
	}
	return place(strings.Trim(words[2][:colon], "[]"), words[2][colon+1:], from)
}

// place is the address of a node as another one names it. A host that it does not know is its own.
func place(host, port, from string) string {
	if host == "" || host == "?" {
		host, _, _ = net.SplitHostPort(from)
	}
	return net.JoinHostPort(host, port)
}

func (s *servers) owner(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr, ok := s.owners[key]; ok {
		return addr
	}
	addr := s.seeds[s.next%len(s.seeds)]
	s.owners[key] = addr
	return addr
}

func (s *servers) learn(key, addr string) {
	s.remember(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners[key] = addr
}

// remember keeps the address of a node: those that were named may all be gone one day.
func (s *servers) remember(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.seeds, addr) {
		if len(s.seeds) == s.named+learnedMax {
			s.seeds = slices.Delete(s.seeds, s.named, s.named+1)
		}
		s.seeds = append(s.seeds, addr)
	}
}

// places are the addresses of all servers that are known.
func (s *servers) places() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seeds)
}

// forget lets the next call ask another node about key, if addr is still thought to be its owner.
func (s *servers) forget(key, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners[key] == addr {
		delete(s.owners, key)
		s.next++
	}
}

func (s *servers) node(addr string) (*redis.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, &notBegun{ErrClosed}
	}
	if n := s.nodes[addr]; n != nil {
		return n, nil
	}
	n := redis.NewClient(s.options.client(addr))
	s.nodes[addr] = n
	return n, nil
}

// client are the options of the connections to one server. Nothing is repeated there. A call ends with its context's
// deadline, which every call has; its connection is then closed, so that no later call reads the late answer.
func (o *Options) client(addr string) *redis.Options {
	c := &redis.Options{
		Addr: addr, Username: o.Username, CredentialsProvider: o.Credentials, Protocol: 2,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: o.DialTimeout,
		ReadTimeout: -1, WriteTimeout: -1, ContextTimeoutEnabled: true,
		PoolSize: o.PoolSize, PoolTimeout: o.DialTimeout, WriteBufferSize: 256 << 10, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.TLS.Enabled {
		dial := tlsfile.Dialer(o.DialTimeout, o.Secure)
		c.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, &notBegun{err}
			}
			return conn, nil
		}
	}
	return c
}

func (s *servers) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, n := range s.nodes {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}
