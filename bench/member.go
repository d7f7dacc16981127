package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// The roles of a deployment's processes.
const (
	roleAll       = "all"
	roleGateway   = "gateway"
	rolePersist   = "persist"
	roleLifecycle = "lifecycle"
)

// member is one process of a deployment under load.
type member struct {
	name  string // in reports: sluice, gateway 2
	role  string
	child *child // nil while it does not run
	ops   *opsClient
}

// Cluster tells whether a round's server is several processes.
func (o *Options) Cluster() bool { return o.Gateways > 0 }

// members are the processes of a round, in the order in which orders flow.
func (o *Options) members() (list []*member) {
	if !o.Cluster() {
		return []*member{{name: "sluice", role: roleAll}}
	}
	for _, some := range []struct {
		role  string
		count int
	}{{roleGateway, o.Gateways}, {rolePersist, o.Persisters}, {roleLifecycle, 1}} {
		for n := range some.count {
			m := &member{name: some.role, role: some.role}
			if some.count > 1 {
				m.name = fmt.Sprintf("%s %d", some.role, n+1)
			}
			list = append(list, m)
		}
	}
	return list
}

// start starts the processes of these roles that do not run, all at once: they need each other before they are ready.
func (s *server) start(ctx context.Context, roles ...string) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, m := range s.members {
		if m.child == nil && slices.Contains(roles, m.role) {
			g.Go(func() error { return s.startMember(gctx, m) })
		}
	}
	return g.Wait()
}

func (s *server) startMember(ctx context.Context, m *member) error {
	dir := s.dir
	argv := append([]string{s.program, "serve"}, s.args...)
	if m.role != roleAll {
		dir = filepath.Join(s.dir, strings.ReplaceAll(m.name, " ", "-"))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		argv = append(argv, "--role", m.role)
	}
	argv = append(argv, "--set", "data_dir="+dir, "--set", "gateway.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0",
		"--set", "log.level=warn")
	child, err := start(ctx, []string{"SLUICE_JWT_SECRET=" + s.secret, "SLUICE_OPS_TOKEN=" + s.token,
		"SLUICE_SERVICE_TOKEN=" + s.service}, argv...)
	if err != nil {
		return err
	}
	m.child, m.ops = child, newOpsClient(child.addrs["ops"], s.token, s.opsTLS)
	return nil
}

// end ends the processes of a role, all of them at once.
func (s *server) end(role string) error {
	var ending errgroup.Group
	for _, m := range s.members {
		if m.role != role || m.child == nil {
			continue
		}
		ending.Go(func() error {
			err := m.child.stop()
			m.child = nil
			return err
		})
	}
	return ending.Wait()
}

// endAll ends all processes in the order in which orders flow.
func (s *server) endAll() error {
	var errs []error
	for _, role := range []string{roleAll, roleGateway, rolePersist, roleLifecycle} {
		errs = append(errs, s.end(role))
	}
	return errors.Join(errs...)
}

// ours tells whether the server is child processes.
func (s *server) ours() bool { return len(s.members) > 0 }

// sum adds a figure up over the processes that run.
func sum[T int64 | float64](s *server, of func(pid int) T) (sum T) {
	for _, m := range s.members {
		if m.child != nil {
			sum += of(m.child.pid())
		}
	}
	return sum
}

// cpu is the CPU time that the server's processes have used, in seconds; 0 of somebody's.
func (s *server) cpu() float64 { return sum(s, cpu) }

// memory is what /proc says of all of the server's processes; 0 of somebody's.
func (s *server) memory(field string) int64 {
	return sum(s, func(pid int) int64 { return memory(pid, field) })
}

// processes are the server's, for a meter.
func (s *server) processes() (list []process) {
	for _, m := range s.members {
		if m.child != nil {
			list = append(list, process{name: m.name, pid: m.child.pid()})
		}
	}
	return list
}
