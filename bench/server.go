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

// server is a Sluice deployment under load: child processes with a directory of their own, or somebody's.
type server struct {
	gateways []string    // public listeners
	ops      *opsClient  // of the first gateway: fast stock is the same in all of them
	secret   string      // of buyers' tokens
	service  string      // the service token
	token    string      // of the ops listeners
	tls      *tls.Config // of the gateways; nil: in plain
	opsTLS   *tls.Config
	program  string
	args     []string  // of `serve`, for all processes
	members  []*member // none of somebody's
	dir      string    // of the children; empty: somebody's
	place    *Place
	keep     bool
	judge    *audit.Options // nil: cannot be audited

	once    sync.Once // of stop
	stopErr error
	atRest  int64
}

// startServer starts a server in a new directory, or reaches the target.
func startServer(ctx context.Context, o *Options) (*server, error) {
	if o.Target != "" {
		return &server{gateways: []string{o.Target}, ops: newOpsClient(o.Ops, o.OpsToken, o.OpsTLS), secret: o.JWTSecret,
			service: o.Service, judge: o.Audit, tls: o.TLS, opsTLS: o.OpsTLS}, nil
	}
	program, err := o.program()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "sluice-bench-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, keep: o.Keep, secret: random(), service: random(), token: random(), judge: o.Audit, program: program,
		members: o.members(), tls: o.TLS, opsTLS: o.OpsTLS}
	if s.place, err = o.place(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.args = slices.Concat(o.Args, s.place.Args)
	if err := s.start(ctx, roleAll, roleGateway, rolePersist, roleLifecycle); err != nil {
		return nil, errors.Join(err, s.endAll(), s.remove())
	}
	for _, m := range s.members {
		if addr := m.child.addrs["gateway"]; addr != "" && (m.role == roleAll || m.role == roleGateway) {
			s.gateways = append(s.gateways, addr)
		}
	}
	s.ops = s.members[0].ops
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

// stop ends the children and removes what they kept; somebody's server stays as it is. atRest is the space that the
// directory took when they had ended.
func (s *server) stop() (atRest int64, err error) {
	if !s.ours() {
		return 0, nil
	}
	s.once.Do(func() {
		s.stopErr = s.endAll()
		s.atRest = disk(s.dir)
		if !s.keep {
			s.stopErr = errors.Join(s.stopErr, s.remove())
		}
	})
	return s.atRest, s.stopErr
}
