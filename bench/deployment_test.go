package bench

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/rlog"
	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
)

// outside is a MySQL server and a Redis, and a configuration whose two databases and whose name in Redis are not there: a
// bench makes its own beside them.
type outside struct {
	t      *testing.T
	name   string // databases and keys of this test begin with it
	mysql  *sql.DB
	redis  *redis.Client
	flags  []string // of sluice
	rocket string   // a name server; empty: the queue is a file
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	place, url := os.Getenv("SLUICE_TEST_MYSQL"), os.Getenv("SLUICE_TEST_REDIS")
	if place == "" || url == "" {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal("SLUICE_TEST_MYSQL or SLUICE_TEST_REDIS is not set, and in CI nothing is skipped")
		}
		t.Skip("SLUICE_TEST_MYSQL or SLUICE_TEST_REDIS is not set")
	}
	dsn, err := mysql.ParseDSN(place)
	if err != nil {
		t.Fatal("SLUICE_TEST_MYSQL is no data source name")
	}
	r, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal("SLUICE_TEST_REDIS is no Redis URL")
	}
	o := &outside{t: t, name: "sluice_test_" + random()[:12], redis: redis.NewClient(r)}
	if o.mysql, err = sql.Open("mysql", place); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(o.mysql.Close(), o.redis.Close()); err != nil {
			t.Error(err)
		}
	})
	secrets := t.TempDir()
	for file, secret := range map[string]string{"store": dsn.Passwd, "redis": r.Password} {
		if err := os.WriteFile(secrets+"/"+file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dsn.Passwd = ""
	var shards []string
	for n := range 2 {
		dsn.DBName = fmt.Sprintf("%s_%d", o.name, n)
		shards = append(shards, dsn.FormatDSN())
	}
	for _, set := range []string{"store.dialect=mysql", "store.shards=" + strings.Join(shards, ","), "secrets.store_password_file=" + secrets + "/store",
		"stock.driver=redisstock", "stock.redisstock.addrs=" + r.Addr, "stock.redisstock.name=" + o.name, "engine.in_flight=2",
		"secrets.redis_password_file=" + secrets + "/redis"} {
		o.flags = append(o.flags, "--set", set)
	}
	return o
}

// onRocketMQ puts the queue into RocketMQ, under the test's name.
func (o *outside) onRocketMQ() {
	o.t.Helper()
	o.rocket = os.Getenv("SLUICE_TEST_ROCKETMQ")
	if o.rocket == "" && os.Getenv("SLUICE_CI") == "1" {
		o.t.Fatal("SLUICE_TEST_ROCKETMQ is not set, and in CI nothing is skipped")
	}
	if o.rocket == "" {
		o.t.Skip("SLUICE_TEST_ROCKETMQ is not set")
	}
	o.flags = append(o.flags, "--set", "queue.driver=rocketqueue", "--set", "queue.rocketqueue.name_servers="+o.rocket,
		"--set", "queue.rocketqueue.name="+o.name)
}

// topics are those of the test's name that the name server knows.
func (o *outside) topics() (list []string) {
	o.t.Helper()
	rlog.SetLogLevel("fatal") // an error is returned, too
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver([]string{o.rocket})))
	if err != nil {
		o.t.Fatal(err)
	}
	defer a.Close()
	all, err := a.FetchAllTopicList(context.Background())
	if err != nil {
		o.t.Fatal(err)
	}
	for _, topic := range all.TopicList {
		if strings.HasPrefix(topic, o.name) {
			list = append(list, topic)
		}
	}
	return list
}

// left are the databases, keys and topics that are there.
func (o *outside) left() (list []string) {
	o.t.Helper()
	if o.rocket != "" {
		list = o.topics()
	}
	rows, err := o.mysql.Query("SHOW DATABASES LIKE '" + strings.ReplaceAll(o.name, "_", `\_`) + `%'`)
	if err != nil {
		o.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			o.t.Fatal(err)
		}
		list = append(list, name)
	}
	keys, err := o.redis.Keys(context.Background(), o.name+"*").Result()
	if err := errors.Join(rows.Err(), err); err != nil {
		o.t.Fatal(err)
	}
	return append(list, keys...)
}

// command is `sluice bench` on these servers, small.
func (o *outside) command(dir string, args ...string) *exec.Cmd {
	o.t.Helper()
	if testing.Short() {
		o.t.Skip("-short: builds and runs the program")
	}
	program, err := sluice()
	if err != nil {
		o.t.Fatal(err)
	}
	args = slices.Concat([]string{"bench"}, args, o.flags, []string{"--patience", "-1s", "--dir", dir, "-o", "json"})
	return exec.Command(program, args...)
}

// TestCompare runs all that is compared, and looks whether it was there: every order stored, every round audited, every
// process seen, and nothing left behind. Fewer orders give a profile of a dozen samples, which need not have one of every stage.
func TestCompare(t *testing.T) {
	o := newOutside(t)
	cmd := o.command(t.TempDir(), "compare", "--orders", "12000", "--connections", "16", "--lines", "100", "--limit", "1")
	said := &bytes.Buffer{}
	cmd.Stderr = said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var report Report
	if err := json.Unmarshal(out, &report); err != nil || len(report.Cases) != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(report.Durability, "innodb_flush_log_at_trx_commit 1") || !strings.Contains(report.Durability, "appendfsync everysec") {
		t.Error(report.Durability)
	}
	for i, c := range report.Cases {
		round := c.Rounds[0]
		if round.Sent.Accepted != 12000 || round.Stored < 12000 || round.Verdict != passed || round.Share <= 0 || (c.Times > 0) != (i > 0) {
			t.Errorf("%s: %+v", c.Name, round)
		}
		var names []string
		for _, p := range round.Processes {
			names = append(names, p.Name)
			// A batch's few calls may take less than a tick of Redis, and than a sample of the server.
			if i < 2 && (p.CPU <= 0 || p.Name == "sluice" && len(p.Stages) == 0) {
				t.Errorf("%s: %+v", c.Name, p)
			}
		}
		slices.Sort(names)
		server := []string{"naive", "sluice", "sluice"}[i]
		want := []string{"generator", "mariadbd", "redis-server", server}
		if slices.Sort(want); !slices.Equal(names, want) {
			t.Errorf("%s: processes %v, want %v", c.Name, names, want)
		}
	}
	if left := o.left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	var text bytes.Buffer
	if err := report.Text(&text); err != nil || !strings.Contains(text.String(), "times naive") || !strings.Contains(text.String(), "  of it http") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// TestDrain queues orders at two gateways while nobody stores them, has two persisters store them, and inserts the same rows by
// a bare loop. Every process is named, and nothing is left behind.
func TestDrain(t *testing.T) {
	o := newOutside(t)
	o.onRocketMQ()
	cmd := o.command(t.TempDir(), "drain", "--orders", "3000", "--connections", "16", "--offers", "4")
	said := &bytes.Buffer{}
	cmd.Stderr = said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var report Report
	if err := json.Unmarshal(out, &report); err != nil || len(report.Cases) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(report.Durability, "SYNC_FLUSH") {
		t.Error(report.Durability)
	}
	round := report.Cases[0].Rounds[0]
	if d := round.Drained; round.Verdict != passed || d.Queued != 3000 || round.Stored != 3000 || d.BareRows != 3000 || d.Bare <= 0 || d.Flush <= 0 || d.FirstAfter <= 0 {
		t.Errorf("%+v %+v", round, d)
	}
	var names []string
	for _, p := range round.Processes {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	want := []string{"broker", "gateway 1", "gateway 2", "lifecycle", "mariadbd", "name server", "persist 1", "persist 2", "redis-server"}
	if !slices.Equal(names, want) {
		t.Errorf("processes %v, want %v", names, want)
	}
	if left := o.left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestInterrupted ends a bench in the middle of a round: it removes what it made.
func TestInterrupted(t *testing.T) {
	o := newOutside(t)
	dir := t.TempDir()
	cmd := o.command(dir, "flash", "--orders", "1000000", "--rate", "100", "--connections", "4")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); len(o.left()) < 4; time.Sleep(50 * time.Millisecond) { // two databases, and keys
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatalf("after a minute there is %v", o.left())
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // how it ends is not what this is about
	files, err := os.ReadDir(dir)
	if left := o.left(); err != nil || len(left)+len(files) > 0 {
		t.Errorf("left behind: %v %v %v", left, files, err)
	}
}

func TestCompareNeedsServers(t *testing.T) {
	_, err := Run(context.Background(), Options{Scenario: Compare})
	if err == nil || !strings.Contains(err.Error(), "deploy/local/up") {
		t.Error(err)
	}
}

func TestListeners(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	servers := []Server{{"the test", addr}, {"the test", addr}, {"", "192.0.2.1:1"}, {"", "nothing"}}
	if list := listeners(servers); len(list) != 1 || list[0] != (process{name: "the test", pid: os.Getpid()}) {
		t.Errorf("%+v", list)
	}
}
