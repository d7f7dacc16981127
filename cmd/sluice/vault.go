package main

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluice/configs"
	"sluice/internal/tlsfile"
)

// vault holds the secrets and certificates that a configuration names. Their files are read again while a server runs
// (rotate.go); what is there now is had from here at each use: new connections have it, those that are open stay.
type vault struct {
	config  *configs.Config
	environ []string
	log     *slog.Logger

	secrets      atomic.Pointer[configs.Secrets]
	store, redis atomic.Pointer[tls.Config]      // nil: in plain
	public, ops  atomic.Pointer[tls.Certificate] // of the listeners; nil: in plain

	mu      sync.Mutex // one look at the files at a time
	sources []*source
	state   SecretsState
	trust   func(*configs.Secrets) // hands changed secrets on; set before the first look
}

// source is one thing that is read from files, and put in force or left out as one.
type source struct {
	files []string
	// load reads the files, and says what would change. apply puts in force what is right, also beside an error.
	load func() (apply func(), changed []string, err error)

	look        map[string]fileLook // the last of each file
	seen, taken [sha256.Size]byte   // what the files held at the last look, and when they were taken last
	err         error               // of the last taking
}

// openVault reads all that the configuration names. With generate, secrets that are nowhere are generated
// (configs.LoadSecrets).
func openVault(c *configs.Config, d *drivers, environ []string, generate bool) (*vault, error) {
	v := &vault{config: c, environ: environ, log: slog.New(slog.DiscardHandler), state: SecretsState{Generation: 1, Since: time.Now()}}
	own := &source{files: c.SecretPaths(), load: v.rereadSecrets}
	own.taken = own.digest() // before they are read: what changes in between is seen at the first look
	secrets, err := c.LoadSecrets(environ, generate)
	if err != nil {
		return nil, err
	}
	v.secrets.Store(secrets)
	v.sources = []*source{own, dialling("store.tls", &c.Store.TLS, &v.store), dialling("stock.redisstock.tls", &d.redisstock.TLS, &v.redis),
		listening("gateway.tls", &c.Gateway.TLS, &v.public), listening("ops.tls", &c.Ops.TLS, &v.ops)}
	var errs []error
	for _, s := range v.sources[1:] {
		s.taken = s.digest()
		apply, _, err := s.load()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		apply()
	}
	return v, errors.Join(errs...)
}

// dialling is how a server is spoken to.
func dialling(name string, o *tlsfile.Client, into *atomic.Pointer[tls.Config]) *source {
	return &source{files: o.Files(), load: func() (func(), []string, error) {
		c, err := o.Load()
		if err != nil {
			return func() {}, nil, fmt.Errorf("%s: %w", name, err)
		}
		return func() { into.Store(c) }, []string{name}, nil
	}}
}

// listening is the certificate of a listener. One that has run out never replaces one that has not.
func listening(name string, o *tlsfile.Server, into *atomic.Pointer[tls.Certificate]) *source {
	return &source{files: o.Files(), load: func() (func(), []string, error) {
		c, err := o.Load()
		if former := into.Load(); err == nil && former != nil && tlsfile.Expired(former, time.Now()) == nil {
			err = tlsfile.Expired(c, time.Now())
		}
		if err != nil {
			return func() {}, nil, fmt.Errorf("%s: %w", name, err)
		}
		changed := name
		if c != nil {
			changed += " (valid until " + c.Leaf.NotAfter.UTC().Format(time.RFC3339) + ")"
		}
		return func() { into.Store(c) }, []string{changed}, nil
	}}
}

// rereadSecrets is the source of everything under `secrets`. A secret that is wrong stays as it was; the others are taken.
func (v *vault) rereadSecrets() (apply func(), changed []string, err error) {
	last := v.secrets.Load()
	next, err := v.config.RereadSecrets(v.environ, last)
	changed = last.Changed(next)
	return func() {
		if v.secrets.Store(next); len(changed) > 0 && v.trust != nil {
			v.trust(next)
		}
	}, changed, err
}

// fileLook is a file as it was when it was read.
type fileLook struct {
	stat unix.Stat_t
	at   time.Time
	sum  [sha256.Size]byte
}

// settledFor is the age from which on a file that has changed has another time of change, however coarse its clock is.
const settledFor = 5 * time.Second

// digest tells contents of the files apart. A file that cannot be read is one more content. One that has the same inode,
// size and times as when it was read last is not read again.
func (s *source) digest() (sum [sha256.Size]byte) {
	if s.look == nil {
		s.look = map[string]fileLook{}
	}
	h := sha256.New()
	for _, file := range s.files {
		l := s.look[file]
		var now unix.Stat_t
		if err := unix.Stat(file, &now); err != nil || !sameFile(&now, &l.stat) || l.at.Sub(time.Unix(now.Ctim.Unix())) < settledFor {
			b, err := os.ReadFile(file)
			l = fileLook{now, time.Now(), sha256.Sum256(fmt.Appendf(nil, "%v\n%s", err, b))}
			s.look[file] = l
		}
		h.Write(l.sum[:]) // a hash takes everything
	}
	h.Sum(sum[:0])
	return sum
}

func sameFile(a, b *unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

// now are the secrets of this moment.
func (v *vault) now() *configs.Secrets { return v.secrets.Load() }

// storePassword and redisCredentials are what a new connection is made with.
func (v *vault) storePassword() string { return v.now().StorePassword }

func (v *vault) redisCredentials(username string) func() (string, string) {
	return func() (string, string) {
		s := v.now()
		if s.RedisUsername != "" {
			return s.RedisUsername, s.RedisPassword
		}
		return username, s.RedisPassword
	}
}

// keyFiles are the files of private keys that the configuration names.
func keyFiles(c *configs.Config, d *drivers) (list []string) {
	for _, file := range []string{c.Gateway.TLS.KeyFile, c.Ops.TLS.KeyFile, c.Store.TLS.KeyFile, d.redisstock.TLS.KeyFile} {
		if file != "" {
			list = append(list, file)
		}
	}
	return list
}

// lifetimes says for how many seconds the listeners' certificates are still valid at now.
func (v *vault) lifetimes(now time.Time) map[string]float64 {
	left := map[string]float64{}
	for name, c := range map[string]*tls.Certificate{"gateway": v.public.Load(), "ops": v.ops.Load()} {
		if c != nil {
			left[name] = c.Leaf.NotAfter.Sub(now).Seconds()
		}
	}
	return left
}

// warnings says what a person should know of the files.
func (v *vault) warnings(d *drivers) []string {
	list := v.config.SecretWarnings(v.environ, keyFiles(v.config, d)...)
	for name, c := range map[string]*tls.Certificate{"gateway.tls": v.public.Load(), "ops.tls": v.ops.Load()} {
		if err := tlsfile.Expired(c, time.Now()); err != nil {
			list = append(list, name+": "+err.Error()+": clients will refuse it; renew it")
		}
	}
	slices.Sort(list)
	return list
}
