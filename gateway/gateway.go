package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/engine"
	"sluice/engine/order"
	"sluice/internal/tlsfile"
	"sluice/persist/store"
)

// Placer places orders. *engine.Engine is one.
type Placer interface {
	// Place takes the ticket through its batch and returns when t.Answer is set.
	Place(ctx context.Context, t *engine.Ticket)
	// PlaceAll is Place for many tickets; it may reorder the slice.
	PlaceAll(ctx context.Context, tickets []*engine.Ticket)
}

// Catalogue knows the offers of this process. *engine.Engine is one.
type Catalogue interface {
	Offer(id order.OfferID) *engine.Offer // nil: unknown
	Offers() []*engine.Offer              // in the order of their ids; the same slice until they change
}

// OrderReader reads stored orders. *store.Store is one. An error means that nothing is known.
type OrderReader interface {
	Shards() int
	OrderShard(id order.ID) int
	UserShard(u order.UserID) int
	Order(ctx context.Context, id order.ID) (*order.Order, error) // nil, nil: not stored
	OrdersByID(ctx context.Context, shard int, ids []order.ID) ([]*order.Order, error)
	List(ctx context.Context, u order.UserID, f store.ListFilter) ([]*order.Order, error)
	OrdersByKey(ctx context.Context, u order.UserID, key string) ([]*order.Order, error)
	AnyParked(ctx context.Context) (bool, error)
}

// Deps is what a gateway asks. It owns none of it: all must outlive Close.
type Deps struct {
	Placer    Placer
	Catalogue Catalogue
	Orders    OrderReader
	Canceller Canceller
	Log       *slog.Logger
}

// Gateway is the public listener. All methods are safe for concurrent use.
type Gateway struct {
	opts     Options
	tuned    atomic.Pointer[Tuning]
	deps     Deps
	tokens   *tokens
	services atomic.Pointer[[]string] // the service tokens
	keyFile  *keyFile                 // nil: no public keys
	limiters *limiters
	server   *fasthttp.Server
	hub      *hub
	reads    []slots // per user shard
	batches  slots   // POST /v1/orders/batch under way
	offers   offerLists
	noOffer  string // why an offer may not be known here, as the end of a sentence
	seed     uint64 // of the request ids
	stats    counters

	listener  net.Listener
	parked    atomic.Bool // accepted orders may be parked: their ids read as pending whatever their age
	warnedAt  atomic.Int64
	goroutine sync.WaitGroup // serve, watchParked, watchKeys
	stop      context.CancelFunc
}

// New returns a gateway that does nothing until Start. Options are validated by who loads them.
func New(o Options, d Deps) *Gateway {
	if o.TLS.On() && o.Certificate == nil {
		panic("BUG: the gateway is to speak TLS and has no certificate")
	}
	g := &Gateway{opts: o, deps: d, tokens: newTokens(&o), limiters: newLimiters(o.TrustedProxies), seed: rand.Uint64()}
	g.tuned.Store(&o.Tuning)
	g.services.Store(&o.ServiceTokens)
	g.hub = newHub(d.Orders, o.Tuning.WaitersMax, d.Log)
	g.reads = make([]slots, d.Orders.Shards())
	g.noOffer = ", or it is too new"
	if len(o.Kinds) == 1 {
		g.noOffer += ", or of another kind: this server sells " + o.Kinds[0].String() + " offers only"
	}
	g.parked.Store(true) // until the first look says otherwise
	g.server = newServer(g)
	return g
}

// Tune replaces the tuning. It takes effect with the next request.
func (g *Gateway) Tune(t Tuning) error {
	if err := t.Validate(); err != nil {
		return err
	}
	g.tuned.Store(&t)
	g.hub.waitersMax.Store(int64(t.WaitersMax))
	g.limiters.forgetUnused(&t.Limits)
	return nil
}

// Trust replaces the secrets of users' tokens and the service tokens, which are as Options want them. It takes effect with
// the next request.
func (g *Gateway) Trust(jwtSecrets, serviceTokens []string) {
	g.tokens.trust(jwtSecrets)
	g.services.Store(&serviceTokens)
}

// Start reads the public keys, listens and serves. It returns once the listener is open; ctx bounds only that.
func (g *Gateway) Start(ctx context.Context) error {
	if g.opts.PublicKeysFile != "" {
		g.keyFile = &keyFile{path: g.opts.PublicKeysFile, log: g.deps.Log}
		set, err := g.keyFile.read()
		if err != nil {
			return err
		}
		g.tokens.keys.Store(set)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", g.opts.Listen)
	if err != nil {
		return fmt.Errorf("gateway: listen on %s: %w", g.opts.Listen, err)
	}
	g.listener = l
	var watch context.Context
	watch, g.stop = context.WithCancel(context.Background())
	g.goroutine.Go(func() { g.watchParked(watch) })
	if g.keyFile != nil {
		g.goroutine.Go(func() { g.watchKeys(watch) })
	}
	var accepting net.Listener = &boundedListener{Listener: l, g: g, of: map[uint64]int{}}
	if g.opts.TLS.On() {
		accepting = tlsfile.Listen(accepting, g.opts.Certificate)
	}
	g.goroutine.Go(func() {
		if err := g.server.Serve(accepting); err != nil && !errors.Is(err, net.ErrClosed) {
			g.deps.Log.Error("the public listener has failed", "error", err)
		}
	})
	return nil
}

// Addr is the address of the listener, host:port. It is for callers after Start.
func (g *Gateway) Addr() string { return g.listener.Addr().String() }

// Close takes no new connections, answers every request that was read, and stops. Requests that wait for a record are
// answered at once with what is known. It returns ctx.Err() if ctx ends first; then some connections are still open.
// A gateway that was not started is closed already.
func (g *Gateway) Close(ctx context.Context) error {
	if g.listener == nil {
		return nil
	}
	g.hub.drain()
	err := g.server.ShutdownWithContext(ctx)
	_ = g.listener.Close() // a server that has not begun to serve does not know it; otherwise it is closed already
	g.stop()
	if err != nil && errors.Is(err, ctx.Err()) {
		return fmt.Errorf("gateway: close: %w", err)
	}
	g.goroutine.Wait()
	g.hub.wait()
	return err
}

// watchParked reads once a second whether accepted orders are parked. While that cannot be read they may be.
func (g *Gateway) watchParked(ctx context.Context) {
	for {
		look, cancel := context.WithTimeout(ctx, g.tuned.Load().ReadDeadline)
		parked, err := g.deps.Orders.AnyParked(look)
		cancel()
		if ctx.Err() != nil {
			return
		}
		g.parked.Store(parked || err != nil)
		if err != nil {
			g.warn("read whether orders are parked", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// watchKeys looks once a second whether the file of public keys has changed.
func (g *Gateway) watchKeys(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
			g.keyFile.reread(g.tokens)
		}
	}
}

// warn logs what went wrong with something that requests do, at most once a second.
func (g *Gateway) warn(what string, err error) {
	now := time.Now().Unix()
	if last := g.warnedAt.Load(); last != now && g.warnedAt.CompareAndSwap(last, now) {
		g.deps.Log.Warn(what, "error", err)
	}
}
