package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/persist/store"
)

// looked is what `sluice check --live` prints with settings, and whether it says that all is well.
func looked(t *testing.T, dir string, set ...string) (lines []string, ok bool) {
	t.Helper()
	args := []string{"check", "--live", "--set", "data_dir=" + dir, "--set", "ops.listen=127.0.0.1:1", "--set", longD}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	out, _, err := cli(t, nil, args...)
	if err != nil && !errors.Is(err, errSaid) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(out), "\n"), err == nil
}

// refuses wants the line from the check, and the same words from a start.
func refuses(t *testing.T, want string, set ...string) {
	t.Helper()
	dir := t.TempDir()
	lines, ok := looked(t, dir, set...)
	if ok || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "wrong: ") && strings.Contains(l, want) }) {
		t.Errorf("ok %v, %q\nwant %q", ok, lines, want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the check left %v, %v", left, err)
	}
	c, d := config(t, dir, set...)
	s := NewServer(c, d, nil, quiet)
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a start says %v\nwant %q", err, want)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func warns(t *testing.T, want string, set ...string) {
	t.Helper()
	lines, ok := looked(t, t.TempDir(), set...)
	if !ok || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "warning: ") && strings.Contains(l, want) }) {
		t.Errorf("ok %v, %q\nwant a warning %q", ok, lines, want)
	}
}

// TestCheckLive: the embedded default before its first start, beside a running server, and behind it. Nothing is changed.
func TestCheckLive(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	lines, ok := looked(t, dir)
	if !ok || !strings.HasPrefix(lines[0], "ok: configuration: ") || !strings.Contains(lines[2], " MiB free under "+filepath.Dir(dir)) ||
		lines[3] != "ok: shard 0 ("+dir+"/shard-0.db): no file yet, no tables yet: the first start makes them" ||
		lines[6] != "ok: queue: file "+dir+"/queue.db: no file yet: the first start makes it" {
		t.Errorf("%v %q", ok, lines)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the check made %s: %v", dir, err)
	}
	s, stop := open(t, dir)
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(s.offer("normal", 5, 0), 1))
	out, _, err := cli(t, s, "check", "--live", "-o", "json", "--set", longD)
	var report struct {
		OK       bool
		Findings []finding
	}
	if err != nil || json.Unmarshal([]byte(out), &report) != nil || !report.OK || len(report.Findings) != 7 ||
		!strings.HasPrefix(report.Findings[1].Text, "runs, and answers at ") || !strings.HasPrefix(report.Findings[3].Text, "SQLite, tables of version ") ||
		!strings.Contains(report.Findings[6].Text, "messages wait in it, 0 dead letters") {
		t.Errorf("beside a running server: %v\n%s", err, out)
	}
	stop()
	refuses(t, "it is shard 1 of its deployment", "store.shards="+dir+"/shard-1.db,"+dir+"/shard-0.db")
	lines, ok = looked(t, dir, "engine.partitions.flash=8")
	if ok || !strings.Contains(strings.Join(lines, "\n"), `engine.partitions: this deployment was created with "4 normal, 4 flash"`) ||
		!strings.HasSuffix(lines[len(lines)-1], "engine.partitions.flash: the queue was made with 4, which never changes; the configuration says 8: put it back") {
		t.Errorf("%v %q", ok, lines)
	}
	if err := os.WriteFile(dir+"/queue.db", []byte(strings.Repeat("no database", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if lines, ok = looked(t, dir); ok || !strings.HasPrefix(lines[6], "wrong: queue: file "+dir+"/queue.db: it cannot be read: file is not a database") {
		t.Errorf("%v %q", ok, lines)
	}
	if lines, ok = looked(t, t.TempDir(), fmt.Sprint("disk.free_bytes_min=", aboveFree(t, dir))); ok || !strings.Contains(lines[2], "every new order would be turned away") {
		t.Errorf("%v %q", ok, lines)
	}
}

// TestDistributedYAML: the file that people copy is valid, names every kind of server, and holds nothing but facts to decide,
// places and secrets' files.
func TestDistributedYAML(t *testing.T) {
	t.Parallel()
	s := settings{file: "../../configs/distributed.yaml"}
	c, d, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Store.Dialect != store.MySQL || len(c.Store.Shards) != 4 || c.Stock.Driver != "redisstock" || c.Engine.Tuning.InFlight != 2 ||
		d.redisstock.CallTimeout*2 > c.Engine.Deadline || c.Engine.Partitions.Flash%len(c.Store.Shards) != 0 ||
		c.Secrets.StorePassword == "" || c.Secrets.RedisPassword == "" || c.Secrets.JWTSecretFile == "" {
		t.Errorf("%+v\n%+v", c, d.redisstock)
	}
	out, _, err := cli(t, nil, "config", "--distributed")
	if file, readErr := os.ReadFile(s.file); err != nil || readErr != nil || out != string(file) {
		t.Errorf("config --distributed: %v, %v", err, readErr)
	}
}

// TestUpWritesWhatServes: the configurations that deploy/local/up writes for its servers are in order.
func TestUpWritesWhatServes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(os.Getenv("SLUICE_TEST_DIR"), "distributed*.yaml"))
	if err != nil || os.Getenv("SLUICE_TEST_DIR") == "" || len(files) == 0 {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatalf("deploy/local/up has written no configuration, and in CI nothing is skipped: %v", err)
		}
		t.Skip("deploy/local/up has written no configuration")
	}
	for _, file := range files {
		if _, _, err := cli(t, nil, "check", "-c", file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	// The cluster of the other file is for tests that break it.
	out, _, err := cli(t, nil, "check", "--live", "-c", files[len(files)-1], "--set", "ops.listen=127.0.0.1:1")
	if err != nil || strings.Count(out, "\nok: shard ") != 4 || !strings.Contains(out, "\nok: fast stock: redis at ") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestCheckMySQL: what a person gets wrong about the shards is told by the check and by a start in the same words.
func TestCheckMySQL(t *testing.T) {
	t.Parallel()
	shards, set := onMySQL(t)
	with := func(change func(shards string) string) []string {
		return []string{set[0], change(set[1]), set[2]}
	}
	if lines, ok := looked(t, t.TempDir(), set...); !ok || !strings.Contains(lines[3], ": MariaDB 1") || !strings.HasSuffix(lines[4], "the first start makes them") {
		t.Errorf("%v %q", ok, lines)
	}
	addr := set[1][strings.Index(set[1], "@tcp(")+5 : strings.Index(set[1], ")/")]
	refuses(t, "it does not answer: is it running, and is its address in store.shards right?", with(func(s string) string {
		return strings.ReplaceAll(s, addr, "127.0.0.1:1")
	})...)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, "the password is wrong; set SLUICE_STORE_PASSWORD or secrets.store_password_file", set[0], set[1], "secrets.store_password_file="+password)
	refuses(t, "it has no database sluice_test_none; an administrator makes it with: CREATE DATABASE `sluice_test_none`", with(func(string) string {
		return "store.shards=sluice@tcp(" + addr + ")/sluice_test_none"
	})...)
	clock := func(off time.Duration) []string {
		return with(func(s string) string {
			return strings.ReplaceAll(s, ",", fmt.Sprintf("?timestamp=%d,", time.Now().Add(off).Unix()))
		})
	}
	warns(t, "ahead of this machine's: keep both right by NTP", clock(20*time.Second)...)
	refuses(t, "ahead of this machine's, and order ids are leased by it for a minute at a time: set both right (NTP)", clock(time.Hour)...)

	dir := t.TempDir()
	s, stop := open(t, dir, set...) // the first start
	s.set = set
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(s.offer("normal", 5, 0), 1))
	stop()
	other := strings.TrimSuffix(strings.Repeat("1,0,", 128), ",")
	refuses(t, "store.virtual_shards (slices of users:shard): this deployment was created with \"0-127:0 128-255:1\"", append(set, "store.virtual_shards="+other)...)
	refuses(t, "engine.deadline: this deployment was created with \"10s\", the configuration now says \"2s\"", append(set, "engine.deadline=2s")...)
	refuses(t, "it is shard 1 of its deployment, and store.shards names it as number 0", with(func(s string) string {
		first, second, _ := strings.Cut(strings.TrimPrefix(s, "store.shards="), ",")
		return "store.shards=" + second + "," + first
	})...)
	refuses(t, "and there is none here yet: accepted orders may lie in the deployment's own", set...) // from another machine
	many := append(set, "store.writers=400", "store.readers=400", "data_dir="+dir)
	warns(t, "and one process of Sluice uses up to 800", many...)
	var log bytes.Buffer
	c, d := config(t, t.TempDir(), many...)
	warned := NewServer(c, d, nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err := errors.Join(warned.Start(t.Context()), warned.Close(context.Background())); err != nil || !strings.Contains(log.String(), "and one process of Sluice uses up to 800") {
		t.Errorf("a start with a warning: %v\n%s", err, log.String())
	}
	newer(t, shards[1])
	refuses(t, "and only programs that know version 999 or later may use them; this one knows them up to version", set...)
}

// newer makes the tables of a shard those of a later version, which no older program may use.
func newer(t *testing.T, shard *sql.DB) {
	t.Helper()
	for _, statement := range []string{"INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, TRUE)",
		"INSERT INTO fact (name, value) VALUES ('compatible_from', '999')"} {
		if _, err := shard.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckRedis is the same for Redis.
func TestCheckRedis(t *testing.T) {
	t.Parallel()
	_, _, set := onRedis(t)
	if lines, ok := looked(t, t.TempDir(), set...); !ok || !strings.Contains(strings.Join(lines, "\n"), "ok: fast stock: redis at "+
		strings.TrimPrefix(set[1], "stock.redisstock.addrs=")+": Redis ") {
		t.Errorf("%v %q", ok, lines)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, "the user name or the password is wrong: set SLUICE_REDIS_PASSWORD or secrets.redis_password_file",
		append(set[:3:3], "secrets.redis_password_file="+password)...)
	refuses(t, "it is no node of a Redis Cluster: set stock.redisstock.cluster to false", append(set, "stock.redisstock.cluster=true")...)

	addr, stop := ownRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
	own := []string{"stock.driver=redisstock", "stock.redisstock.addrs=" + addr}
	refuses(t, "its maxmemory-policy is allkeys-lru, which would drop stock when memory is short: set it to noeviction", own...)
	stop()
	refuses(t, "it does not answer; is it running, and is stock.redisstock.addrs right?", own...)
}

// ownRedis starts a Redis of the test's own.
func ownRedis(t *testing.T, options ...string) (addr string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = listener.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("redis-server", append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "no"}, options...)...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = server.Process.Kill()
			_ = server.Wait()
		}
	}
	t.Cleanup(stop)
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	if !await(func() bool { return client.Ping(t.Context()).Err() == nil }) {
		t.Fatal("redis-server does not start")
	}
	return addr, stop
}
