package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"sluice/configs"
)

// replace puts another file in the place of the file, as editors do.
func replace(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// waitMax is a file with this wait_max.
func waitMax(seconds int) string { return fmt.Sprintf("gateway: {wait_max: %ds}\n", seconds) }

// A file in a directory in which others write all the time, as beside the databases, is read again in good time.
func TestReloadInABusyDirectory(t *testing.T) {
	t.Parallel()
	r := newReloading(t, waitMax(1))
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				if err := os.WriteFile(r.file+".log", fmt.Append(nil, n), 0o600); err != nil {
					t.Error(err)
				}
			}
		}
	})
	began := time.Now()
	replace(t, r.file, waitMax(2))
	r.awaitGeneration(2)
	if took := time.Since(began); took > lookEvery/2 {
		t.Errorf("it took %v", took)
	}
	close(stop)
	busy.Wait()
}

// Only events that may have to do with the file count: others, hundreds a second beside databases, would never let the
// wait for quiet end.
func TestEventsThatConcernAFile(t *testing.T) {
	t.Parallel()
	w := &fileWatch{path: "/etc/sluice/sluice.yaml", target: "/srv/shop.yaml"}
	for _, c := range []struct {
		name string
		op   fsnotify.Op
		want bool
	}{
		{w.path, fsnotify.Write, true},
		{w.path, fsnotify.Create, true},
		{w.path, fsnotify.Chmod, false},
		{w.target, fsnotify.Rename, true},
		{"/etc/sluice/..data", fsnotify.Create, true},
		{"/etc/sluice/sluice.yaml.log", fsnotify.Write, false},
		{"/etc/sluice/shard-0.db-wal", fsnotify.Write, false},
	} {
		if got := w.concerns(fsnotify.Event{Name: c.name, Op: c.op}); got != c.want {
			t.Errorf("%s %s: %v, want %v", c.op, c.name, got, c.want)
		}
	}
}

// The file is a link to one in another directory, which is replaced there, and then the link by one to a third place.
func TestReloadFollowsALinkElsewhere(t *testing.T) {
	t.Parallel()
	target := filepath.Join(t.TempDir(), "shop.yaml")
	replace(t, target, waitMax(1))
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	link := func(target string) {
		t.Helper()
		if err := os.Symlink(target, file+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	link(target)
	r := &reloading{process: spawn(t, t.TempDir(), "-c", file), file: file}
	began := time.Now()
	replace(t, target, waitMax(2))
	r.awaitGeneration(2)
	third := filepath.Join(t.TempDir(), "third.yaml")
	replace(t, third, waitMax(3))
	link(third)
	r.awaitGeneration(3)
	replace(t, third, waitMax(4))
	r.awaitGeneration(4)
	if took := time.Since(began); took > lookEvery-time.Second {
		t.Errorf("it took %v", took)
	}
}

// A file that somebody has only begun to write does not bring back the defaults.
func TestReloadOfAnEmptyFile(t *testing.T) {
	t.Parallel()
	r := newReloading(t, waitMax(1))
	a := r.reloaded(422, "")
	if !strings.Contains(a.field("detail"), r.file+" holds no setting") || r.state().Generation != 1 {
		t.Errorf("%v, %+v", a, r.state())
	}
	r.write(waitMax(2))
	r.awaitGeneration(2)
}

// Values out of bounds are refused with the file and the whole path, and what --set says stays the last word.
func TestReloadSaysWhere(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	replace(t, file, waitMax(1))
	r := &reloading{process: spawn(t, t.TempDir(), "-c", file, "--set", "persist.linger=10ms"), file: file}
	for text, want := range map[string]string{
		"gateway: {wait_max: 2m}\n":                  file + ": gateway.wait_max must be 0 to 1m",
		"gateway: {limits: {user: {rate: -1}}}\n":    file + ": gateway.limits.user.rate must be",
		"engine: {in_flight: 2}\n":                   file + ": engine.in_flight must be 1 with memstock",
		"engine: {in_flight: 9, waiting_max: 0}\n":   file + ": engine.waiting_max must be 1 to 1000000",
		"lifecycle: {expire_every: 2m}\nlog: {}\n\n": file + ": lifecycle.expire_every must be",
	} {
		if a := r.reloaded(422, text); !strings.Contains(a.field("detail"), want) {
			t.Errorf("%q: %v does not say %q", text, a, want)
		}
	}
	r.reloaded(200, waitMax(2)+"persist: {linger: 1s}\n")
	a := r.must(200, "GET", r.ops+"/ops/config", r.secrets.OpsToken, "")
	if !strings.Contains(a.String(), `{"name":"persist.linger","value":"10ms","hot":true,"source":"--set"}`) {
		t.Errorf("%v", a)
	}
}

// Of many reloads that see the same change, one makes a generation. A reload that makes the log quieter is in the log.
func TestReloadsComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	r := newReloading(t, waitMax(1))
	for n := 2; n < 8; n++ {
		replace(t, r.file, waitMax(n)+[]string{"", "log: {level: error}\n"}[n%2])
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if a, err := r.try("POST", r.ops+"/ops/reload", r.secrets.OpsToken, ""); err != nil || a.status != 200 {
					t.Errorf("%v, %v", a, err)
				}
			})
		}
		all.Wait()
		if s := r.state(); s.Generation != n {
			t.Fatalf("%+v, want generation %d", s, n)
		}
		r.says(fmt.Sprintf("gateway.wait_max: %ds -> %ds", n-1, n))
	}
}

// What changed between the loading of the file and the watch is found by the first look.
func TestReloadOfWhatChangedDuringTheStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	replace(t, file, waitMax(1))
	dir := t.TempDir()
	from := &settings{file: file, set: []string{"data_dir=" + dir, "gateway.listen=127.0.0.1:0", "ops.listen=127.0.0.1:0", longD}}
	c, d, err := from.load()
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(c, d, nil, quiet)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	replace(t, file, waitMax(2))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.watchConfig(from, nil)
	inForce := func() *configs.Config { c, _ := s.configState(); return c }
	if !await(func() bool { return inForce().Gateway.Tuning.WaitMax == 2*time.Second }) {
		t.Errorf("wait_max is %v", inForce().Gateway.Tuning.WaitMax)
	}
}
