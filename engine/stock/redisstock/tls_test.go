package redisstock

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/internal/certtest"
)

// Whoever answers in the place of a server that speaks TLS gets no word in plain, least of all the password, and a call that
// ends there was not executed.
func TestNothingInPlain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	var heard bytes.Buffer
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			mu.Lock()
			heard.Write(b[:n])
			mu.Unlock()
			_, _ = c.Write([]byte("+OK\r\n"))
			_ = c.Close()
		}
	}()
	trusted := certtest.New(t).Trusting()
	o := Defaults()
	o.Addrs, o.Username, o.Password, o.Partitions = []string{l.Addr().String()}, "sluice", "secret-0123456789", order.Partitions{Normal: 1, Flash: 1}
	o.TLS.Enabled, o.Secure = true, func() *tls.Config { return trusted }
	st, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if _, err := st.Reserve(t.Context(), &stock.ReserveCall{}); !stock.NotExecuted(err) {
		t.Errorf("%v, want not executed", err)
	}
	if err := st.Check(t.Context()); err == nil {
		t.Error("the check passes")
	}
	mu.Lock()
	defer mu.Unlock()
	if b := heard.Bytes(); len(b) == 0 || b[0] != 22 || bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("EVALSHA")) {
		t.Errorf("it heard %q", b) // 22 begins a handshake
	}
}
