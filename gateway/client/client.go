package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// Options are fixed for the life of a client. Fields that are left out have the defaults named here.
type Options struct {
	// Base is the address of the API, such as https://orders.example.com. It has no default.
	Base string
	// Token returns the bearer token: a buyer's, or the service token. It is asked before every attempt, so it should keep
	// what it has while that is valid; it may be called at the same time by several goroutines. nil: offers only.
	Token func(ctx context.Context) (string, error)
	// Timeout bounds one attempt beyond the wait that was asked for; 5 s.
	Timeout time.Duration
	// Patience bounds a call with all its attempts if its context has no deadline; 30 s.
	Patience time.Duration
	// ConnectionsMax bounds the connections; 256.
	ConnectionsMax int
	// AnswerMax bounds the body of an answer, in bytes; 8 MiB. The answer to a full batch may have half of that.
	AnswerMax int
	// TLS is for servers with certificates of their own; nil: those that the system trusts.
	TLS *tls.Config
}

// idleMax is how long a connection is kept unused: less than the server keeps it.
const idleMax = 30 * time.Second

// Client calls the API. It is safe for concurrent use; one is enough for a process.
type Client struct {
	options Options
	base    string
	user    string
	repeats func(cause error)
	http    *fasthttp.HostClient
}

// New returns a client, which connects when it is first used.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.Base)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.User != nil {
		return nil, fmt.Errorf("client: base must be a URL such as https://orders.example.com, not %q", o.Base)
	}
	o.Timeout, o.Patience = orElse(o.Timeout, 5*time.Second), orElse(o.Patience, 30*time.Second)
	o.ConnectionsMax, o.AnswerMax = orElse(o.ConnectionsMax, 256), orElse(o.AnswerMax, 8<<20)
	if o.Timeout < 0 || o.Patience < 0 || o.ConnectionsMax < 0 || o.AnswerMax < 0 {
		return nil, errors.New("client: an option is negative")
	}
	port := base.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[base.Scheme]
	}
	return &Client{options: o, base: strings.TrimSuffix(base.String(), "/"), http: &fasthttp.HostClient{
		Addr:      net.JoinHostPort(base.Hostname(), port),
		IsTLS:     base.Scheme == "https",
		TLSConfig: o.TLS,
		DialTimeout: func(addr string, timeout time.Duration) (net.Conn, error) {
			return net.DialTimeout("tcp", addr, timeout)
		},
		MaxConns:                  o.ConnectionsMax,
		MaxConnWaitTimeout:        o.Timeout,
		MaxIdleConnDuration:       idleMax,
		ConnPoolStrategy:          fasthttp.LIFO,
		WriteTimeout:              o.Timeout, // bounds the handshake of TLS too
		MaxResponseBodySize:       o.AnswerMax,
		MaxIdemponentCallAttempts: 1, // repeats are ours
		NoDefaultUserAgentHeader:  true,
		DisablePathNormalizing:    true,
		SecureErrorLogMessage:     true,
	}}, nil
}

func orElse[T comparable](given, standard T) T {
	var none T
	if given == none {
		return standard
	}
	return given
}

// As returns a client that acts for a user, for a token that is the service token. It shares the connections.
func (c *Client) As(user string) *Client {
	other := *c
	other.user = user
	return &other
}

// OnRepeat returns a client that calls f before each attempt of a call beyond the first, with what the one before came to:
// a *Problem, or an error that is none if nobody answered. f may be called by several goroutines at the same time, and
// holds up its call. The client shares the connections.
func (c *Client) OnRepeat(f func(cause error)) *Client {
	other := *c
	other.repeats = f
	return &other
}

// Close closes the connections that are not in use. The client, and those that As and OnRepeat made of it, can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// query is one call of the API.
type query struct {
	method, path string
	args         url.Values
	wait         time.Duration
	body         []byte
	contentType  string
	key          string
	open         bool // needs no token
	nobody       bool // acts for no user
}

// answer is what a call came to.
type answer struct {
	replayed bool
	body     []byte
}

// attempt sends the query once. The error is a *Problem, a *broken, or the token's.
func (c *Client) attempt(ctx context.Context, q *query) (answer, error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	wait := waitFor(ctx, q.wait)
	req.SetRequestURI(c.base + q.path + queryString(q.args, wait))
	req.Header.SetMethod(q.method)
	if len(q.body) > 0 {
		req.Header.SetContentType(q.contentType)
		req.SetBodyRaw(q.body)
	}
	if q.key != "" {
		req.Header.Set("Idempotency-Key", q.key)
	}
	if err := c.authorize(ctx, req, q); err != nil {
		return answer{}, err
	}
	until := time.Now().Add(c.options.Timeout + wait)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	if err := c.http.DoDeadline(req, res, until); err != nil {
		return answer{}, &broken{err: err, unsent: isUnsent(err)}
	}
	body := append([]byte(nil), res.Body()...)
	if status := res.StatusCode(); status >= 300 {
		return answer{}, problemOf(status, string(res.Header.Peek("Retry-After")), body)
	}
	return answer{replayed: len(res.Header.Peek("Idempotent-Replayed")) > 0, body: body}, nil
}

func (c *Client) authorize(ctx context.Context, req *fasthttp.Request, q *query) error {
	if q.open || c.options.Token == nil {
		return nil
	}
	token, err := c.options.Token(ctx)
	if err != nil {
		return fmt.Errorf("client: token: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if c.user != "" && !q.nobody {
		req.Header.Set("Sluice-User", c.user)
	}
	return nil
}

// waitFor is how long the server is asked to wait: in whole seconds, and so that its answer comes before the context ends.
func waitFor(ctx context.Context, wait time.Duration) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(d)-time.Second)
	}
	return max(0, wait).Truncate(time.Second)
}

func queryString(args url.Values, wait time.Duration) string {
	if wait > 0 {
		return fmt.Sprintf("?wait=%d", int(wait.Seconds())) // calls that wait have no other arguments
	}
	if len(args) == 0 {
		return ""
	}
	return "?" + args.Encode()
}

// isUnsent tells whether an error came before anything was sent.
func isUnsent(err error) bool {
	var op *net.OpError
	var stranger *tls.CertificateVerificationError
	return errors.Is(err, fasthttp.ErrNoFreeConns) || errors.As(err, &stranger) || errors.As(err, &op) && op.Op == "dial"
}
