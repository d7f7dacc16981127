package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/order"
)

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
	s.metrics(map[string]string{"sluice_orders_accepted_total": "2", "sluice_orders_stored_total": "2",
		`sluice_orders_rejected_total{by="guard"}`: "0", `sluice_requests_refused_total{reason="over_limit"}`: "1",
		`sluice_queue_lag_seconds{kind="flash"}`: "", "sluice_config_generation": "1", "sluice_ready": "1",
		`sluice_gateway_placing_seconds_bucket{le="+Inf"}`: "", "sluice_gateway_placing_seconds_count": "4"})
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
	second := NewServer(c, d, nil, quiet)
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
		s := NewServer(c, d, nil, quiet)
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
	accepted := p.rush(offer, dying, func() { p.end(syscall.SIGKILL) })
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
	accepted := p.rush(offer, stopping, func() {
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

// TestSecondSignal: a stop that cannot end, because a request never arrives whole, is ended by a second signal.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p := spawn(t, t.TempDir(), "--set", "gateway.read_timeout=1h")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.gateway, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")); err != nil {
		t.Fatal(err)
	}
	p.must(200, "GET", p.gateway+"/v1/offers", "", "") // the half request was sent before this one
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.says("msg=stopping")
	began := time.Now()
	if code := p.end(syscall.SIGTERM); code != 1 || time.Since(began) > 5*time.Second {
		t.Errorf("exit code %d after %v", code, time.Since(began))
	}
	p.says("second signal")
}

// TestFullDisk: without room new orders are turned away, and everything else goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir, fmt.Sprint("disk.free_bytes_min=", aboveFree(t, dir)))
	offer := s.offer("normal", 5, 0)
	a := s.must(503, "POST", s.gateway+"/v1/orders", s.token(1), line(offer, 1))
	if a.field("code") != "overloaded" || a.header.Get("Retry-After") == "" {
		t.Errorf("on a full disk: %v", a)
	}
	s.must(200, "GET", s.gateway+"/v1/offers/"+offer, "", "")
}

// aboveFree is more than what is free of a disk, but not twice as much: the queue's own floor, which is half, leaves room
// for the barriers.
func aboveFree(t *testing.T, dir string) uint64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return fs.Bavail * uint64(fs.Bsize) / 2 * 3
}

// TestKinds: a process that sells flash offers only is ready with the flash partitions alone, and says of a normal one
// that others sell it.
func TestKinds(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir(), "engine.kinds=flash")
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(s.offer("flash", 5, 1), 1))
	ready := s.must(200, "GET", s.ops+"/ops/stock", s.secrets.OpsToken, "")
	if bytes.Contains(ready.body, []byte(`"kind":"normal"`)) || !bytes.Contains(ready.body, []byte(`"kind":"flash"`)) {
		t.Errorf("partitions of a flash process: %v", ready)
	}
	a := s.must(202, "POST", s.ops+"/ops/offers", s.secrets.OpsToken,
		`{"shop_id":"1","sku":"s","title":"t","kind":"normal","unit_price":1,"currency":"CNY","total":5}`)
	if !bytes.Contains(a.body, []byte("this process does not sell normal offers")) {
		t.Errorf("a normal offer at a flash process: %v", a)
	}
}

// TestConfigIsMasked: no secret is shown.
func TestConfigIsMasked(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	for _, path := range []string{"/ops/config", "/ops/stats", "/metrics"} {
		a := s.must(200, "GET", s.ops+path, s.secrets.OpsToken, "")
		for _, secret := range []string{s.secrets.JWT, s.secrets.OpsToken, s.secrets.ServiceToken} {
			if bytes.Contains(a.body, []byte(secret)) {
				t.Errorf("%s shows a secret", path)
			}
		}
	}
	a := s.must(200, "GET", s.ops+"/ops/config", s.secrets.OpsToken, "")
	if !bytes.Contains(a.body, []byte(`{"name":"gateway.listen","value":"127.0.0.1:0","hot":false,"source":"--set"}`)) {
		t.Errorf("effective configuration: %v", a)
	}
}

// TestRebuild: an operator's rebuild gives every partition a new epoch and keeps what is sold.
func TestRebuild(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	offer := s.offer("normal", 10, 5)
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(offer, 4))
	before := s.epochs()
	s.must(404, "POST", s.ops+"/ops/rebuild", s.secrets.OpsToken, `{"partitions":[99]}`)
	s.must(202, "POST", s.ops+"/ops/rebuild", s.secrets.OpsToken, "")
	if !await(func() bool {
		rebuilt := 0
		for p, epoch := range s.epochs() {
			if epoch != "" && epoch != before[p] {
				rebuilt++
			}
		}
		return rebuilt == len(before)
	}) {
		t.Fatalf("epochs before %v, after %v", before, s.epochs())
	}
	if over := s.must(409, "POST", s.gateway+"/v1/orders", s.token(1), line(offer, 2)); over.field("code") != "over_limit" {
		t.Errorf("the limit after a rebuild: %v", over)
	}
	s.remaining(offer, "6")
	s.audited(true)
}
