package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"sluice/configs"
)

// reloader changes the hot settings of a running server. It reloads when it is asked (ops listener), at SIGHUP, and when
// the file changes. A configuration that does not load, or that changes a fixed setting, changes nothing.
type reloader struct {
	server *Server
	load   func() (*configs.Config, error)
	log    *slog.Logger

	mu      sync.Mutex // one reload at a time
	current *configs.Config
	state   ReloadState

	stop    context.CancelFunc
	running sync.WaitGroup
}

// ReloadState is what /ops/stats shows of reloads.
type ReloadState struct {
	Generation int       // of the configuration: 1 at the start, one more with each reload that changed something
	Hash       string    // of the configuration
	Since      time.Time // when it came into force
	Failures   int       // reloads that were refused
	LastError  string    // of the last reload; empty if it was not refused
}

// Reloaded is what one reload did, or would do.
type Reloaded struct {
	DryRun     bool             `json:"dry_run"`
	Changes    []configs.Change `json:"changes"`
	Generation int              `json:"generation"`
	Hash       string           `json:"hash"`
}

// watchConfig lets the settings be read again, from where they came from at first.
func (s *Server) watchConfig(from *settings, log *slog.Logger) error {
	r := newReloader(s, func() (*configs.Config, error) {
		c, _, err := from.load()
		return c, err
	}, log)
	s.reloader.Store(r)
	return r.watch(from.file)
}

// newReloader begins with the configuration that the server runs with.
func newReloader(s *Server, load func() (*configs.Config, error), log *slog.Logger) *reloader {
	return &reloader{server: s, load: load, log: log, current: s.config,
		state: ReloadState{Generation: 1, Hash: s.config.Hash(), Since: time.Now()}}
}

// reload loads the configuration and brings it into force, unless it is a dry run. by says in the log who wanted it.
func (r *reloader) reload(by string, dry bool) (*Reloaded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := r.check()
	if err != nil {
		if !dry {
			r.state.Failures++
			r.state.LastError = err.Error()
			r.log.Error("configuration refused, the last one stays in force", "by", by, "error", err)
		}
		return nil, err
	}
	out := &Reloaded{DryRun: dry, Changes: r.current.Changes(next), Generation: r.state.Generation, Hash: next.Hash()}
	if dry {
		return out, nil
	}
	r.state.LastError = ""
	if len(out.Changes) == 0 {
		r.current = next // the values may come from elsewhere now
		return out, nil
	}
	if err := r.server.tune(next); err != nil {
		panic("BUG: a configuration that was found valid is refused: " + err.Error())
	}
	r.current = next
	r.state.Generation++
	r.state.Hash, r.state.Since = out.Hash, time.Now()
	out.Generation = r.state.Generation
	r.log.Info("configuration reloaded", "by", by, "generation", out.Generation, "hash", out.Hash, "changes", out.Changes)
	return out, nil
}

// check loads the configuration and looks whether it may come into force.
func (r *reloader) check() (*configs.Config, error) {
	next, err := r.load()
	if err != nil {
		return nil, err
	}
	fixed := slices.DeleteFunc(r.current.Changes(next), func(c configs.Change) bool { return c.Hot })
	if len(fixed) > 0 {
		return nil, &configs.FixedError{Changes: fixed}
	}
	return next, nil
}

// config is the configuration in force; state what is known of reloads.
func (r *reloader) config() (*configs.Config, ReloadState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current, r.state
}

// tune hands the hot settings to the stages.
func (s *Server) tune(c *configs.Config) error {
	s.level.Set(c.Log.Level)
	return errors.Join(s.engine.Tune(c.Engine.Tuning), s.persist.Tune(c.Persist.Tuning), s.gateway.Tune(c.Gateway.Tuning))
}

// settle is how long a file must be left alone before it is read: editors and container platforms write in several
// steps.
const settle = 200 * time.Millisecond

// watch reloads at SIGHUP and, if there is a file, when its content changes, until close. Directories are watched, not
// the file: it may be replaced by another one of its name, and be a link to a link, as Kubernetes mounts it.
func (r *reloader) watch(file string) error {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var events chan fsnotify.Event
	closeFiles := func() error { return nil }
	if file != "" {
		watcher, err := fsnotify.NewWatcher()
		if err == nil {
			err = watchPath(watcher, file)
		}
		if err != nil {
			return fmt.Errorf("watch the configuration file %s: %w", file, err)
		}
		events, closeFiles = watcher.Events, watcher.Close
	}
	r.running.Go(func() {
		defer func() { _ = closeFiles() }()
		defer signal.Stop(hangups)
		r.wait(ctx, file, hangups, events)
	})
	return nil
}

// watchPath watches the directory of the file, and of what it is a link to.
func watchPath(watcher *fsnotify.Watcher, file string) error {
	dirs := []string{filepath.Dir(file)}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if err := watcher.Add(dir); err != nil {
			return err
		}
	}
	return nil
}

// wait is the loop of watch.
func (r *reloader) wait(ctx context.Context, file string, hangups <-chan os.Signal, events <-chan fsnotify.Event) {
	content := read(file)
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			_, _ = r.reload("SIGHUP", false) // it says itself what is wrong
		case _, open := <-events:
			if !open {
				return
			}
			settled = time.After(settle)
		case <-settled:
			if now := read(file); now != nil && !bytes.Equal(now, content) {
				content = now
				_, _ = r.reload("the file "+file, false)
			}
		}
	}
}

// read is the content of a file, nil if it cannot be read: between two steps of somebody who replaces it.
func read(file string) []byte {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return b
}

func (r *reloader) close() {
	if r.stop != nil {
		r.stop()
		r.running.Wait()
	}
}
