package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sluice/bench/audit"
)

// server is a Sluice server under load: a child process with a directory of its own, or somebody's.
type server struct {
	gateway string
	ops     *opsClient
	secret  string      // of buyers' tokens
	service string      // the service token
	tls     *tls.Config // of the gateway; nil: in plain
	opsTLS  *tls.Config
	child   *child // nil: somebody's
	dir     string // of the child; empty: somebody's
	place   *Place
	keep    bool
	judge   *audit.Options // nil: cannot be audited

	once    sync.Once // of stop
	stopErr error
	atRest  int64
}

// startServer starts a server in a new directory, or reaches the target.
func startServer(ctx context.Context, o *Options) (*server, error) {
	if o.Target != "" {
		return &server{gateway: o.Target, ops: newOpsClient(o.Ops, o.OpsToken, o.OpsTLS), secret: o.JWTSecret,
			service: o.Service, judge: o.Audit, tls: o.TLS, opsTLS: o.OpsTLS}, nil
	}
	dir, err := os.MkdirTemp(o.Dir, "sluice-bench-")
	if err != nil {
		return nil, err
	}
	program, err := o.program()
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, keep: o.Keep, secret: random(), service: random(), judge: o.Audit, tls: o.TLS, opsTLS: o.OpsTLS}
	if s.place, err = o.place(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	token := random()
	argv := append(append([]string{program, "serve"}, o.Args...), s.place.Args...)
	argv = append(argv, "--set", "data_dir="+dir, "--set", "gateway.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0",
		"--set", "log.level=warn")
	s.child, err = start(ctx, []string{"SLUICE_JWT_SECRET=" + s.secret, "SLUICE_OPS_TOKEN=" + token,
		"SLUICE_SERVICE_TOKEN=" + s.service}, argv...)
	if err != nil {
		return nil, errors.Join(err, s.remove())
	}
	s.gateway, s.ops = s.child.addrs["gateway"], newOpsClient(s.child.addrs["ops"], token, o.OpsTLS)
	if s.judge == nil {
		s.judge = s.stores()
	}
	return s, nil
}

// stores are what the auditor reads: shards in the place or the directory, the embedded queue in the directory.
func (s *server) stores() *audit.Options {
	if s.place.Audit == nil {
		return embeddedStores(s.dir)
	}
	o := *s.place.Audit
	if queue := filepath.Join(s.dir, "queue.db"); exists(queue) {
		o.QueueFile = queue
	}
	return &o
}

// removeWait bounds the removal of a round's place.
const removeWait = 2 * time.Minute

// remove removes what a child that has ended leaves behind, also when the run was interrupted.
func (s *server) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), removeWait)
	defer cancel()
	return errors.Join(os.RemoveAll(s.dir), s.place.Remove(ctx))
}

func (o *Options) program() (string, error) {
	if o.Program != "" {
		return o.Program, nil
	}
	return os.Executable()
}

func random() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails: the program is ended instead
	return hex.EncodeToString(b)
}

// embeddedStores are the files that the embedded default keeps under its directory.
func embeddedStores(dir string) *audit.Options {
	shards, _ := filepath.Glob(filepath.Join(dir, "shard-*.db")) // the pattern is good
	if len(shards) == 0 {
		return nil
	}
	slices.SortFunc(shards, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return slices.Compare([]byte(a), []byte(b))
	})
	o := &audit.Options{Dialect: "sqlite", Shards: shards}
	if queue := filepath.Join(dir, "queue.db"); exists(queue) {
		o.QueueFile = queue
	}
	return o
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// audit judges the server's stores and fast stock against what the clients saw; nil if the stores cannot be reached.
func (s *server) audit(ctx context.Context, history []audit.Entry) (*audit.Report, error) {
	if s.judge == nil {
		return nil, nil
	}
	o := *s.judge
	o.OpsURL, o.OpsToken, o.OpsTLS, o.History, o.Settle = s.ops.base, s.ops.token, s.opsTLS, history, settleWait
	report, err := audit.Run(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return report, nil
}

// stop ends a child and removes what it kept; somebody's server stays as it is. atRest is the space that the directory
// took when the child had ended.
func (s *server) stop() (atRest int64, err error) {
	if s.child == nil {
		return 0, nil
	}
	s.once.Do(func() {
		s.stopErr = s.child.stop()
		s.atRest = disk(s.dir)
		if !s.keep {
			s.stopErr = errors.Join(s.stopErr, s.remove())
		}
	})
	return s.atRest, s.stopErr
}

// pid is that of a child, 0 of somebody's server.
func (s *server) pid() int {
	if s.child == nil {
		return 0
	}
	return s.child.pid()
}
