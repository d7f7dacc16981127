package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// CeilingOptions describe the bare server that a figure is compared with.
type CeilingOptions struct {
	Listen      string // host:port; port 0 takes a free one
	AnswerBytes int    // size of a whole answer, head and body
}

// ServeCeiling serves the bare handler until ctx ends: it reads the body and answers a constant, with the server
// settings that the gateway has. It prints `ready gateway=ADDR` to out when it listens. What it does per second is what
// this machine, its sockets, fasthttp and the generator allow anyone.
func ServeCeiling(ctx context.Context, o CeilingOptions, out io.Writer) error {
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("ceiling: %w", err)
	}
	s := &fasthttp.Server{
		Handler: ceilingHandler(o.AnswerBytes), MaxRequestBodySize: 16 << 10,
		ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		NoDefaultDate: true, NoDefaultServerHeader: true,
	}
	// As the server sets its own runtime.
	debug.SetGCPercent(400)
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	_, _ = fmt.Fprintf(out, "ready gateway=%s\n", l.Addr())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		_ = s.Shutdown()
		return <-ended
	}
}

func ceilingHandler(size int) fasthttp.RequestHandler {
	const head = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 000\r\n\r\n"
	const begin, end = `{"id":"1","status":"pending","details":"`, `"}`
	length := size - len(head)
	if length > 999 {
		length--
	}
	body := []byte(begin + strings.Repeat("x", max(0, length-len(begin)-len(end))) + end)
	return func(ctx *fasthttp.RequestCtx) {
		if !bytes.HasPrefix(ctx.PostBody(), []byte("{")) {
			ctx.SetStatusCode(fasthttp.StatusBadRequest)
			return
		}
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		ctx.SetContentType("application/json")
		ctx.SetBody(body)
	}
}
