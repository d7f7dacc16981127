package bench

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Process is the CPU time that a process used for an order: of the generator until the last answer, of the others until
// the last commit.
type Process struct {
	Name   string  `json:"name"`
	CPU    float64 `json:"cpu_us_per_order"`
	Stages []Stage `json:"stages,omitempty"` // of a server that was profiled; they add up to CPU
}

// process is a running one.
type process struct {
	name   string
	pid    int
	before float64 // CPU time at the start of what is measured, in seconds
}

// meter measures the CPU time of several processes.
type meter []process

// startMeter starts with the processes of a round and those of the servers that the deployment names.
func (r *runner) startMeter(own []process) meter {
	m := meter(append(slices.Clip(own), r.servers()...))
	m.begin()
	return m
}

func (m meter) begin() {
	for i := range m {
		m[i].before = cpu(m[i].pid)
	}
}

// servers are the processes that the deployment names, as far as they run here.
func (r *runner) servers() []process {
	if r.o.Deployment == nil || r.o.Target != "" {
		return nil
	}
	return listeners(r.o.Deployment.Servers())
}

// stop says what was used since, per order. own is the generator's, in seconds; 0: it had nothing to do.
func (m meter) stop(own float64, orders int64) []Process {
	per := 1e6 / float64(max(1, orders))
	var list []Process
	if own > 0 {
		list = append(list, Process{Name: "generator", CPU: own * per})
	}
	for _, p := range m {
		used := (cpu(p.pid) - p.before) * per
		if at := slices.IndexFunc(list, func(q Process) bool { return q.Name == p.name }); at >= 0 {
			list[at].CPU += used
			continue
		}
		list = append(list, Process{Name: p.name, CPU: used})
	}
	return list
}

// listeners finds the processes that listen on ports of this machine; others are left out.
func listeners(servers []Server) (list []process) {
	sockets := map[string]string{} // with the name that the server has
	for _, server := range servers {
		host, port, err := net.SplitHostPort(server.Addr)
		n, bad := strconv.ParseUint(port, 10, 16)
		if ip := net.ParseIP(host); errors.Join(err, bad) != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			continue
		}
		for _, inode := range listening(uint16(n)) {
			sockets["socket:["+inode+"]"] = server.Name
		}
	}
	if len(sockets) == 0 {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	for _, link := range links {
		to, err := os.Readlink(link)
		name, ours := sockets[to]
		if err != nil || !ours {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		if slices.ContainsFunc(list, func(p process) bool { return p.pid == pid }) {
			continue
		}
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
			list = append(list, process{name: cmp.Or(name, strings.TrimSpace(string(comm))), pid: pid})
		}
	}
	return list
}

// listening are the inodes of the sockets that listen on a port.
func listening(port uint16) (inodes []string) {
	suffix := ":" + strings.ToUpper(hex.EncodeToString([]byte{byte(port >> 8), byte(port)}))
	const stateListen = "0A"
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 9 && strings.HasSuffix(f[1], suffix) && f[3] == stateListen {
				inodes = append(inodes, f[9])
			}
		}
	}
	return inodes
}
