package bench

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"sluice/bench/audit"
)

// The scenarios.
const (
	Flash   = "flash"   // a crowd buys one offer: orders stored per second
	SoldOut = "soldout" // a crowd asks for an offer that is known to be sold out: refusals per second
	Batch   = "batch"   // flash through the batch endpoint, against the bare server that gets one order per request
	Normal  = "normal"  // an ordinary day: carts over many offers, at a rate
	Mixed   = "mixed"   // a sale over an ordinary day: what ordinary orders notice of it
	Browse  = "browse"  // people: the offer's page, an order, polls until it is stored, the list, a cancel
	Retry   = "retry"   // storms of repeated keys: one order per key
	Ceiling = "ceiling" // the bare server alone
	Compare = "compare" // flash, batch, the bare server and a naive one in turn, on the same databases and Redis
	Delay   = "latency" // from accepted to stored, at a rate that the server keeps up with
	Drain   = "drain"   // a backlog is stored, against bare inserts of the same rows
	Rest    = "rest"    // what the processes use while nobody asks for anything
	Day     = "day"     // an ordinary day compressed: orders are placed, read, listed, cancelled, and expire
)

// Scenarios lists them.
func Scenarios() []string {
	return []string{Flash, Batch, Normal, Mixed, Browse, SoldOut, Retry, Ceiling, Compare, Delay, Drain, Rest, Day}
}

// Generators of load.
const (
	Own = "own" // bench/load
	Wrk = "wrk" // the program wrk with bench/wrk.lua
)

// Options say what to run. The zero value of a field means its default.
type Options struct {
	Scenario string

	// Target is the gateway of a running server, host:port; empty: every round starts its own. Ops, OpsToken and
	// JWTSecret belong to a target.
	Target    string
	Ops       string
	OpsToken  string
	JWTSecret string
	Service   string // the service token
	// TLS is how the gateway is reached if it speaks TLS, OpsTLS the ops listener, those of child processes too; nil: in plain.
	TLS, OpsTLS *tls.Config
	// Audit says where the target's stores are. nil: those of the child process, or of a target none: not audited.
	Audit *audit.Options

	// Program is the sluice binary that child processes run; empty: this one. Args go before `serve`'s own flags: -c
	// and --set of the command line.
	Program string
	Args    []string
	Dir     string // under which data directories are made and removed; empty: that of temporary files
	// Deployment is where the child processes keep what is not in their directories; nil: nothing.
	Deployment Deployment
	// Gateways and Persisters are the processes that a round's server consists of, beside one with the role lifecycle. If one
	// of them is 0 it becomes 2, if both are the server is one process.
	Gateways, Persisters int

	Orders      int           // requests of a round; 0: 100,000, or what Duration needs
	Duration    time.Duration // ends the sending; 0: when Orders are sent
	Rate        float64       // requests per second of an open loop; 0: find the maximum
	Cap         float64       // mixed: orders per second of the sale that the server lets through; default 3,000
	RateShare   float64       // flash: after the rounds, one more at this share of the stored rate; 0: none
	Connections []int         // a case for each; default 256, of Batch 8
	Lines       int           // Batch: orders of one request; default 500
	// NaiveConnections are the naive server's connections to each shard; of several numbers the fastest in each round counts.
	// Default 8.
	NaiveConnections []int
	Limits           []int         // per-user limits, a case for each; default 0, none
	Users            int           // distinct users; 0: as many as orders
	Units            int64         // on sale; 0: enough for every order
	Rounds           int           // of every case; default 1
	Copies           int           // retry: how often each key is sent; default 10
	Offers           int           // drain: on sale side by side, each in a group of its own; default 1
	Unpaid           time.Duration // day: after which unpaid orders expire; default 1 minute
	Keyless          bool          // flash: without idempotency keys
	Details          int           // bytes of an order's details; default 200
	Minute           bool          // flash: a minute at the maximum, its last 10 s against its first
	Seed             uint64        // of users and keys; 0: by the clock

	Generator string        // Own or Wrk
	Patience  time.Duration // how long to wait for a quiet machine before each run; default 40 s, negative: do not look
	Profile   string        // file for a CPU profile of the server in the first round
	Keep      bool          // keep the data directories
	Commit    string        // for the report
	Command   string        // for the report; empty: os.Args

	Progress io.Writer // for the progress bar and one line per round; nil: none
}

func (o *Options) defaults() {
	if o.Minute {
		o.Duration = time.Minute
	}
	if o.Scenario == Drain || o.Cluster() || o.Persisters > 0 {
		setDefault(&o.Gateways, 2)
		setDefault(&o.Persisters, 2)
	}
	o.defaultsOfScenario()
	if o.Orders == 0 && o.Duration == 0 {
		o.Orders = 100_000
	}
	if o.Orders == 0 {
		perSecond := 1.1 * o.Rate
		if o.Rate == 0 {
			perSecond = 100_000 // more than this machine's servers store; when they are spent the round ends
		}
		o.Orders = int(perSecond * o.Duration.Seconds())
	}
	if len(o.Connections) == 0 && o.Scenario == Batch {
		o.Connections = []int{batchConnections}
	}
	if len(o.Connections) == 0 {
		o.Connections = []int{256}
	}
	switch o.Scenario {
	case Batch, Compare:
		setDefault(&o.Lines, 500)
	case Drain: // 0: one order per request
	default:
		o.Lines = 0
	}
	if len(o.NaiveConnections) == 0 {
		o.NaiveConnections = []int{8}
	}
	if len(o.Limits) == 0 {
		o.Limits = []int{0}
	}
	setDefault(&o.Rounds, 1)
	setDefault(&o.Copies, 10)
	setDefault(&o.Offers, 1)
	setDefault(&o.Details, 200)
	setDefault(&o.Generator, Own)
	setDefault(&o.Patience, 40*time.Second)
	setDefault(&o.Seed, uint64(time.Now().UnixNano()))
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	setDefault(&o.Dir, os.TempDir())
}

// defaultsOfScenario are those of the scenarios that run at a rate and for a time.
func (o *Options) defaultsOfScenario() {
	switch o.Scenario {
	case Normal:
		setDefault(&o.Rate, 2000)
		setDefault(&o.Duration, 30*time.Second)
	case Browse:
		setDefault(&o.Rate, 500)
		setDefault(&o.Duration, time.Minute)
	case Delay:
		setDefault(&o.Rate, 1000)
		setDefault(&o.Duration, time.Minute)
	case Drain:
		setDefault(&o.Orders, 300_000)
		return
	case Rest:
		setDefault(&o.Orders, 1000)
		setDefault(&o.Duration, 30*time.Second)
	case Day:
		setDefault(&o.Rate, 850)
		setDefault(&o.Orders, 1_000_000)
		setDefault(&o.Users, o.Orders*3/2)
		setDefault(&o.Unpaid, time.Minute)
	case Mixed:
		setDefault(&o.Cap, 3000)
		setDefault(&o.Duration, 20*time.Second)
	default:
		return
	}
	if len(o.Connections) == 0 && o.Scenario != Mixed && o.Scenario != Day { // a day has many who wait
		o.Connections = []int{64}
	}
}

func setDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// Validate says what is wrong with the options, in words for whoever gave them.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	known := false
	for _, s := range Scenarios() {
		known = known || s == o.Scenario
	}
	check(known, "unknown scenario %q: it is one of %v", o.Scenario, Scenarios())
	check(o.Generator == "" || o.Generator == Own || o.Generator == Wrk, "unknown generator %q: own or wrk", o.Generator)
	check(o.Generator != Wrk || o.Rate == 0 && (o.Scenario == Flash || o.Scenario == SoldOut || o.Scenario == Ceiling), "wrk only finds the maximum of flash and soldout")
	check(o.Target == "" || o.Ops != "" && o.JWTSecret != "" && o.Service != "",
		"a target needs its ops listener and token, to create offers, its JWT secret, to sign buyers' tokens, and its service token")
	check(o.Orders >= 0 && o.Users >= 0 && o.Units >= 0 && o.Offers >= 0 && o.Rounds >= 0 && o.Copies >= 0 && o.Rate >= 0 && o.Cap >= 0,
		"numbers must not be negative")
	for _, n := range slices.Concat(o.Connections, o.Limits) {
		check(n >= 0, "numbers must not be negative")
	}
	for _, n := range o.NaiveConnections {
		check(n >= 1, "the naive server needs a connection")
	}
	check(o.Target == "" || !slices.Contains([]string{Mixed, Drain, Rest, Day}, o.Scenario),
		"%s needs servers of its own, with settings of its own", o.Scenario)
	check(o.Scenario != Compare || o.Target == "" && o.Deployment != nil,
		"compare needs a configuration with MySQL shards and Redis, on which it runs servers of its own: deploy/local/up DIR mariadb redis, then -c DIR/distributed.yaml")
	o.validateCluster(check)
	check(o.Scenario != Compare || o.Generator != Wrk && len(o.Connections) < 2 && len(o.Limits) < 2, "compare compares one number of connections and one limit, with its own generator")
	check(!o.Minute || o.Scenario == Flash || o.Scenario == Batch, "a minute is measured by flash and batch only")
	check(o.Lines >= 0 && o.Lines <= 1000, "lines must be 1 to 1000")
	return errors.Join(errs...)
}

// clusterHint is how to get what several processes need.
const clusterHint = "deploy/local/up DIR mariadb redis rocketmq, then -c DIR/distributed.yaml"

func (o *Options) validateCluster(check func(ok bool, format string, args ...any)) {
	check(o.Gateways >= 0 && o.Persisters >= 0, "numbers must not be negative")
	check(o.Scenario != Rest && o.Scenario != Day && o.Scenario != Delay || o.Generator != Wrk, "%s has a generator of its own", o.Scenario)
	if !o.Cluster() && o.Persisters == 0 && o.Scenario != Drain {
		return
	}
	check(o.Target == "", "a server of several processes is started by the bench, not a target")
	check(o.Generator != Wrk, "wrk knows one gateway only")
	why := errors.New("there are only files")
	if o.Deployment != nil {
		why = o.Deployment.Shared()
	}
	check(why == nil, "several processes need servers that they share, and here %v: %s", why, clusterHint)
}
