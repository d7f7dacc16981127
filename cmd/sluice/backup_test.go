package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/bench/audit"
	"sluice/engine/order"
	"sluice/internal/crash"
)

// shortLife lets orders expire while they are backed up, and all of them soon after a restore.
const shortLife = "persist.unpaid=2s"

// TestBackup takes backups of a server that sells, cancels and expires, restores each into another directory, and lets a
// server go on there: the audit passes, every order that was answered before the backup began is there, and what is given
// out from then on was never given out before.
func TestBackup(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t, shortLife)
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		b.awaitCalls(300)
		began := time.Now().UnixMicro()
		dir := filepath.Join(t.TempDir(), "backup")
		out, err := b.backup(dir).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "writers stood still for ") {
			t.Fatalf("%v\n%s", err, out)
		}
		ended := time.Now().UnixMicro()
		t.Logf("round %d: %s", round, out)
		if left, err := filepath.Glob(dir + ".*"); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		b.awaitCalls(50)
		b.goesOnAt(dir, began, ended)
	}
	b.stop()
	b.judge(b.shop, "backups")
}

// backedUp is a server with a crowd, and all that its clients saw.
type backedUp struct {
	*crowd
	*process
	t    *testing.T
	stop func()
	ids  map[order.ID]bool
}

func newBackedUp(t *testing.T, set ...string) *backedUp {
	c := newCrowd(t, uint64(time.Now().UnixNano()), 5)
	b := &backedUp{crowd: c, process: spawnWith(t, filepath.Join(t.TempDir(), "data"), set), t: t}
	c.goods = [][]string{{b.offer("normal", 1_000_000, 0), b.offer("normal", 1_000_000, 0)}}
	c.scarce = b.offer("flash", 2000, 50)
	var over atomic.Bool
	var buyers sync.WaitGroup
	buyers.Go(func() {
		c.each([]*shop{b.shop}, func(v *visit) {
			for !over.Load() || v.wish != nil {
				v.step()
				<-time.After(repeatPause)
			}
		})
	})
	b.stop = sync.OnceFunc(func() { over.Store(true); buyers.Wait() })
	t.Cleanup(b.stop)
	return b
}

// spawnWith is spawn for settings that the auditor needs, too.
func spawnWith(t *testing.T, dir string, set []string) *process {
	t.Helper()
	p := spawn(t, dir, flagsOf(set)...)
	p.set = set
	c, _ := config(t, dir, set...)
	var err error
	if p.secrets, err = c.LoadSecrets(nil, false); err != nil {
		t.Fatal(err)
	}
	return p
}

func flagsOf(set []string) (flags []string) {
	for _, s := range set {
		flags = append(flags, "--set", s)
	}
	return flags
}

// awaitCalls waits until the crowd has seen n more answers.
func (b *backedUp) awaitCalls(n int) {
	b.t.Helper()
	all := func(*sight) bool { return true }
	before := b.count(all)
	if !await(func() bool { return b.count(all) >= before+n }) {
		b.t.Fatalf("the crowd saw no %d answers", n)
	}
}

func (b *backedUp) backup(dir string, args ...string) *exec.Cmd {
	return program(b.t, append([]string{"backup", dir, "--set", "data_dir=" + b.dir, "--set", longD}, args...)...)
}

// seen is what clients knew of the server as it was between began and ended: what was answered before, and that the
// outcome of what was under way is open.
func (b *backedUp) seen(began, ended int64) (entries []audit.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids = map[order.ID]bool{}
	for i := range b.calls {
		e := b.calls[i].Entry
		b.ids[e.Order] = true
		if e.Sent > ended {
			continue
		}
		if e.Answered > began {
			e.Code, e.Order = 0, 0
		}
		entries = append(entries, e)
	}
	return entries
}

// goesOnAt restores a backup and serves it.
func (b *backedUp) goesOnAt(dir string, began, ended int64) {
	b.t.Helper()
	data := filepath.Join(b.t.TempDir(), "restored")
	out, _, err := cli(b.t, nil, "restore", dir, "--set", "data_dir="+data, "--set", longD)
	if err != nil || !strings.HasPrefix(out, "restored as of 20") {
		b.t.Fatalf("%v\n%s", err, out)
	}
	before := b.epochs()
	p := spawn(b.t, data, "--set", shortLife)
	if p.secrets.JWT != b.secrets.JWT {
		b.t.Error("the secrets are others")
	}
	entries := b.seen(began, ended)
	accepted := 0
	for _, e := range entries {
		if e.Code >= 200 && e.Code < 300 {
			accepted++
		}
	}
	if accepted < 100 {
		b.t.Errorf("%d orders were answered before the backup: too few to show anything", accepted)
	}
	for part, epoch := range p.epochs() {
		now, _ := strconv.ParseUint(epoch, 10, 64)
		if old, _ := strconv.ParseUint(before[part], 10, 64); now <= old {
			b.t.Errorf("partition %d has epoch %d, and had %d", part, now, old)
		}
	}
	for user := order.UserID(1); user < 20; user++ {
		a := p.must(201, "POST", p.gateway+"/v1/orders?wait=10", p.token(user), line(b.goods[0][0], 1))
		if id, _ := order.ParseID(a.field("id")); b.ids[order.ID(id)] {
			b.t.Errorf("order id %d is given out twice", id)
		}
	}
	p.auditedWith(entries)
	if code := p.end(syscall.SIGTERM); code != 0 {
		b.t.Errorf("exit code %d", code)
	}
}

// auditedWith audits with what clients saw, when everything has expired.
func (s *shop) auditedWith(entries []audit.Entry) {
	s.t.Helper()
	c, d := config(s.t, s.dir, s.set...)
	places, err := shardPlaces(c, s.secrets)
	if err != nil {
		s.t.Fatal(err)
	}
	report, err := audit.Run(s.t.Context(), audit.Options{Dialect: string(c.Store.Dialect), Shards: places, QueueFile: d.queueFile(c), OpsURL: s.ops, OpsToken: s.secrets.OpsToken,
		History: entries, Settle: time.Minute})
	if err != nil {
		s.t.Fatal(err)
	}
	if !report.Passed() {
		var text bytes.Buffer
		_ = report.Text(&text) // to memory
		s.t.Fatalf("the audit has failed:\n%s", text.String())
	}
}

// TestBackupInterrupted: whatever ends a backup or a restore in the middle, nothing looks finished that is not.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t, shortLife)
	b.awaitCalls(300)
	for _, point := range crash.BackupPoints {
		dir := filepath.Join(t.TempDir(), "backup")
		cmd := b.backup(dir)
		cmd.Env = append(cmd.Env, "SLUICE_CRASH_POINT="+point)
		killed(t, cmd, point)
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("killed at %q there is a backup: %v", point, err)
		}
		if out, err := b.backup(dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "or of one that did not end; if none runs, remove it") {
			t.Errorf("behind one killed at %q: %v\n%s", point, err, out)
		}
	}
	dir := filepath.Join(t.TempDir(), "backup")
	slow := b.backup(dir, "--mib-per-second", "1")
	out, err := slow.StdoutPipe()
	if err == nil {
		err = slow.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "as of ") {
		t.Errorf("%q, %v", line, err)
	}
	_ = slow.Process.Signal(syscall.SIGINT)
	if err := slow.Wait(); err == nil {
		t.Error("an interrupted backup says that all is well")
	}
	if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
		t.Errorf("an interrupted backup leaves %v", left)
	}
	if out, err := b.backup(dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, point := range crash.RestorePoints {
		data := filepath.Join(t.TempDir(), "data")
		restore := program(t, "restore", dir, "--set", "data_dir="+data, "--set", longD)
		restore.Env = append(restore.Env, "SLUICE_CRASH_POINT="+point+":1")
		killed(t, restore, point)
		c, d := config(t, data)
		if err := NewServer(c, d, nil, quiet).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "a restore into "+data+" did not end") {
			t.Errorf("a start behind a restore that was killed at %q: %v", point, err)
		}
		if _, _, err := cli(t, nil, "restore", dir, "--set", "data_dir="+data, "--set", longD); err == nil {
			t.Errorf("restored over what a restore killed at %q left", point)
		}
	}
	b.stop()
	b.judge(b.shop, "killed backups")
}

// killed runs a command that kills itself.
func killed(t *testing.T, cmd *exec.Cmd, point string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("to be killed at %q: %v\n%s", point, err, out)
	}
}

// TestBackupRefused: what a person gets wrong, with a backup of a server that was killed.
func TestBackupRefused(t *testing.T) {
	t.Parallel()
	p := spawn(t, filepath.Join(t.TempDir(), "data"), "--set", longLife)
	offer := p.offer("normal", 100, 0)
	p.must(201, "POST", p.gateway+"/v1/orders?wait=10", p.token(1), line(offer, 1))
	p.must(202, "POST", p.gateway+"/v1/orders", p.token(1), line(offer, 1))
	p.end(syscall.SIGKILL)
	at := "data_dir=" + p.dir
	says := func(want string, args ...string) {
		t.Helper()
		out, _, err := cli(t, nil, append(args, "--set", longD)...)
		if said := fmt.Sprint(out, err); !strings.Contains(said, want) {
			t.Errorf("%v says %q, want %q", args, said, want)
		}
	}
	fresh := func() string { return filepath.Join(t.TempDir(), "x") }
	says("are on MySQL: back them up with its tools", "backup", fresh(), "--set", "store.dialect=mysql", "--set", "store.shards=a@tcp(127.0.0.1:1)/b")
	says("is not there: is "+filepath.Dir(p.dir)+" the server's data directory?", "backup", fresh(), "--set", "data_dir="+filepath.Dir(p.dir))
	says("is there already: a backup makes its directory", "backup", t.TempDir(), "--set", at)
	says(" MiB there: choose another disk", "backup", fresh(), "--set", at, "--set", fmt.Sprint("disk.free_bytes_min=", aboveFree(t, p.dir)))

	dir, again := fresh(), fresh()
	says("backup of 20", "backup", dir, "--set", at)
	says("as of 20", "backup", again, "--set", at)
	says("is whole: 4 files, as of 20", "restore", dir, "--verify", "--set", "data_dir="+fresh())
	for name, mode := range map[string]os.FileMode{"": os.ModeDir | 0o700, "/manifest.json": 0o600, "/secrets.yaml": 0o600, "/queue.db": 0o600} {
		if info, err := os.Stat(dir + name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	says("is there: restore puts files only where none are", "restore", dir, "--set", at)
	says("it is of a deployment with other store.shards", "restore", dir, "--set", "store.shards=a.db,b.db,c.db", "--set", "data_dir="+fresh())
	says(`engine.partitions: this deployment was created with "4 normal, 4 flash"`, "restore", dir, "--set", "engine.partitions.flash=8", "--set", "data_dir="+fresh())
	says("has no manifest.json", "restore", p.dir, "--set", "data_dir="+fresh())
	data := fresh()
	if err := errors.Join(os.MkdirAll(data, 0o700), os.WriteFile(data+"/shard-1.db-wal", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	says("shard-1.db-wal is there", "restore", dir, "--set", "data_dir="+data)

	change(t, again+"/shard-1.db", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	says("shard-1.db is damaged", "restore", again, "--set", "data_dir="+fresh())
	change(t, again+"/manifest.json", func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(`"name": "queue.db"`), []byte(`"name": "../queue.db"`))
	})
	says("which cannot be", "restore", again, "--set", "data_dir="+fresh())
	change(t, again+"/manifest.json", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"format": 1`), []byte(`"format": 2`)) })
	says("run the program that made it", "restore", again, "--set", "data_dir="+fresh())

	restored := fresh()
	says("restored as of 20", "restore", dir, "--set", "data_dir="+restored)
	s, _ := open(t, restored, longLife)
	s.audited(true)
	s.remaining(offer, "98")
}

func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, f(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A restore that has the lock looks again at what is there; one that fails keeps its mark as long as one of its files is there.
func TestRestoreLeavesNoPart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := []backupFile{{path: filepath.Join(dir, "shard-0.db")}, {path: filepath.Join(dir, "shard-1.db")}}
	put := func(path string) string {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	here := put(files[0].path)
	for range 2 { // the lock is given back
		if _, err := lockEmpty(dir, files); err == nil || !strings.Contains(err.Error(), here+" is there: restore puts files only where none are") {
			t.Errorf("a file that came in between: %v", err)
		}
	}
	mark := put(filepath.Join(dir, restoring))
	inside := put(filepath.Join(files[1].path, "file")) // a directory that is not empty cannot be removed
	if err := undo(files, mark); err == nil {
		t.Error("nothing is said")
	}
	if _, err := os.Lstat(mark); err != nil {
		t.Errorf("a file is left, and not the mark: %v", err)
	}
	if err := errors.Join(os.Remove(inside), undo(files, mark)); err != nil {
		t.Fatal(err)
	}
	lock, err := lockEmpty(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

// The rate holds for backups of any size.
func TestBackupRate(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int64]time.Duration{0: 0, 50 << 20: 500 * time.Millisecond, 20 << 30: 204*time.Second + 800*time.Millisecond,
		4 << 40: 41943*time.Second + 40*time.Millisecond} {
		if got := due(bytes, 100); got.Round(time.Microsecond) != want {
			t.Errorf("%d bytes take %v, want %v", bytes, got, want)
		}
	}
}
