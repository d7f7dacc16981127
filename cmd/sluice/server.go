package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/configs"
	"sluice/engine"
	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/stock"
	"sluice/gateway"
	"sluice/gateway/ops"
	"sluice/internal/leader"
	"sluice/internal/lockfile"
	"sluice/internal/tracing"
	"sluice/lifecycle"
	"sluice/lifecycle/feed"
	"sluice/persist"
	"sluice/persist/store"
)

// Server is the whole server in one process, or the stages of its role: what `sluice serve` runs, and what end-to-end
// tests start on port 0 in a directory of their own. Start it once, Close it once, also after a Start that failed.
type Server struct {
	config  *configs.Config
	drivers *drivers
	environ []string
	log     *slog.Logger
	began   time.Time

	vault     *vault
	secrets   *configs.Secrets // as they were at the start
	lock      *lockfile.Lock
	tracer    *tracing.Tracer // nil: off
	store     *store.Store
	queue     queue.Queue
	stock     stock.Stock
	leader    leader.Leader
	ids       *order.IDs
	lease     *nodeLease
	engine    *engine.Engine
	persist   *persist.Persist
	publisher feed.Publisher // nil: none
	lifecycle *lifecycle.Lifecycle
	ops       *ops.Server
	gateway   *gateway.Gateway

	selling   atomic.Pointer[engine.Engine] // the engine, once it has started
	reloader  atomic.Pointer[reloader]      // once the server serves, if its configuration can be read again
	level     *slog.LevelVar                // of log
	reporting sync.Mutex
	reports   map[string]func() any // by stage: its snapshot
	presence  presence
	reach     reach
	console   live

	unwatchSecrets func() // nil: not watched yet
}

// NewServer returns a server that has opened nothing. environ is where secrets may come from.
func NewServer(c *configs.Config, d *drivers, environ []string, log *slog.Logger) *Server {
	return &Server{config: c, drivers: d, environ: environ, log: log, began: time.Now(), ids: order.NewIDs(nil), level: new(slog.LevelVar),
		reports: map[string]func() any{}}
}

// readyWait is how long a start waits for all that is missing; after it the server serves without.
const readyWait = 30 * time.Second

// Start opens what the role needs, in the order of what stands on what, and returns when it does its work. ctx ends a
// start that is under way.
func (s *Server) Start(ctx context.Context) error {
	r := s.role()
	steps := []struct {
		name string
		mine bool
		do   func(context.Context) error
	}{
		{"data directory", true, s.openDataDir},
		{"secrets", true, s.openSecrets},
		{"traces", true, s.openTraces},
		{"store", true, s.openStore},
		{"queue", true, s.openQueue},
		{"stock", r.sells(), s.openStock},
		{"leader locks", r.sells() || r.tends(), s.openLeader},
		{"publisher", r.tends(), s.openPublisher},
		{"node lease", true, s.openLease},
		{"queue's identity", true, s.keepQueue},
		{"ops", true, s.openOps},
		{"engine", r.sells(), s.openEngine},
		{"persist", r.stores(), s.openPersist},
		{"lifecycle", r.sells() || r.tends(), s.openLifecycle},
		{"readiness", true, s.awaitReady},
		{"gateway", r.sells(), s.openGateway},
		{"watch of secrets", true, s.watchSecrets},
	}
	for _, step := range steps {
		if !step.mine {
			continue
		}
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("stopped during the start, after %s", step.name)
		}
		s.log.Debug("started", "step", step.name, "took", time.Since(began))
	}
	s.log.Info("serving", "role", r, "at", s.addresses(), "after", time.Since(s.began))
	return nil
}

// addresses are those that the server listens on, as `ready` says them.
func (s *Server) addresses() string {
	if s.gateway == nil {
		return "ops=" + s.ops.Addr()
	}
	return "gateway=" + s.gateway.Addr() + " ops=" + s.ops.Addr()
}

// Close stops in the order in which orders flow: no new requests, every accepted one answered, then what they went
// through. It closes what Start has opened so far; what does not end before ctx does is left behind.
func (s *Server) Close(ctx context.Context) error {
	var errs []error
	end := func(name string, open bool, do func() error) {
		if !open {
			return
		}
		began := time.Now()
		err := do()
		s.log.Info("stopped", "step", name, "took", time.Since(began))
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", name, err))
		}
	}
	if r := s.reloader.Load(); r != nil {
		r.close()
	}
	if s.unwatchSecrets != nil {
		s.unwatchSecrets()
	}
	end("gateway", s.gateway != nil, func() error { return s.gateway.Close(ctx) })
	end("engine", s.engine != nil, func() error { return s.engine.Close(ctx) })
	end("persist", s.persist != nil, func() error { return s.persist.Close(ctx) })
	end("lifecycle", s.lifecycle != nil, func() error { return s.lifecycle.Close(ctx) })
	end("traces", s.tracer != nil, func() error { s.tracer.Close(ctx); return nil })
	end("ops", s.ops != nil, func() error { return s.ops.Close(ctx) })
	end("publisher", s.publisher != nil, func() error { return s.publisher.Close() })
	end("node lease", s.lease != nil, func() error { s.lease.close(); return nil })
	end("leader locks", s.leader != nil, func() error { return s.leader.Close() })
	end("stock", s.stock != nil, func() error { return s.stock.Close() })
	end("queue", s.queue != nil, func() error { return s.queue.Close() })
	end("store", s.store != nil, func() error { return s.store.Close() })
	end("data directory", s.lock != nil, func() error { return s.lock.Release() })
	return errors.Join(errs...)
}

func (s *Server) openDataDir(context.Context) (err error) {
	s.lock, err = lockDir(s.config.DataDir)
	return err
}

func (s *Server) openTraces(ctx context.Context) (err error) {
	s.tracer, err = tracing.Open(ctx, s.config.Trace, version, s.log)
	s.config.Engine.Tracer = s.tracer
	return err
}

func (s *Server) openStore(ctx context.Context) (err error) {
	if s.store, err = s.drivers.openStore(ctx, s.config, s.vault); err == nil {
		s.report("store", func() any { return s.store.Stats() })
		for _, text := range s.store.Warnings() {
			s.log.Warn("a promise is weaker than it could be", "store", text)
		}
	}
	return err
}

func (s *Server) openQueue(ctx context.Context) (err error) {
	if s.queue, err = s.drivers.openQueue(ctx, s.config, s.store); err != nil {
		return err
	}
	return s.lookAtQueue(ctx)
}

func (s *Server) openStock(ctx context.Context) (err error) {
	s.stock, s.config.Engine.Exclusive, err = s.drivers.openStock(ctx, s.config, s.vault)
	if err != nil {
		return err
	}
	servers, warnings := describeStock(ctx, s.stock)
	for _, text := range servers {
		s.log.Info("fast stock", "server", text)
	}
	for _, text := range warnings {
		s.log.Warn("a promise is weaker than it could be", "stock", text)
	}
	return nil
}

func (s *Server) openLeader(context.Context) error {
	s.leader = s.drivers.openLeader(s.config, s.vault)
	return nil
}

func (s *Server) openPublisher(context.Context) error {
	s.publisher = publisher(s.queue)
	return nil
}

func (s *Server) openLease(ctx context.Context) (err error) {
	s.lease, err = openLease(ctx, s.store, s.ids, s.log)
	return err
}

func (s *Server) openEngine(ctx context.Context) error {
	o := s.config.Engine
	o.Leader = s.leader
	if least := s.config.Disk.FreeBytesMin; least > 0 {
		o.Room = room(s.config.DataDir, least)
	}
	s.engine = engine.New(o, s.stock, s.queue, s.store, s.ids, s.log)
	if err := s.engine.Start(ctx); err != nil {
		return err
	}
	s.selling.Store(s.engine)
	s.report("engine", func() any { return s.engine.Stats() })
	return nil
}

func (s *Server) openPersist(ctx context.Context) error {
	o := s.config.PersistOptions()
	o.Tracer = s.tracer
	s.persist = persist.New(o, s.queue, s.store, s.log)
	if err := s.persist.Start(ctx); err != nil {
		return err
	}
	s.report("persist", func() any { return s.persist.Stats() })
	return nil
}

// openLifecycle starts lifecycle; where it is another role's, it only cancels what the gateway is asked to.
func (s *Server) openLifecycle(ctx context.Context) error {
	o := s.config.Lifecycle
	o.Leader, o.Publisher = s.leader, s.publisher
	s.lifecycle = lifecycle.New(o, s.store, s.log)
	if s.role().tends() {
		if err := s.lifecycle.Start(ctx); err != nil {
			return err
		}
	}
	s.report("lifecycle", func() any { return s.lifecycle.Stats() })
	return nil
}

// awaitReady waits until nothing is missing, or for readyWait.
func (s *Server) awaitReady(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	if s.role().sells() {
		if err := s.engine.AwaitReady(wait); err == nil {
			s.log.Info("every partition is open", "partitions", len(s.engine.Ready()))
			return nil
		}
	}
	for len(s.missing()) > 0 {
		select {
		case <-time.After(100 * time.Millisecond):
			continue
		case <-wait.Done():
		}
		if ctx.Err() == nil {
			s.log.Warn("serving without all that is needed", "missing", s.missing())
		}
		break
	}
	return nil
}

func (s *Server) openOps(context.Context) (err error) {
	o := s.config.Ops
	o.Certificate = s.vault.ops.Load
	audit, err := ops.OpenAuditLog(within(s.config.DataDir, o.AuditFile), s.log)
	if err != nil {
		return fmt.Errorf("ops.audit_file: %w", err)
	}
	s.ops, err = ops.New(o, s.secrets.OpsTokens, s.program(), audit, s.log)
	if err != nil {
		return listenError("ops.listen", s.config.Ops.Listen, err)
	}
	s.ops.Start()
	return nil
}

func (s *Server) openGateway(ctx context.Context) error {
	o := s.config.GatewayOptions(s.secrets)
	o.Certificate = s.vault.public.Load
	s.gateway = gateway.New(o, gateway.Deps{
		Placer: s.engine, Catalogue: s.engine, Orders: s.store, Canceller: s.lifecycle, Log: s.log})
	s.report("gateway", func() any { return s.gateway.Stats() })
	return listenError("gateway.listen", s.config.Gateway.Listen, s.gateway.Start(ctx))
}

// listenError says in plain words what a person can do about an address that cannot be listened on.
func listenError(path, addr string, err error) error {
	_, port, _ := net.SplitHostPort(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s %s is in use by another program: stop it, or choose another port with --set %s=HOST:PORT",
			path, addr, path)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s %s: no permission for port %s; ports below 1024 need it", path, addr, port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s %s: this machine has no such address", path, addr)
	case err != nil:
		return fmt.Errorf("%s %s: %w", path, addr, err)
	}
	return nil
}

// tuneRuntime applies what the configuration says about the Go runtime, unless its own variables are set.
func tuneRuntime(r *configs.Runtime) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(r.GCPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), r.ProcsMin)) // the runtime's own number knows a container's limit
	}
}
