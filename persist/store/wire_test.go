package store

import (
	"context"
	"crypto/rand"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// wire sees every statement that is sent to one test's MySQL database and holds it to what MySQL 8 takes too
// (mysql8_test.go): the tests know MariaDB only.
type wire struct {
	mu         sync.Mutex
	seen       map[string]bool // statements without their values
	wrong      []string
	statements []string // as sent, while keep is set
	keep       bool
	longest    int
}

var wires sync.Map // network -> *wire

// wired is a data source name whose statements are seen.
func wired(t testing.TB, dsn string) string {
	w := &wire{seen: map[string]bool{}}
	network := "wired" + strings.ToLower(rand.Text())
	wires.Store(network, w)
	mysql.RegisterDialContext(network, func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		return &wiredConn{c, w}, err
	})
	t.Cleanup(func() {
		for _, text := range w.wrong {
			t.Error(text)
		}
	})
	return strings.Replace(dsn, "@tcp(", "@"+network+"(", 1)
}

func wireOf(t *testing.T, dsn string) *wire {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	noError(t, err)
	w, ok := wires.Load(cfg.Net)
	if !ok {
		t.Fatalf("nobody sees what is sent to %s", cfg.Addr)
	}
	return w.(*wire)
}

type wiredConn struct {
	net.Conn
	wire *wire
}

func (c *wiredConn) Write(b []byte) (int, error) {
	const query, prepare = 3, 0x16
	if len(b) > 5 && (b[4] == query || b[4] == prepare) {
		c.wire.see(string(b[5:]))
	}
	return c.Conn.Write(b)
}

func (w *wire) see(statement string) {
	bare := withoutValues(statement)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, len(statement))
	if w.keep {
		w.statements = append(w.statements, statement)
	}
	if !w.seen[bare] && !strings.Contains(bare, "goose_db_version") { // goose knows MySQL 8
		w.seen[bare] = true
		if why := notForMySQL8(bare); why != "" && !slices.Contains(w.wrong, why) {
			w.wrong = append(w.wrong, why)
		}
	}
}

// during is the statements that do sends which begin with prefix, and the length of the longest of all.
func (w *wire) during(prefix string, do func()) (list []string, longest int) {
	w.mu.Lock()
	w.keep, w.statements, w.longest = true, nil, 0
	w.mu.Unlock()
	do()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep = false
	for _, s := range w.statements {
		if strings.HasPrefix(s, prefix) {
			list = append(list, s)
		}
	}
	return list, w.longest
}

// withoutValues is a statement with a mark for each value (numbers, text, NULL), one for a list of them, and one row for
// many. Statements of megabytes pass here: no regular expression.
func withoutValues(statement string) string {
	var b []byte
	mark := func() {
		if b = append(b, '?'); strings.HasSuffix(string(b[max(0, len(b)-3):]), "?,?") {
			b = b[:len(b)-2]
		}
	}
	for i := 0; i < len(statement); {
		rest := statement[i:]
		switch n := valueLen(rest); {
		case n > 0:
			i += n
			mark()
		case wordLen(rest) > 0:
			n := wordLen(rest)
			b = append(b, rest[:n]...)
			i += n
		default:
			b = append(b, rest[0])
			if i++; strings.HasSuffix(string(b[max(0, len(b)-7):]), "(?),(?)") {
				b = b[:len(b)-4]
			}
		}
	}
	return string(b)
}

// valueLen is the length of the value, or comment to the line's end, that s begins with; 0: it begins with none.
func valueLen(s string) int {
	for _, prefix := range []string{"_binary'", "X'", "'"} {
		if !strings.HasPrefix(s, prefix) {
			continue
		}
		for i := len(prefix); i < len(s); i++ {
			switch {
			case s[i] == '\\' || s[i] == '\'' && i+1 < len(s) && s[i+1] == '\'':
				i++
			case s[i] == '\'':
				return i + 1
			}
		}
		return len(s)
	}
	if strings.HasPrefix(s, "--") {
		return len(s) - len(strings.TrimLeftFunc(s, func(r rune) bool { return r != '\n' }))
	}
	if n := wordLen(s); n == 4 && s[:n] == "NULL" {
		return n
	}
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}

// wordLen is the length of the word, or of the name in backticks, that s begins with.
func wordLen(s string) int {
	if s[0] == '`' {
		return 2 + strings.IndexByte(s[1:], '`')
	}
	is := func(c byte, digits bool) bool {
		return c == '_' || c == '@' || c|0x20 >= 'a' && c|0x20 <= 'z' || digits && (c >= '0' && c <= '9' || c == '$')
	}
	n := 0
	for n < len(s) && is(s[n], n > 0) {
		n++
	}
	return n
}
