package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"sluice/configs"
)

// reloader changes the hot settings of a running server. It reloads when it is asked (ops listener), at SIGHUP, and when
// the file changes. A configuration that does not load, or that changes a fixed setting, changes nothing. Who asks has the
// secrets and certificates read again as well, all or nothing.
type reloader struct {
	server *Server
	file   string // empty: none
	load   func() (*configs.Config, error)
	log    *slog.Logger

	mu      sync.Mutex // one reload at a time
	current *configs.Config
	state   ReloadState

	seen    []byte // what the file held at the last look; of wait alone
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
	Secrets    []string         `json:"secrets"` // names of those that have changed, and of certificates
	Generation int              `json:"generation"`
	Hash       string           `json:"hash"`
}

// watchConfig lets the settings be read again, from where they came from at first. hangups may ask for it too.
func (s *Server) watchConfig(from *settings, hangups <-chan os.Signal) {
	r := newReloader(s, func() (*configs.Config, error) {
		c, _, err := from.load()
		return c, err
	}, s.log)
	r.file = from.file
	s.reloader.Store(r)
	r.watch(from.file, hangups)
}

// newReloader begins with the configuration that the server runs with.
func newReloader(s *Server, load func() (*configs.Config, error), log *slog.Logger) *reloader {
	return &reloader{server: s, load: load, log: log, current: s.config,
		state: ReloadState{Generation: 1, Hash: s.config.Hash(), Since: time.Now()}}
}

// reload loads the configuration, the secrets and the certificates and brings them into force, unless it is a dry run. by
// says in the log who wanted it.
func (r *reloader) reload(by string, dry bool) (out *Reloaded, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.server.vault.reread(by, dry, func(changed []string) (err error) {
		if out, err = r.settings(by, dry); err == nil {
			out.Secrets = changed
		}
		return err
	})
	if err != nil {
		if !dry {
			r.refused(by, err)
		}
		return nil, err
	}
	return out, nil
}

func (r *reloader) refused(by string, err error) {
	r.state.Failures++
	r.state.LastError = err.Error()
	r.log.Error("configuration refused, the last one stays in force", "by", by, "error", err)
}

// settings does it for the settings alone.
func (r *reloader) settings(by string, dry bool) (*Reloaded, error) {
	next, err := r.check()
	if err != nil {
		return nil, err
	}
	out := &Reloaded{DryRun: dry, Changes: r.current.Changes(next), Secrets: []string{}, Generation: r.state.Generation, Hash: next.Hash()}
	if dry {
		return out, nil
	}
	r.state.LastError = ""
	if len(out.Changes) == 0 {
		r.current = next // the values may come from elsewhere now
		return out, nil
	}
	level := r.server.level
	level.Set(min(level.Level(), next.Log.Level)) // whichever says more of this
	defer level.Set(next.Log.Level)
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

// check loads the configuration and looks whether it may come into force. A file that holds nothing all at once would
// bring back every default: somebody has only begun to write it.
func (r *reloader) check() (*configs.Config, error) {
	next, err := r.load()
	if err != nil {
		return nil, err
	}
	changes := r.current.Changes(next)
	ofFile := func(f *configs.Field) bool { return f.Source == r.file }
	if len(changes) > 0 && slices.ContainsFunc(r.current.Fields(), ofFile) && !slices.ContainsFunc(next.Fields(), ofFile) {
		return nil, fmt.Errorf("%s holds no setting any more: it is taken for a file that is being written", r.file)
	}
	if fixed := slices.DeleteFunc(changes, func(c configs.Change) bool { return c.Hot }); len(fixed) > 0 {
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

// tune hands the stages their hot settings. Those of stages that are other processes' are theirs to take.
func (s *Server) tune(c *configs.Config) error {
	var errs []error
	if s.role().sells() {
		errs = append(errs, s.engine.Tune(c.Engine.Tuning), s.gateway.Tune(c.Gateway.Tuning))
	}
	if s.role().stores() {
		errs = append(errs, s.persist.Tune(c.Persist.Tuning))
	}
	if s.lifecycle != nil {
		errs = append(errs, s.lifecycle.Tune(c.Lifecycle.Tuning))
	}
	return errors.Join(errs...)
}

const (
	settle    = 200 * time.Millisecond // a file left alone for so long is written: editors do it in several steps
	lookEvery = 10 * time.Second       // between two looks at the file, for what no event tells of
)

// watch reloads when the file has changed and when hangups says so, until close. It looks at the file at once: that may
// have changed since the start.
func (r *reloader) watch(file string, hangups <-chan os.Signal) {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	w := watchFile(file, r.log)
	r.running.Go(func() {
		defer w.close()
		r.wait(ctx, w, hangups)
	})
}

// wait is the loop of watch.
func (r *reloader) wait(ctx context.Context, w *fileWatch, hangups <-chan os.Signal) {
	settled := time.NewTimer(0)
	defer settled.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			_, _ = r.reload("SIGHUP", false) // it says itself what is wrong
		case e := <-w.events:
			if w.concerns(e) {
				settled.Reset(settle)
			}
		case err := <-w.errors: // events were lost
			r.log.Warn("watching the configuration file", "error", err)
			settled.Reset(settle)
		case <-settled.C:
			r.look(w)
		case <-tick.C:
			r.look(w)
		}
	}
}

// look reloads if the file holds something else than at the last look. A file that cannot be read is between two steps of
// somebody who replaces it.
func (r *reloader) look(w *fileWatch) {
	if content := w.read(); content != nil && !bytes.Equal(content, r.seen) {
		r.seen = content
		r.mu.Lock()
		defer r.mu.Unlock()
		by := "the file " + w.path
		if _, err := r.settings(by, false); err != nil {
			r.refused(by, err)
		}
	}
}

func (r *reloader) close() {
	if r.stop != nil {
		r.stop()
		r.running.Wait()
	}
}
