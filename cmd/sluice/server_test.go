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
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/bench/audit"
	"sluice/configs"
	"sluice/engine/order"
	"sluice/gateway"
)

// TestMain lets the test binary be the program: a test that needs a process of its own, to kill it, starts itself.
func TestMain(m *testing.M) {
	if os.Getenv("SLUICE_TEST_PROGRAM") != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// shop is a server under test as its users see it: two addresses and the secrets.
type shop struct {
	t            *testing.T
	dir          string
	gateway, ops string
	secrets      *configs.Secrets
}

// config is a configuration on free ports with its data in dir.
func config(t *testing.T, dir string, set ...string) (*configs.Config, *drivers) {
	t.Helper()
	s := settings{set: append([]string{"data_dir=" + dir, "gateway.listen=127.0.0.1:0", "ops.listen=127.0.0.1:0"}, set...)}
	c, d, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	return c, d
}

// open starts a server in this process. stop ends it, gracefully; the test's end does too.
func open(t *testing.T, dir string, set ...string) (s *shop, stop func()) {
	t.Helper()
	c, d := config(t, dir, set...)
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

// process is a server in a process of its own.
type process struct {
	*shop
	cmd    *exec.Cmd
	out    *bufio.Reader
	errors bytes.Buffer
}

// spawn starts `sluice serve` as a child and waits until it is ready.
func spawn(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{cmd: program(t, append([]string{"serve", "--set", "data_dir=" + dir, "--set", "gateway.listen=127.0.0.1:0",
		"--set", "ops.listen=127.0.0.1:0"}, args...)...)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = &p.errors
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	line, err := p.out.ReadString('\n')
	if err != nil {
		_ = p.cmd.Wait()
		t.Fatalf("the server ended before it was ready: %v\n%s", err, p.errors.String())
	}
	p.shop = &shop{t: t, dir: dir}
	if _, err := fmt.Sscanf(line, "ready gateway=%s ops=%s\n", &p.gateway, &p.ops); err != nil {
		t.Fatalf("the ready line is %q: %v", line, err)
	}
	p.gateway, p.ops = "http://"+p.gateway, "http://"+p.ops
	c, _ := config(t, dir)
	if p.secrets, err = c.LoadSecrets(nil, false); err != nil {
		t.Fatal(err)
	}
	return p
}

// program is one run of the program.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], args...)
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
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
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
	deadline := time.Now().Add(10 * time.Second)
	for {
		a := s.must(200, "GET", s.gateway+"/v1/offers/"+offer, "", "")
		if got := a.field("remaining"); got == want {
			return
		} else if time.Now().After(deadline) {
			s.t.Fatalf("remaining of offer %s is %s, want %s", offer, got, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// audited runs the auditor over the files, and over fast stock while the server runs.
func (s *shop) audited(running bool) {
	s.t.Helper()
	c, d := config(s.t, s.dir)
	places, err := shardPlaces(c, s.secrets)
	if err != nil {
		s.t.Fatal(err)
	}
	o := audit.Options{Shards: places, QueueFile: d.queueFile(c), Settle: 10 * time.Second}
	if running {
		o.OpsURL, o.OpsToken = s.ops, s.secrets.OpsToken
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

func TestOrderLife(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s, stop := open(t, dir)
	normal, flash := s.offer("normal", 100, 0), s.offer("flash", 10, 2)
	alice, bob := s.token(1), s.token(2)

	placed := s.must(201, "POST", s.gateway+"/v1/orders?wait=5", alice, line(normal, 3), "Idempotency-Key", "a")
	id := placed.field("id")
	if placed.field("status") != "awaiting_payment" || placed.field("amount") != "750" {
		t.Errorf("placed: %v", placed)
	}
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", alice, line(flash, 2))
	again := s.must(200, "POST", s.gateway+"/v1/orders?wait=5", alice, line(normal, 3), "Idempotency-Key", "a")
	if again.field("id") != id || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the same key again: %v %v", again.header, again)
	}
	if over := s.must(409, "POST", s.gateway+"/v1/orders", alice, line(flash, 1)); over.field("code") != "over_limit" {
		t.Errorf("over the limit: %v", over)
	}
	s.must(404, "GET", s.gateway+"/v1/orders/"+id, bob, "")
	s.must(401, "GET", s.gateway+"/v1/orders/"+id, "", "")
	s.remaining(normal, "97")

	s.must(200, "POST", s.gateway+"/v1/orders/"+id+"/cancel", alice, "")
	s.remaining(normal, "100")
	if a := s.must(200, "GET", s.gateway+"/v1/orders/"+id, alice, ""); a.field("status") != "cancelled" {
		t.Errorf("cancelled: %v", a)
	}
	s.audited(true)
	stop()
	s.audited(false)

	s, _ = open(t, dir)
	list := s.must(200, "GET", s.gateway+"/v1/orders", alice, "")
	var page struct {
		Data []struct{ ID, Status string }
	}
	if err := json.Unmarshal(list.body, &page); err != nil || len(page.Data) != 2 || page.Data[1].ID != id || page.Data[1].Status != "cancelled" {
		t.Errorf("after a restart: %v", list)
	}
	s.remaining(normal, "100")
	s.remaining(flash, "8")
	if over := s.must(409, "POST", s.gateway+"/v1/orders", alice, line(flash, 1)); over.field("code") != "over_limit" {
		t.Errorf("over the limit after a restart: %v", over)
	}
	stored := s.must(200, "GET", s.ops+"/ops/orders/"+id, s.secrets.OpsToken, "")
	if stored.field("idempotency_key") != "a" || stored.field("user_id") != "1" {
		t.Errorf("order as stored: %v", stored)
	}
	s.audited(true)
}

// TestSoldOut sells ten units to thirty buyers at once.
func TestSoldOut(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	flash := s.offer("flash", 10, 1)
	statuses := make(chan int, 30)
	for user := order.UserID(1); user <= 30; user++ {
		go func() {
			a, err := s.try("POST", s.gateway+"/v1/orders?wait=5", s.token(user), line(flash, 1))
			if err != nil {
				t.Error(err)
				statuses <- 0
				return
			}
			statuses <- a.status
		}()
	}
	counts := map[int]int{}
	for range 30 {
		counts[<-statuses]++
	}
	if counts[201] != 10 || counts[409] != 20 {
		t.Errorf("answers by status: %v, want 10 of 201 and 20 of 409", counts)
	}
	s.remaining(flash, "0")
	s.audited(true)
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := open(t, dir)
	c, d := config(t, dir)
	second := NewServer(c, d, nil, slog.New(slog.DiscardHandler))
	err := second.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "is in use by another sluice (process ") {
		t.Errorf("second server: %v", err)
	}
	if err := second.Close(context.Background()); err != nil {
		t.Errorf("close of the refused one: %v", err)
	}
	stop()
	_, _ = open(t, dir)
}

// TestPortInUse: the message says which setting to change.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	first, _ := open(t, t.TempDir())
	for _, path := range []string{"gateway.listen", "ops.listen"} {
		addr := strings.TrimPrefix(first.gateway, "http://")
		c, d := config(t, t.TempDir(), path+"="+addr)
		s := NewServer(c, d, nil, slog.New(slog.DiscardHandler))
		err := s.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), path+" "+addr+" is in use by another program") {
			t.Errorf("%s: %v", path, err)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// TestKill kills the server in the middle of its work; nothing that was answered is lost.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := spawn(t, dir)
	offer := p.offer("normal", 1000, 0)
	accepted := p.rush(offer, func() { time.Sleep(300 * time.Millisecond); p.end(syscall.SIGKILL) })
	if len(accepted) == 0 {
		t.Fatal("no order was accepted before the kill: the test shows nothing")
	}
	s, _ := open(t, dir)
	s.stored(accepted)
	s.audited(true)
}

// TestGracefulStop stops the server under load: it exits with 0, every request that it took was answered, and every
// accepted order is stored after the next start.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := spawn(t, dir)
	offer := p.offer("normal", 100_000, 0)
	accepted := p.rush(offer, func() {
		time.Sleep(300 * time.Millisecond)
		if code := p.end(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.errors.String())
		}
	})
	for _, step := range []string{"gateway", "engine", "persist", "lifecycle", "ops", "store"} {
		if !strings.Contains(p.errors.String(), "msg=stopped step="+step) {
			t.Errorf("the log does not tell of %s:\n%s", step, p.errors.String())
		}
	}
	if len(accepted) == 0 {
		t.Fatal("no order was accepted: the test shows nothing")
	}
	s, _ := open(t, dir)
	s.stored(accepted)
	s.audited(true)
}
