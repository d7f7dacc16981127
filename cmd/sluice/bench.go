package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench"
	"sluice/configs"
	"sluice/internal/tlsfile"
)

// benchFlags are the command's flags that are no options of bench themselves.
type benchFlags struct {
	format, listen string
	ca             string
	html, against  string
	cluster        bool
	answerBytes    int
}

func newBench(s *settings) *cobra.Command {
	var o bench.Options
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench " + strings.Join(bench.Scenarios(), "|"),
		Short: "Put load on a server, audit it, and report",
		Long: "Put load on a server and report what it stored, how fast, and the audit's verdict. Without --target every round\n" +
			"starts a server of its own, with the given -c and --set, and removes its data; with --cluster it is several processes.\n" +
			"Where these name MySQL shards or Redis, a round makes databases and a name of its own beside the configured ones.\n" +
			"With --target, -c and --set name the configuration that the running server has. The exit code is 1 if an audit failed.",
		Args: takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch o.Scenario = args[0]; {
			case f.listen == "":
			case o.Scenario == bench.Ceiling:
				return bench.ServeCeiling(cmd.Context(), bench.CeilingOptions{Listen: f.listen, AnswerBytes: f.answerBytes}, cmd.OutOrStdout())
			case o.Scenario == "naive":
				return serveNaive(cmd, s, &f, &o)
			}
			return runBench(cmd, s, &o, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.format, "output", "o", "text", "text or json")
	flags.StringVar(&f.html, "html", "", "file for the report as a page with pictures")
	flags.StringVar(&f.against, "against", "", "an earlier report of -o json, to be drawn beside this one in --html")
	flags.StringVar(&o.Target, "target", "", "gateway of a running server: host:port, http://host:port or https://host:port")
	flags.StringVar(&f.ca, "ca", "", "PEM file of the authority that the target's certificate is signed by (default: its own certificate, if gateway.tls names it, or those that the system trusts)")
	flags.BoolVar(&f.cluster, "cluster", false, "a server of several processes: 2 gateways, 2 persisters, 1 lifecycle, on the servers of -c")
	flags.IntVar(&o.Gateways, "gateways", 0, "gateways of such a server (default 2)")
	flags.IntVar(&o.Persisters, "persisters", 0, "persisters of such a server (default 2)")
	flags.IntVar(&o.Orders, "orders", 0, "requests of a round (default 100000, of drain 300000, of day 1000000, or what --duration needs)")
	flags.DurationVar(&o.Duration, "duration", 0, "ends the sending (default: when --orders are sent)")
	flags.Float64Var(&o.Rate, "rate", 0, "orders per second of an open loop; 0 finds the maximum (default of normal 2000, of latency 1000, of day 850, of browse 500)")
	flags.Float64Var(&o.Cap, "cap", 0, "mixed: orders per second of the sale that the server lets through (default 3000)")
	flags.Float64Var(&o.RateShare, "rate-share", 0, "flash, batch: one more round at this share of the stored rate")
	flags.IntSliceVar(&o.Connections, "connections", nil, "connections; a case for each (default 256, of batch 8)")
	flags.IntSliceVar(&o.NaiveConnections, "naive-connections", []int{8}, "compare: the naive server's connections to each shard; of several numbers the fastest counts")
	flags.IntSliceVar(&o.Limits, "limit", nil, "per-user limits; a case for each (default 0, none)")
	flags.IntVar(&o.Lines, "lines", 0, "batch, compare: orders of one request (default 500); drain: the same (default: one order, not through the batch endpoint)")
	flags.IntVar(&o.Offers, "offers", 1, "drain: on sale side by side, each in a group of its own")
	flags.DurationVar(&o.Unpaid, "unpaid", time.Minute, "day: after which orders that nobody pays expire")
	flags.IntVar(&o.Users, "users", 0, "distinct users (default: as many as orders)")
	flags.Int64Var(&o.Units, "units", 0, "units on sale (default: enough for every order)")
	flags.IntVar(&o.Rounds, "rounds", 1, "rounds of every case")
	flags.IntVar(&o.Copies, "copies", 10, "retry: how often each key is sent")
	flags.BoolVar(&o.Keyless, "keyless", false, "flash: without idempotency keys")
	flags.IntVar(&o.Details, "details", 200, "bytes of an order's details")
	flags.BoolVar(&o.Minute, "minute", false, "flash, batch: a minute at the maximum, its last 10 s against its first")
	flags.Uint64Var(&o.Seed, "seed", 0, "of users and keys (default: by the clock)")
	flags.StringVar(&o.Generator, "generator", bench.Own, "own, or wrk if that program is installed")
	flags.DurationVar(&o.Patience, "patience", 40*time.Second, "how long to wait for a quiet machine before each run; negative: do not look")
	flags.StringVar(&o.Profile, "profile", "", "file for a CPU profile of the server in the first round")
	flags.BoolVar(&o.Keep, "keep", false, "keep the data directories")
	flags.StringVar(&o.Dir, "dir", "", "where data directories are made (default: that of temporary files)")
	flags.StringVar(&f.listen, "listen", "", "ceiling, naive: be that server on this address")
	flags.IntVar(&f.answerBytes, "answer-bytes", 500, "ceiling: bytes of the bare server's answers")
	_ = flags.MarkHidden("listen")       // both exist: errors cannot be
	_ = flags.MarkHidden("answer-bytes") // for the children of bench
	return cmd
}

func runBench(cmd *cobra.Command, s *settings, o *bench.Options, f *benchFlags) error {
	if f.format != "text" && f.format != "json" {
		return fmt.Errorf("-o must be text or json, not %q", f.format)
	}
	if f.cluster {
		o.Gateways, o.Persisters = cmp.Or(o.Gateways, 2), cmp.Or(o.Persisters, 2)
	}
	if f.ca != "" && !strings.HasPrefix(o.Target, "https://") {
		return errors.New("--ca is for a --target that begins with https://")
	}
	if o.Target != "" {
		if err := aim(cmd.Context(), s, o, f.ca); err != nil {
			return err
		}
	} else {
		o.Args = s.args()
		c, _, err := s.load()
		if err == nil {
			o.TLS, o.OpsTLS, err = knownListeners(c)
		}
		if err == nil {
			o.Deployment, err = s.deployment()
		}
		if err != nil {
			return err
		}
	}
	o.Commit, o.Progress = commit(), cmd.ErrOrStderr()
	var against *bench.Report
	if f.against != "" {
		var err error
		if against, err = bench.ReadReport(f.against); err != nil {
			return err
		}
	}
	report, err := bench.Run(cmd.Context(), *o)
	if err != nil {
		return err
	}
	if f.html != "" {
		if err := writePage(f.html, report, against); err != nil {
			return err
		}
	}
	write := report.Text
	if f.format == "json" {
		write = report.JSON
	}
	if err := write(cmd.OutOrStdout()); err != nil {
		return err
	}
	if !report.Passed() {
		return errSaid
	}
	return nil
}

func writePage(path string, report, against *bench.Report) error {
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(report.HTML(w, against), w.Close())
}

// knownListeners says how the listeners of a configuration are reached, where its certificates are at hand.
func knownListeners(c *configs.Config) (public, ops *tls.Config, err error) {
	if public, err = c.Gateway.TLS.Known(); err != nil {
		return nil, nil, fmt.Errorf("gateway.tls: %w", err)
	}
	if ops, err = c.Ops.TLS.Known(); err != nil {
		return nil, nil, fmt.Errorf("ops.tls: %w", err)
	}
	return public, ops, nil
}

// aim fills in what a running server is reached and audited by.
func aim(ctx context.Context, s *settings, o *bench.Options, ca string) error {
	c, _, err := s.load()
	if err != nil {
		return err
	}
	if o.TLS, o.OpsTLS, err = knownListeners(c); err != nil {
		return err
	}
	target, secure := strings.CutPrefix(o.Target, "https://")
	switch {
	case secure && (o.TLS == nil || ca != ""):
		if o.TLS, err = (&tlsfile.Client{Enabled: true, CAFile: ca}).Load(); err != nil {
			return fmt.Errorf("--ca: %w", err)
		}
	case strings.HasPrefix(o.Target, "http://"):
		o.TLS = nil
	}
	o.Target = strings.TrimSuffix(strings.TrimPrefix(target, "http://"), "/") // as it is in curl lines
	secrets, err := loadSecrets(c)
	if err != nil {
		return err
	}
	o.Ops, o.OpsToken, o.JWTSecret = reachable(c.Ops.Listen), secrets.OpsToken, secrets.JWT
	o.Service = secrets.ServiceToken
	judge, err := auditOptions(ctx, s)
	if err != nil {
		return err
	}
	if judge.OpsURL == "" {
		return errors.New("no server answers on " + o.Ops + " (ops.listen): -c and --set must be those of the target")
	}
	for _, place := range judge.Shards {
		if _, err := os.Stat(place); judge.Dialect == "sqlite" && err != nil {
			return nil // the files are on another machine: load without an audit
		}
	}
	o.Audit = judge
	return nil
}

// args are the settings as flags, for a child process.
func (s *settings) args() []string {
	var args []string
	if s.file != "" {
		args = append(args, "-c", s.file)
	}
	for _, set := range s.set {
		args = append(args, "--set", set)
	}
	return args
}
