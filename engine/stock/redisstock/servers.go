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
)

// servers are one Redis, or the nodes of one Redis Cluster. Who has a partition is learned from the nodes: whoever does
// not have it says who does (MOVED), or who has it for the moment (ASK). go-redis' own cluster client is not used: it
// would repeat calls that timed out.
type servers struct {
	options *Options
	seeds   []string

	mu     sync.Mutex
	nodes  map[string]*redis.Client // by address
	owners map[string]string        // key of the fence -> address
	next   int                      // the seed to ask next
	closed bool
}

func newServers(o *Options, seeds []string) *servers {
	return &servers{options: o, seeds: seeds, nodes: map[string]*redis.Client{}, owners: map[string]string{}}
}

// hopsMax bounds how often one call follows MOVED and ASK, each of which proves that it was not executed.
const hopsMax = 4

// eval runs a script with the fence key and args.
func (s *servers) eval(ctx context.Context, sc *script, key string, args []any) ([]any, error) {
	addr := s.owner(key)
	for hop := 0; ; hop++ {
		reply, err := s.evalAt(ctx, target{addr: addr}, sc, call{key, args})
		moved, to := redirect(err, addr)
		if moved == "ASK" && hop < hopsMax {
			reply, err = s.evalAt(ctx, target{addr: to, asking: true}, sc, call{key, args})
			moved, to = redirect(err, to)
		}
		switch {
		case moved == "MOVED" && hop < hopsMax:
			s.learn(key, to)
			addr = to
			continue
		case err != nil && !isReply(err):
			s.forget(key, addr) // it may be gone: the next call asks another node
		}
		return reply, err
	}
}

type target struct {
	addr   string
	asking bool // the slot is on its way there
}

type call struct {
	key  string
	args []any
}

// evalAt runs a script on one node, which learns it first if it does not know it.
func (s *servers) evalAt(ctx context.Context, at target, sc *script, c call) ([]any, error) {
	node, err := s.node(at.addr)
	if err != nil {
		return nil, err
	}
	reply, err := evalsha(ctx, node, at.asking, sc, c)
	if err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
		if err := node.ScriptLoad(ctx, sc.text).Err(); err != nil {
			return nil, &notBegun{err}
		}
		reply, err = evalsha(ctx, node, at.asking, sc, c)
	}
	return reply, err
}

func evalsha(ctx context.Context, node *redis.Client, asking bool, sc *script, c call) ([]any, error) {
	args := make([]any, 0, len(c.args)+4)
	args = append(append(args, "EVALSHA", sc.sha, 1, c.key), c.args...)
	if !asking {
		return node.Do(ctx, args...).Slice()
	}
	pipe := node.Pipeline()
	pipe.Do(ctx, "ASKING")
	cmd := pipe.Do(ctx, args...)
	_, err := pipe.Exec(ctx)
	if cmd.Err() == nil && err != nil {
		return nil, err
	}
	return cmd.Slice()
}

// redirect reads where an error sends a call.
func redirect(err error, from string) (how, addr string) {
	if err == nil {
		return "", ""
	}
	words := strings.Fields(err.Error())
	if len(words) != 3 || words[0] != "MOVED" && words[0] != "ASK" {
		return "", ""
	}
	host, port, err := net.SplitHostPort(words[2])
	if err != nil {
		return "", ""
	}
	if host == "" { // the node does not know its own address: it is the one that was asked
		host, _, _ = net.SplitHostPort(from)
	}
	return words[0], net.JoinHostPort(host, port)
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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners[key] = addr
	if !slices.Contains(s.seeds, addr) { // the nodes that were named may all be gone one day
		s.seeds = append(slices.Clone(s.seeds), addr)
	}
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

// client are the options of the connections to one server. Nothing is repeated there.
func (o *Options) client(addr string) *redis.Options {
	return &redis.Options{
		Addr: addr, Username: o.Username, Password: o.Password, Protocol: 2,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: o.DialTimeout,
		ReadTimeout: -1, WriteTimeout: -1, ContextTimeoutEnabled: true, // the context of every call has a deadline
		PoolSize: o.PoolSize, PoolTimeout: o.DialTimeout, WriteBufferSize: 256 << 10, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
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
