package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

func newServer(g *Gateway) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      g.serve,
		ErrorHandler:                 g.serveUnreadable,
		Logger:                       quietLogger{g.deps.Log},
		ReadTimeout:                  g.opts.ReadTimeout,
		WriteTimeout:                 g.opts.WriteTimeout,
		IdleTimeout:                  g.opts.IdleTimeout,
		Concurrency:                  g.opts.ConnectionsMax + 1, // the listener turns away whoever is one too many
		ReadBufferSize:               HeaderMax,
		MaxRequestBodySize:           BodyMax,
		HeaderReceived:               g.bodyBound,
		CloseOnShutdown:              true,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
	}
}

// bodyBound lets a batch have a larger body, if it comes with a service token: nobody else makes this process take so
// much memory.
func (g *Gateway) bodyBound(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if bytes.HasPrefix(h.RequestURI(), []byte(batchPath)) {
		if token, ok := bearerToken(h.PeekCanonical(headAuth)); ok && g.isService(token) {
			c.MaxRequestBodySize = BatchBodyMax
		}
	}
	return c
}

// quietLogger takes fasthttp's words about single connections.
type quietLogger struct{ log *slog.Logger }

func (l quietLogger) Printf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }

// serveUnreadable answers a request that could not be read. The connection is closed afterwards.
func (g *Gateway) serveUnreadable(ctx *fasthttp.RequestCtx, err error) {
	conn := ctx.Conn()
	// The deadline for writing that is in force is that of the answer before, or of the handshake: it may be over.
	_ = conn.SetWriteDeadline(time.Now().Add(g.opts.WriteTimeout))
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	if c, ok := conn.(*lingeringConn); ok {
		c.linger.Store(true)
	}
	c := g.begin(ctx)
	defer c.end()
	c.welcome()
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		c.refuse(&problem{code: codeBodyTooLarge, detail: fmt.Sprintf("A body may have at most %d bytes, %d with a batch "+
			"of orders by a service token.", BodyMax, BatchBodyMax)})
	case errors.As(err, &small):
		c.refuse(&problem{code: codeHeadersTooLarge, detail: fmt.Sprintf("Address and headers may have at most %d bytes.", HeaderMax)})
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		c.refuse(&problem{code: codeRequestTimeout, detail: "Send the whole request within " + g.opts.ReadTimeout.String() + "."})
	default:
		c.refuse(&problem{code: codeInvalidRequest, detail: "This is not a complete HTTP/1.1 request."})
	}
}

// A connection that is closed while unread bytes of its client are waiting is reset, and the reset may destroy the
// answer on its way. After an answer to a request that was not read to its end, the connection is therefore closed in
// two steps: no more is sent, then what still comes is thrown away for a short while.
const (
	lingerFor   = time.Second
	lingerBytes = 2 * BatchBodyMax // whoever is told that a batch is too large has sent about one
)

// boundedListener accepts connections, and answers those above a bound at once.
type boundedListener struct {
	net.Listener
	g *Gateway

	mu   sync.Mutex
	open int
	of   map[uint64]int // those of an address, if they have a bound of their own
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := addressKey(addressOf(c.RemoteAddr()))
		if p := l.enter(peer); p != nil {
			l.g.turnAway(c, p)
			continue
		}
		if l.g.opts.TLS.On() {
			// fasthttp answers one that it has no worker for, before it accepts another: a handshake must not wait there
			// for the client. One that is served has its deadlines set before its handshake.
			_ = c.SetDeadline(time.Unix(1, 0))
		}
		return &lingeringConn{TCPConn: c.(*net.TCPConn), from: l, peer: peer}, nil
	}
}

// enter counts a connection, unless it is one too many: then it says so.
func (l *boundedListener) enter(peer uint64) *problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	each := l.g.opts.ConnectionsPerIPMax
	switch {
	case l.open >= l.g.opts.ConnectionsMax:
		return &problem{code: codeOverloaded, detail: "Too many connections. Try again."}
	case each > 0 && l.of[peer] >= each:
		return &problem{code: codeRateLimited, detail: "Too many connections from your network address. Nothing was done; try again after " +
			"retry_after_ms.", limited: limited{by: limitIP, wait: time.Second}}
	case each > 0:
		l.of[peer]++
	}
	l.open++
	return nil
}

func (l *boundedListener) leave(peer uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if n := l.of[peer]; n > 1 {
		l.of[peer] = n - 1
	} else {
		delete(l.of, peer)
	}
}

// turnAway answers a connection that is one too many, without reading from it. A new connection has room for so little. In TLS
// there is no answer before a handshake, which would be work for whoever is too much: it is closed.
func (g *Gateway) turnAway(c net.Conn, p *problem) {
	id := g.requestID(g.stats.in.Add(1))
	if p.limited.by != limitNone {
		g.limiters.refused[p.limited.by].Add(1)
	}
	g.stats.answered(p.code)
	if !g.opts.TLS.On() {
		body := appendProblem(nil, p, id[:])
		status := problems[p.code].status
		answer := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: %s\r\n%s: %s\r\n%s: 1\r\n"+
			"Content-Length: %d\r\n\r\n%s", status, fasthttp.StatusMessage(status), typeProblem, headRequestID, id[:], headRetryAfter, len(body), body)
		_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // whatever fails, the connection is closed next
		_, _ = c.Write(answer)
	}
	_ = c.Close()
}

type lingeringConn struct {
	*net.TCPConn
	linger atomic.Bool
	closed atomic.Bool
	from   *boundedListener
	peer   uint64 // addressKey
}

func (c *lingeringConn) Close() error {
	if !c.closed.Swap(true) {
		defer c.from.leave(c.peer)
	}
	if c.linger.Swap(false) && c.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
		_, _ = io.CopyN(io.Discard, c.TCPConn, lingerBytes) // whatever ends it, the connection is closed now
	}
	return c.TCPConn.Close()
}
