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
		MaxConnsPerIP:                g.opts.ConnectionsPerIPMax,
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

// boundedListener accepts connections, and answers those above the bound at once.
type boundedListener struct {
	net.Listener
	g    *Gateway
	open atomic.Int64
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= int64(l.g.opts.ConnectionsMax) {
			return &lingeringConn{TCPConn: c.(*net.TCPConn), open: &l.open}, nil
		}
		l.open.Add(-1)
		l.g.turnAway(c)
	}
}

// turnAway answers a connection that is one too many, without reading from it. A new connection has room for so little. In TLS
// there is no answer before a handshake, which would be work for whoever is too much: it is closed.
func (g *Gateway) turnAway(c net.Conn) {
	id := g.requestID(g.stats.in.Add(1))
	if g.opts.TLS.On() {
		_ = c.Close()
		g.stats.answered(codeOverloaded)
		return
	}
	body := appendProblem(nil, &problem{code: codeOverloaded, detail: "Too many connections. Try again."}, id[:])
	answer := fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: %s\r\n%s: %s\r\n%s: 1\r\n"+
		"Content-Length: %d\r\n\r\n%s", typeProblem, headRequestID, id[:], headRetryAfter, len(body), body)
	_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // whatever fails, the connection is closed next
	_, _ = c.Write(answer)
	_ = c.Close()
	g.stats.answered(codeOverloaded)
}

type lingeringConn struct {
	*net.TCPConn
	linger atomic.Bool
	closed atomic.Bool
	open   *atomic.Int64 // connections of the listener
}

func (c *lingeringConn) Close() error {
	if !c.closed.Swap(true) {
		defer c.open.Add(-1)
	}
	if c.linger.Swap(false) && c.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
		_, _ = io.CopyN(io.Discard, c.TCPConn, lingerBytes) // whatever ends it, the connection is closed now
	}
	return c.TCPConn.Close()
}
