// Package ops is the ops listener: the HTTP side that operators, the auditor and the monitoring use, and that never
// shares a port with the public one. Every role runs it. It decides nothing: what it shows and does is handed to it in
// a Program.
//
// Every route but /healthz, /readyz, /openapi.yaml and the console page at / needs the bearer token; the page holds no secret
// and asks for the token. openapi.yaml describes them all. Errors are RFC 9457 problem documents.
//
// # Goroutines
//
// One accepts connections, and net/http runs one per connection; Close waits for all of them.
package ops

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/internal/tlsfile"
	"sluice/persist/store"
)

// Options are fixed for the life of a listener.
type Options struct {
	Listen string `koanf:"listen"` // host:port; port 0 takes a free one
	// TLS is the listener's certificate; none: it speaks in plain. Certificate gives what its files hold, at each handshake; with
	// TLS it is needed.
	TLS         tlsfile.Server          `koanf:"tls"`
	Certificate func() *tls.Certificate `koanf:"-"`
	// AuditFile is where calls that change something are written down (AuditLog); who opens it resolves relative paths.
	AuditFile string
}

// Validate says in plain words what is wrong with the options; nil if nothing is.
func (o *Options) Validate() error {
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return fmt.Errorf("ops.listen must be host:port, such as 127.0.0.1:8081, not %q", o.Listen)
	}
	if o.AuditFile == "" {
		return errors.New("ops.audit_file must name a file: what operators do is written down")
	}
	return o.TLS.Validate("ops.tls")
}

// Program is the process as the listener sees it. All functions are called from many goroutines at once. Those that are nil
// answer 404: another role has them.
type Program struct {
	Offers    Offers    // edits
	Catalogue Catalogue // what this process sells; nil without an engine
	Parked    Parked
	Letters   Letters
	Feed      Feed
	Order     func(ctx context.Context, id order.ID) (*order.Order, error) // nil if it is not stored
	Stats     func() any
	Stock     func(ctx context.Context) ([]Stock, error)
	Rebuild   func(ctx context.Context, partitions []order.Partition) error // none named: all
	Config    func() any                                                    // secrets masked
	Reload    func(dry bool) (any, error)                                   // reads the configuration again
	Metrics   func(w io.Writer)
	Live      func() any      // what the console shows; called once a second for each who watches
	Missing   func() []string // what this process still waits for, in words; empty when it is ready
	Lacking   *Problem        // what calls of the functions that are nil are answered; nil: that they are not here
}

// Offers edits offers in the store. *store.Store is one.
type Offers interface {
	CreateOffers(ctx context.Context, offers []order.Offer) ([]order.Offer, error)
	ChangeOffer(ctx context.Context, id order.OfferID, change store.OfferChange) (was, is order.Offer, err error)
	CloseOffer(ctx context.Context, id order.OfferID) (was, is order.Offer, err error)
}

// Catalogue is what this process sells, from memory.
type Catalogue interface {
	// Offer is one offer and the units left of it; ok is false if it is not known here.
	Offer(id order.OfferID) (o order.Offer, left int64, ok bool)
	// Offers lists those with higher ids than after, in their order, without the units left.
	Offers(after order.OfferID) iter.Seq[*order.Offer]
	// Sellable tells whether this process sells the offer as it is in o: the catalogue has it so, and fast stock knows it.
	Sellable(o *order.Offer) bool
	// Sells tells whether this process sells offers of a kind at all.
	Sells(kind order.Kind) bool
}

// Stock is one partition's fast stock for the auditor.
type Stock struct {
	Partition order.Partition  `json:"partition"`
	Kind      string           `json:"kind"`
	State     string           `json:"state"`
	Epoch     string           `json:"epoch"`
	Applied   uint64           `json:"applied"`
	Logged    uint64           `json:"logged"`
	Outbox    int              `json:"outbox"`
	Waiting   int              `json:"waiting"`
	Backlog   int64            `json:"backlog"` // messages in the queue that are not acknowledged
	Left      map[string]int64 `json:"left"`    // by offer; absent if the partition is not open
	Buyers    [][3]any         `json:"buyers"`  // offer, user, units
}

// Server is the listener. Close it.
type Server struct {
	program  Program
	tokens   atomic.Pointer[[]knownToken]
	audit    *AuditLog
	log      *slog.Logger
	listener net.Listener
	http     *http.Server
	served   chan error
	watchers chan struct{} // a slot for each stream of events
	ending   chan struct{} // closed by Close: streams end
	closing  sync.Once
}

// New returns a server that does not answer yet.
func New(o Options, tokens []Token, p Program, audit *AuditLog, log *slog.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("ops listener: %w", err)
	}
	if o.TLS.On() {
		listener = tlsfile.Listen(listener, o.Certificate)
	}
	s := &Server{program: p, audit: audit, log: log, listener: listener, served: make(chan error, 1),
		watchers: make(chan struct{}, watchersMax), ending: make(chan struct{})}
	s.Trust(tokens)
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      5 * time.Minute, // CPU profiles take as long as was asked for
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is the address that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Start begins to answer. It does not block.
func (s *Server) Start() { go func() { s.served <- s.http.Serve(s.listener) }() }

// Close ends the streams of events, stops listening, waits until what runs is answered or ctx ends, and then closes the
// connections.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { close(s.ending) })
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	_ = s.listener.Close() // for a server that was never started
	return err
}

// route is one address with one method. openapi.yaml describes every one of them; a test holds the two equal.
type route struct {
	pattern string // as http.ServeMux takes it
	handed  bool   // this process has it
	open    bool   // it needs no token
	serve   http.HandlerFunc
}

func (s *Server) table() []route {
	p := &s.program
	has := func(pattern string, handed bool, h handler, parameters ...string) route {
		return route{pattern, handed, false, s.handle(only(parameters, h))}
	}
	does := func(pattern string, handed bool, d deed, parameters ...string) route {
		return route{pattern, handed, false, s.perform(d, parameters...)}
	}
	return []route{
		{"GET /healthz", true, true, s.healthz},
		{"GET /readyz", true, true, s.readyz},
		{"GET /{$}", true, true, console},
		{"GET /openapi.yaml", true, true, describe},
		does("POST /ops/offers", p.Offers != nil, s.createOffer),
		{"POST /ops/offers/batch", p.Offers != nil, false, s.recorded(s.createOffers)},
		does("PATCH /ops/offers/{id}", p.Offers != nil, s.changeOffer),
		does("POST /ops/offers/{id}/close", p.Offers != nil, s.closeOffer),
		has("GET /ops/offers", p.Catalogue != nil, s.listOffers, "kind", "shop_id", "limit", "cursor"),
		has("GET /ops/offers/{id}", p.Catalogue != nil, s.getOffer),
		has("GET /ops/feed", p.Feed != nil, s.readFeed, "shard", "after", "limit"),
		has("GET /ops/orders/{id}", p.Order != nil, s.getOrder),
		has("GET /ops/parked", p.Parked != nil, s.listParked, "shard", "poison", "limit", "cursor"),
		has("GET /ops/parked/{batch}/{order}", p.Parked != nil, s.getParked),
		does("POST /ops/parked/{batch}/{order}/replay", p.Parked != nil, s.replayParked),
		does("POST /ops/parked/{batch}/{order}/reject", p.Parked != nil, s.rejectParked),
		has("GET /ops/deadletters", p.Letters != nil, s.listLetters, "limit", "cursor"),
		has("GET /ops/deadletters/{id}", p.Letters != nil, s.getLetter),
		does("POST /ops/deadletters/{id}/replay", p.Letters != nil, s.replayLetter),
		does("DELETE /ops/deadletters/{id}", p.Letters != nil, s.dropLetter),
		has("GET /ops/stats", p.Stats != nil, s.stats),
		{"GET /ops/events", p.Live != nil, false, s.none(s.events)},
		has("GET /ops/stock", p.Stock != nil, s.stock),
		does("POST /ops/rebuild", p.Rebuild != nil, s.rebuild),
		has("GET /ops/config", p.Config != nil, s.config),
		does("POST /ops/reload", p.Reload != nil, s.reload, "dry_run"),
		has("GET /metrics", p.Metrics != nil, s.metrics),
	}
}

func (s *Server) routes() http.Handler {
	open, closed := http.NewServeMux(), http.NewServeMux()
	open.Handle("/", s.authenticated(closed))
	for _, r := range s.table() {
		switch {
		case !r.handed && s.program.Lacking == nil:
		case !r.handed:
			closed.HandleFunc(r.pattern, func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, s.program.Lacking) })
		case r.open:
			open.HandleFunc(r.pattern, r.serve)
		default:
			closed.HandleFunc(r.pattern, r.serve)
		}
	}
	closed.HandleFunc("/debug/pprof/", pprof.Index)
	closed.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	closed.HandleFunc("/debug/pprof/profile", pprof.Profile)
	closed.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	closed.HandleFunc("/debug/pprof/trace", pprof.Trace)
	closed.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.noRoute(w, r, open, closed) })
	return open
}

// noRoute answers what no route takes: 405 if one does with another method.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, routes ...*http.ServeMux) {
	var takes []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		for _, mux := range routes {
			if _, pattern := mux.Handler(&http.Request{Method: method, Host: r.Host, URL: r.URL}); pattern != "/" {
				takes = append(takes, method)
			}
		}
	}
	if len(takes) == 0 {
		s.fail(w, r, &Problem{Status: 404, Code: "not_found",
			Detail: r.URL.Path + ": there is no such address, or this process does not have it"})
		return
	}
	allow := strings.Join(takes, ", ")
	w.Header().Set("Allow", allow)
	s.fail(w, r, &Problem{Status: 405, Code: "method_not_allowed", Detail: r.URL.Path + " takes " + allow + ", not " + r.Method})
}

// authenticated lets requests with the token through.
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.who(r.Header.Get("Authorization")); ok {
			next.ServeHTTP(w, r)
			return
		}
		s.refuse(w, r)
	})
}

// refuse answers a request without a token that is taken.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request) {
	s.audit.refuse(r)
	w.Header().Set("WWW-Authenticate", `Bearer realm="sluice ops"`)
	s.fail(w, r, &Problem{Status: 401, Code: "unauthenticated",
		Detail: "send the ops token as `Authorization: Bearer TOKEN`; it is SLUICE_OPS_TOKEN, or ops_token in secrets.yaml of the data directory"})
}
