package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/bench/audit"
	"sluice/configs"
	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/gateway"
	"sluice/internal/openapitest"
)

// TestMain lets the test binary be the program: a test that needs a process of its own, to kill it, starts itself.
func TestMain(m *testing.M) {
	if os.Getenv("SLUICE_TEST_PROGRAM") != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// longD is a deadline that a busy machine keeps: these tests are not about it.
const longD = "engine.deadline=10s"

// shop is a server under test as its users see it: two addresses and the secrets.
type shop struct {
	t            *testing.T
	dir          string
	gateway, ops string
	secrets      *configs.Secrets
	set          []string     // settings that the auditor needs too
	http         *http.Client // nil: the default
}

var quiet = slog.New(slog.DiscardHandler)

// config is a configuration on free ports with its data in dir.
func config(t *testing.T, dir string, set ...string) (*configs.Config, *drivers) {
	t.Helper()
	s := settings{set: append([]string{"data_dir=" + dir, "gateway.listen=127.0.0.1:0", "ops.listen=127.0.0.1:0", longD}, set...)}
	c, d, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	return c, d
}

// open starts a server in this process. stop ends it, gracefully; the test's end does too.
func open(t *testing.T, dir string, set ...string) (s *shop, stop func()) {
	t.Helper()
	return openThrough(t, dir, nil, set...)
}

// openThrough is open with a queue of the test's own in front of the driver's; nil: none.
func openThrough(t *testing.T, dir string, front func(queue.Queue) queue.Queue, set ...string) (s *shop, stop func()) {
	t.Helper()
	c, d := config(t, dir, set...)
	if front != nil {
		q, err := d.openQueue(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.shared = front(q) // closed with the server
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	server := NewServer(c, d, nil, log)
	err := server.Start(t.Context())
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), stopWait)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	t.Cleanup(stop)
	if err != nil {
		t.Fatal(err)
	}
	return &shop{t: t, dir: dir, gateway: "http://" + server.gateway.Addr(), ops: "http://" + server.ops.Addr(), secrets: server.secrets}, stop
}

// opsContract is the ops listener's openapi.yaml: every answer in the tests of this package is held to it.
var opsContract = sync.OnceValue(func() *openapitest.Contract {
	text, err := os.ReadFile("../../gateway/ops/openapi.yaml")
	if err != nil {
		panic(err)
	}
	c, err := openapitest.Load(text)
	if err != nil {
		panic(err)
	}
	return c
})

// process is a server in a process of its own.
type process struct {
	*shop
	cmd    *exec.Cmd
	out    *bufio.Reader
	errors logBuffer
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// says waits until the log holds a text.
func (p *process) says(text string) {
	p.t.Helper()
	if !await(func() bool { return strings.Contains(p.errors.String(), text) }) {
		p.t.Fatalf("the log does not say %q:\n%s", text, p.errors.String())
	}
}

// await asks until done says yes; false means that it did not in good time.
func await(done func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// spawn starts `sluice serve` as a child and waits until it is ready.
func spawn(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p, err := launch(t, dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := config(t, dir)
	if p.secrets, err = c.LoadSecrets(nil, false); err != nil {
		t.Fatal(err)
	}
	return p
}

// launch is spawn without the secrets. A server that ends before it is ready is an error. It may be called by any goroutine.
func launch(t *testing.T, dir string, args ...string) (*process, error) {
	p := &process{shop: &shop{t: t, dir: dir}, cmd: program(t, append([]string{"serve", "--set", "data_dir=" + dir,
		"--set", "gateway.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0", "--set", longD}, args...)...)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stderr = &p.errors
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	line, err := p.out.ReadString('\n')
	if err != nil {
		_ = p.cmd.Wait()
		return nil, fmt.Errorf("the server ended before it was ready: %w\n%s", err, p.errors.String())
	}
	for _, word := range strings.Fields(line) {
		switch name, addr, _ := strings.Cut(word, "="); name {
		case "gateway":
			p.gateway = "http://" + addr
		case "ops":
			p.ops = "http://" + addr
		}
	}
	if !strings.HasPrefix(line, "ready ") || p.ops == "" {
		return nil, fmt.Errorf("the ready line is %q", line)
	}
	return p, nil
}

// program is one run of the program.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return programAt(t, "", args...)
}

// programAt is one run of the program of another release; no path: of this one.
func programAt(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	if path == "" {
		path = os.Args[0]
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	cmd.Env = append(os.Environ(), "SLUICE_TEST_PROGRAM=1")
	return cmd
}

// end sends a signal and waits for the exit code, and that nothing but the ready line was printed.
func (p *process) end(signal os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	rest, err := io.ReadAll(p.out)
	if err != nil || len(rest) > 0 {
		p.t.Errorf("more on standard output than the ready line: %q, %v", rest, err)
	}
	_ = p.cmd.Wait() // the exit code says it
	return p.cmd.ProcessState.ExitCode()
}

// answer is what a call came to.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// field is a top-level field of the JSON body as text.
func (a *answer) field(name string) string {
	var m map[string]any
	if json.Unmarshal(a.body, &m) != nil || m[name] == nil {
		return ""
	}
	return fmt.Sprint(m[name])
}

func (a *answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

func (s *shop) try(method, url, token, body string, headers ...string) (*answer, error) {
	c := s.http
	if c == nil {
		c = http.DefaultClient
	}
	return s.with(c, method, url, token, body, headers...)
}

func (s *shop) with(c *http.Client, method, url, token, body string, headers ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(s.t.Context()), method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err == nil && strings.HasPrefix(url, s.ops) {
		err = opsContract().Check(req, res.StatusCode, res.Header, b)
	}
	return &answer{res.StatusCode, res.Header, b}, err
}

// must makes a call and fails the test unless the status is the wanted one.
func (s *shop) must(status int, method, url, token, body string, headers ...string) *answer {
	s.t.Helper()
	a, err := s.try(method, url, token, body, headers...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, url, err)
	}
	if a.status != status {
		s.t.Fatalf("%s %s %s: %v, want %d", method, url, body, a, status)
	}
	return a
}

func (s *shop) token(user order.UserID) string {
	return gateway.MintToken(s.secrets.JWT, user, time.Now().Add(time.Hour))
}

// offer creates an offer of total units and returns its id.
func (s *shop) offer(kind string, total, limit int) string {
	s.t.Helper()
	body := fmt.Sprintf(`{"shop_id":"1","sku":"s","title":"t","kind":%q,"unit_price":250,"currency":"CNY","total":%d,"per_user_limit":%d}`,
		kind, total, limit)
	return s.must(201, "POST", s.ops+"/ops/offers", s.secrets.OpsToken, body).field("id")
}

func line(offer string, quantity int) string {
	return fmt.Sprintf(`{"items":[{"offer_id":%q,"quantity":%d}]}`, offer, quantity)
}

// remaining waits until the units left of an offer are what they should be.
func (s *shop) remaining(offer, want string) {
	s.t.Helper()
	got := ""
	if !await(func() bool {
		got = s.must(200, "GET", s.gateway+"/v1/offers/"+offer, "", "").field("remaining")
		return got == want
	}) {
		s.t.Fatalf("remaining of offer %s is %s, want %s", offer, got, want)
	}
}

// audited runs the auditor over the files, and over fast stock while the server runs.
func (s *shop) audited(running bool) {
	s.t.Helper()
	c, d := config(s.t, s.dir, s.set...)
	v, err := openVault(c, d, nil, false)
	if err != nil {
		s.t.Fatal(err)
	}
	places, err := shardPlaces(c, v.now())
	if err != nil {
		s.t.Fatal(err)
	}
	o := audit.Options{Dialect: string(c.Store.Dialect), Shards: places, VirtualShards: c.Store.VirtualShards, QueueFile: d.queueFile(c), Settle: 10 * time.Second,
		TLS: v.store.Load()}
	if running {
		o.OpsURL, o.OpsToken = s.ops, s.secrets.OpsToken
		if o.OpsTLS, err = c.Ops.TLS.Known(); err != nil {
			s.t.Fatal(err)
		}
	}
	report, err := audit.Run(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	if !report.Passed() {
		var text bytes.Buffer
		_ = report.Text(&text) // to memory
		s.t.Fatalf("the audit has failed:\n%s", text.String())
	}
}

// metrics checks series of /metrics; an empty value stands for any.
func (s *shop) metrics(want map[string]string) {
	s.t.Helper()
	a := s.must(200, "GET", s.ops+"/metrics", s.secrets.OpsToken, "")
	for series, value := range want {
		if !strings.Contains("\n"+string(a.body), "\n"+series+" "+value) {
			s.t.Errorf("/metrics has not %s %s:\n%s", series, value, a.body)
		}
	}
}

// epochs are the epochs of the open partitions.
func (s *shop) epochs() map[int]string {
	s.t.Helper()
	var stock struct {
		Partitions []struct {
			Partition    int
			State, Epoch string
		}
	}
	a := s.must(200, "GET", s.ops+"/ops/stock", s.secrets.OpsToken, "")
	if err := json.Unmarshal(a.body, &stock); err != nil {
		s.t.Fatal(err)
	}
	epochs := map[int]string{}
	for _, p := range stock.Partitions {
		epochs[p.Partition] = p.Epoch
	}
	return epochs
}
