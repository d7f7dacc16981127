package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"sluice/engine/order"
	"sluice/gateway/limit"
	"sluice/internal/tlsfile"
)

// Options are fixed for the life of a gateway.
type Options struct {
	// Listen is the address of the public listener, host:port. Port 0 takes a free one.
	Listen string `koanf:"listen"`
	// TLS is the listener's certificate; none: it speaks in plain. Certificate gives what its files hold, at each handshake; with
	// TLS it is needed.
	TLS         tlsfile.Server          `koanf:"tls"`
	Certificate func() *tls.Certificate `koanf:"-"`
	// JWTSecrets are the HMAC keys that users' tokens may be signed with, 32 bytes each at least. A new key is rolled
	// out by putting it behind the old one, then in front, then removing the old one.
	JWTSecrets []string `koanf:"-"`
	// PublicKeysFile is a file with public keys that users' tokens may be signed with too: a JWKS, or PEM. It is read at
	// Start, and again when it changes: a file that is not right then is logged, and the former keys stay. Empty: none.
	PublicKeysFile string `koanf:"public_keys_file"`
	// TokenIssuer and TokenAudience are the `iss`, and one of the `aud`, that tokens signed for a public key must have;
	// empty: any.
	TokenIssuer   string `koanf:"token_issuer"`
	TokenAudience string `koanf:"token_audience"`
	// ServiceTokens are the bearer tokens of the shop's own servers, 16 characters at least. They may act for any user.
	ServiceTokens []string `koanf:"-"`
	// MaxQueueAge is how long an accepted order may wait for its record: an order id that is younger and not stored
	// reads as pending. The same value as the engine's.
	MaxQueueAge time.Duration `koanf:"-"`
	// Kinds are those that the engine behind it sells; empty means both.
	Kinds []order.Kind `koanf:"-"`
	// Traced says that batches are traced: the header traceparent is read.
	Traced bool `koanf:"-"`

	// ReadTimeout bounds the arrival of a whole request, WriteTimeout the departure of an answer, IdleTimeout the rest
	// between two requests of a connection.
	ReadTimeout  time.Duration `koanf:"read_timeout"`
	WriteTimeout time.Duration `koanf:"write_timeout"`
	IdleTimeout  time.Duration `koanf:"idle_timeout"`
	// ConnectionsMax bounds the connections, ConnectionsPerIPMax those of one IPv4 address or IPv6 /64; 0: no bound of its own.
	ConnectionsMax      int `koanf:"connections_max"`
	ConnectionsPerIPMax int `koanf:"connections_per_ip_max"`

	// TrustedProxies are the addresses whose X-Forwarded-For is believed; nobody else's is.
	TrustedProxies []netip.Prefix `koanf:"trusted_proxies"`
	// CORSOrigins are the origins, such as https://shop.example, whose pages may call from a browser; * is all of them.
	CORSOrigins []string `koanf:"cors_origins"`

	Tuning Tuning `koanf:",squash"`
}

// Tuning may change while the gateway runs.
type Tuning struct {
	// WaitMax is the longest ?wait; longer ones are cut to it. 0 to 60 s.
	WaitMax time.Duration `koanf:"wait_max"`
	// ReadDeadline bounds one read of the store, 10 ms to 60 s.
	ReadDeadline time.Duration `koanf:"read_deadline"`
	// ReadsMax bounds the requests that read one user shard at once, 1 to 100,000.
	ReadsMax int `koanf:"reads_max"`
	// BatchesMax bounds the batches of orders that are placed at once, 1 to 10,000. Each needs about 2 MiB.
	BatchesMax int `koanf:"batches_max"`
	// WaitersMax bounds the requests that wait for a record, 0 to 1,000,000.
	WaitersMax int `koanf:"waiters_max"`
	// Limits bound how often requests come. All are off by default.
	Limits Limits `koanf:"limits"`
}

// Bounds of one request.
const (
	BodyMax   = 16 << 10 // bytes of a body
	HeaderMax = 8 << 10  // bytes of request line and headers together
)

// DefaultOptions are those of the embedded default. Secrets have no default.
func DefaultOptions() Options {
	return Options{
		Listen:         "127.0.0.1:8080",
		MaxQueueAge:    2 * time.Hour,
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   5 * time.Second,
		IdleTimeout:    75 * time.Second,
		ConnectionsMax: 20_000,
		Tuning: Tuning{
			WaitMax:      10 * time.Second,
			ReadDeadline: 2 * time.Second,
			ReadsMax:     64,
			BatchesMax:   64,
			WaitersMax:   10_000,
			Limits: Limits{Global: limit.Limit{Burst: 1000}, IP: limit.Limit{Burst: 100}, User: limit.Limit{Burst: 20},
				Offer: limit.Limit{Burst: 1000}},
		},
	}
}

// Validate reports every option out of its bounds, joined; nil if there is none.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("gateway: "+format, args...))
		}
	}
	_, _, err := net.SplitHostPort(o.Listen)
	check(err == nil, "listen must be host:port, not %q", o.Listen)
	check(len(o.JWTSecrets) > 0, "a JWT secret is needed")
	for _, secret := range o.JWTSecrets {
		check(len(secret) >= 32, "a JWT secret must have at least 32 bytes")
	}
	for _, token := range o.ServiceTokens {
		check(len(token) >= 16 && !strings.ContainsAny(token, " \t\r\n"), "a service token must have at least 16 characters and no spaces")
	}
	check(o.MaxQueueAge >= time.Second, "max_queue_age must be at least 1s")
	for name, d := range map[string]time.Duration{
		"read_timeout": o.ReadTimeout, "write_timeout": o.WriteTimeout, "idle_timeout": o.IdleTimeout,
	} {
		check(d >= 10*time.Millisecond && d <= time.Hour, "%s must be 10ms to 1h", name)
	}
	check(o.ConnectionsMax >= 1 && o.ConnectionsMax <= 1_000_000, "connections_max must be 1 to 1000000")
	check(o.ConnectionsPerIPMax >= 0, "connections_per_ip_max must not be negative")
	for i, origin := range o.CORSOrigins {
		err := validOrigin(origin)
		check(err == nil, "cors_origins entry %d %w", i, err)
	}
	return errors.Join(append(errs, o.TLS.Validate("gateway.tls"), o.Tuning.Validate())...)
}

// Validate reports every value out of its bounds, joined; nil if there is none.
func (t *Tuning) Validate() error {
	var errs []error
	check := func(ok bool, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("gateway: %s", text))
		}
	}
	check(t.WaitMax >= 0 && t.WaitMax <= time.Minute, "wait_max must be 0 to 1m")
	check(t.ReadDeadline >= 10*time.Millisecond && t.ReadDeadline <= time.Minute, "read_deadline must be 10ms to 1m")
	check(t.ReadsMax >= 1 && t.ReadsMax <= 100_000, "reads_max must be 1 to 100000")
	check(t.BatchesMax >= 1 && t.BatchesMax <= 10_000, "batches_max must be 1 to 10000")
	check(t.WaitersMax >= 0 && t.WaitersMax <= 1_000_000, "waiters_max must be 0 to 1000000")
	limits := [limitsEnd]*limit.Limit{limitGlobal: &t.Limits.Global, limitIP: &t.Limits.IP, limitUser: &t.Limits.User,
		limitOffer: &t.Limits.Offer}
	for name := limitGlobal; name < limitsEnd; name++ {
		if err := limits[name].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("gateway: limits.%s: %w", limitNames[name], err))
		}
	}
	return errors.Join(errs...)
}
