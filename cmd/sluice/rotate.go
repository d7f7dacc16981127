package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/configs"
)

// SecretsState is what /ops/stats shows of secrets and certificates. It says that they have changed, never to what: it has
// no hash of them, for a hash of something short can be guessed at.
type SecretsState struct {
	Generation int       // 1 at the start, one more whenever something has changed
	Since      time.Time // of the last change
	Failures   int       // files that could not be taken; what was in force stays
	LastError  string    // what is wrong with the files now; empty: nothing
}

// rotateEvery is the time between two looks at the files. What has changed is taken when it looks the same twice in a row:
// whoever writes a file, or two that belong together, may not have finished at the first.
const rotateEvery = time.Second

// rotation is one source that has changed, read and not yet in force.
type rotation struct {
	source  *source
	sum     [sha256.Size]byte
	apply   func()
	changed []string
	err     error
}

// run looks at the files until ctx ends.
func (v *vault) run(ctx context.Context) {
	tick := time.NewTicker(rotateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			v.mu.Lock()
			v.take("the files", v.changed(false))
			v.mu.Unlock()
		}
	}
}

// changed reads the sources whose files hold something else than when they were taken last. now: also those that have only
// just changed, and those that were wrong.
func (v *vault) changed(now bool) (list []rotation) {
	for _, s := range v.sources {
		sum := s.digest()
		settled := sum == s.seen
		if !now { // somebody's question is no look of ours
			s.seen = sum
		}
		if sum == s.taken && (!now || s.err == nil) || !settled && !now {
			continue
		}
		r := rotation{source: s, sum: sum}
		r.apply, r.changed, r.err = s.load()
		list = append(list, r)
	}
	return list
}

// wrong is what is wrong with any of them.
func wrong(list []rotation) error {
	var errs []error
	for _, r := range list {
		errs = append(errs, r.err)
	}
	return errors.Join(errs...)
}

// names are the secrets and certificates that would change.
func names(list []rotation) []string {
	all := []string{}
	for _, r := range list {
		all = append(all, r.changed...)
	}
	return all
}

// take puts in force what is right, and says in the log what has changed and what is wrong. by says who wanted it.
func (v *vault) take(by string, list []rotation) {
	if len(list) == 0 {
		return
	}
	for _, r := range list {
		r.source.taken, r.source.err = r.sum, r.err
		r.apply()
		if r.err != nil {
			v.state.Failures++
			v.log.Error("secrets or certificates are not right, the last good ones stay in force", "by", by, "error", r.err)
		}
	}
	if all := names(list); len(all) > 0 {
		v.state.Generation++
		v.state.Since = time.Now()
		v.log.Info("secrets or certificates have changed", "by", by, "generation", v.state.Generation, "changed", all)
	}
	var errs []error
	for _, s := range v.sources {
		errs = append(errs, s.err)
	}
	v.state.LastError = ""
	if err := errors.Join(errs...); err != nil {
		v.state.LastError = err.Error()
	}
}

// reread takes what has changed, at once, if all of it is right; otherwise nothing. A dry run only says what would change.
func (v *vault) reread(by string, dry bool, then func(changed []string) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := v.changed(true)
	if err := wrong(list); err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	if err := then(names(list)); err != nil || dry {
		return err
	}
	v.take(by, list)
	return nil
}

// status is what is known of changes.
func (v *vault) status() SecretsState {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

// openSecrets reads them, and says in the log what a person should know.
func (s *Server) openSecrets(context.Context) (err error) {
	if s.vault, err = openVault(s.config, s.drivers, s.environ, true); err != nil {
		return err
	}
	s.vault.log, s.vault.trust, s.secrets = s.log, s.trust, s.vault.now()
	if from := s.secrets.Sources(); len(from) > 0 {
		s.log.Info("secrets", "from", from)
	}
	for _, text := range s.vault.warnings(s.drivers) {
		s.log.Warn("secrets", "warning", text)
	}
	return nil
}

// trust hands secrets that have changed to the listeners. Stores and stock ask for them with each new connection.
func (s *Server) trust(secrets *configs.Secrets) {
	s.ops.Trust(secrets.OpsTokens)
	if s.gateway != nil {
		o := s.config.GatewayOptions(secrets)
		s.gateway.Trust(o.JWTSecrets, o.ServiceTokens)
	}
}

// watchSecrets looks at the files of secrets and certificates from now on: those who have to know of changes are there.
func (s *Server) watchSecrets(context.Context) error {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.vault.run(ctx) })
	s.unwatchSecrets = func() { stop(); running.Wait() }
	return nil
}
