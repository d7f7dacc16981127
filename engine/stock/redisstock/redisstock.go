// Package redisstock is fast stock in Redis: the distributed driver of package stock. Every call is one Lua script (package
// lua) on the one server that holds the partition, so it is atomic there, and the fence is looked at in the script that
// has the effect. Redis may lose everything at any moment: the fence then is missing, or belongs to another data set,
// and whoever calls is told NotReady.
//
// # Keys
//
// All keys of partition p begin with "<name>:{p}:", so a partition lies on one server of a Redis Cluster: `fence`, `outbox`,
// `idem:<period>`, and per epoch e `<e>:left`, `<e>:offers`, `<e>:buyers` (docs/design.md, section 5). Values are whole: no
// other program may write there.
//
// # Errors
//
// NotReady and everything that proves that a script did not begin (stock.NotExecuted) is told apart from everything
// else, which is unknown: a time-out, a broken connection, an error from inside a script. The driver repeats nothing but
// what was not executed for want of a loaded script or because the slot is elsewhere (NOSCRIPT, MOVED); go-redis repeats
// nothing here.
//
// # Concurrency
//
// A Stock is safe for concurrent use. It starts no goroutine of its own; the connections of go-redis may.
package redisstock

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/internal/tlsfile"
)

// Options are what a Stock is made from.
type Options struct {
	Name     string   // of the deployment: the first part of every key; 1 to 64 letters, digits, - and _
	Addrs    []string // host:port; one server, or with Cluster some masters or replicas by which the others are found
	Cluster  bool
	Username string // of the ACL; empty: the default user
	// FlashAddrs are servers of the flash partitions' own, as Addrs; empty: all partitions share Addrs.
	FlashAddrs []string
	// DialTimeout and CallTimeout bound a connection's begin and one call, unless the call's context ends earlier.
	DialTimeout time.Duration
	CallTimeout time.Duration
	// PoolSize bounds the connections to one server.
	PoolSize int
	// TLS says whether and how the servers are spoken to in TLS. Its files are read by whoever gives Secure.
	TLS tlsfile.Client

	// Credentials gives user and password for a new connection, in the place of Username; nil: that one, without a password.
	Credentials func() (username, password string) `koanf:"-"`
	// Secure gives what TLS has come to, for a new connection; with TLS.Enabled it is needed.
	Secure     func() *tls.Config `koanf:"-"`
	Partitions order.Partitions   `koanf:"-"`
	// Deadline is D, for the check of how long a former master may go on.
	Deadline time.Duration `koanf:"-"`
}

// Defaults are the settings of a Stock where nothing else is said.
func Defaults() Options {
	return Options{Name: "sluice", DialTimeout: 500 * time.Millisecond, CallTimeout: 800 * time.Millisecond, PoolSize: 32}
}

// Validate reports everything that is wrong with the settings.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("stock.redisstock."+format, args...))
		}
	}
	check(validName(o.Name), "name must be 1 to 64 letters, digits, - and _, not %q", o.Name)
	check(len(o.Addrs) > 0, "addrs must name at least one server as host:port")
	check(o.Cluster || len(o.Addrs) <= 1, "addrs must be one server unless cluster is true")
	check(o.Cluster || len(o.FlashAddrs) <= 1, "flash_addrs must be one server unless cluster is true")
	check(o.DialTimeout >= 10*time.Millisecond && o.DialTimeout <= time.Minute, "dial_timeout must be 10ms to 1m")
	check(o.CallTimeout >= 10*time.Millisecond && o.CallTimeout <= time.Minute, "call_timeout must be 10ms to 1m")
	check(o.PoolSize >= 1 && o.PoolSize <= 1000, "pool_size must be 1 to 1000")
	return errors.Join(append(errs, o.TLS.Validate(tlsSection))...)
}

const tlsSection = "stock.redisstock.tls"

func validName(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// Stock is fast stock in Redis. It implements stock.Stock, whose comments say what the methods do.
type Stock struct {
	opts    Options
	scripts *scripts
	normal  *servers
	flash   *servers // may be normal
	closed  atomic.Bool
}

var _ stock.Stock = (*Stock)(nil)

// ErrClosed says that the stock was closed before the call.
var ErrClosed = errors.New("redisstock is closed")

// Open returns a Stock. It connects when the first call needs it; Check says whether it can.
func Open(o Options) (*Stock, error) { return open(o, newScripts(nil)) }

func open(o Options, sc *scripts) (*Stock, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.TLS.Enabled && o.Secure == nil {
		panic("BUG: redisstock is to speak TLS and is not told how")
	}
	redis.SetLogger(&logging.VoidLogger{}) // it writes to stderr what its errors say too, once per attempt
	s := &Stock{opts: o, scripts: sc, normal: newServers(&o, o.Addrs)}
	s.flash = s.normal
	if len(o.FlashAddrs) > 0 {
		s.flash = newServers(&o, o.FlashAddrs)
	}
	return s, nil
}

// Close makes every later call fail with ErrClosed and closes the connections. Calls under way may fail.
func (s *Stock) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.normal.close()
	if s.flash != s.normal {
		err = errors.Join(err, s.flash.close())
	}
	return err
}

// serversOf is where partition p lies.
func (s *Stock) serversOf(p order.Partition) *servers {
	if s.opts.Partitions.Kind(p) == order.Flash {
		return s.flash
	}
	return s.normal
}

// fenceKey is the one key that every script is given.
func (s *Stock) fenceKey(p order.Partition) string {
	return s.opts.Name + ":{" + strconv.Itoa(int(p)) + "}:fence"
}

// run calls a script on partition p, and gives the values behind the 1 of an executed call. what names the call in
// errors.
func (s *Stock) run(ctx context.Context, sc *script, p order.Partition, args ...any) ([]any, error) {
	err := ctx.Err()
	switch {
	case s.closed.Load():
		err = ErrClosed
	case err == nil && int(p) >= s.opts.Partitions.Count():
		err = fmt.Errorf("there are only %d partitions", s.opts.Partitions.Count())
	}
	if err != nil {
		return nil, refused(sc, p, err)
	}
	ctx, cancel := context.WithTimeout(ctx, sc.patience*s.opts.CallTimeout)
	defer cancel()
	reply, err := s.serversOf(p).eval(ctx, sc, s.fenceKey(p), args)
	if err != nil {
		if notExecuted(err) {
			return nil, refused(sc, p, err)
		}
		return nil, fmt.Errorf("%s on partition %d: %w", sc.what, p, err)
	}
	r := reader{values: reply}
	if executed := r.integer() == 1; executed && r.err == nil {
		return reply[1:], nil
	}
	why := r.text()
	f := stock.Fence{Epoch: order.Epoch(r.number()), Open: r.text() == "open", Mine: r.integer() == 1}
	f.KeysSince = stock.KeysSince{Epoch: order.Epoch(r.number()), At: order.Milli(r.number()), Logged: r.number()}
	reason, ok := reasons[why]
	if r.err != nil || !ok {
		return nil, fmt.Errorf("%s on partition %d: an answer that no script gives: %v", sc.what, p, r.err)
	}
	return nil, &stock.NotReady{Partition: p, Fence: f, Why: reason}
}

// reasons translates the words of fence.lua.
var reasons = map[string]stock.Why{
	"missing": stock.FenceMissing, "shut": stock.FenceShut, "not_shut": stock.FenceNotShut, "epoch": stock.OtherEpoch,
	"identity": stock.OtherIdentity, "sentinel": stock.SentinelMissing, "offer": stock.OfferMissing,
}

func refused(sc *script, p order.Partition, err error) error {
	return &stock.NotExecutedError{Err: fmt.Errorf("%s on partition %d: %w", sc.what, p, err)}
}
