package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// cli runs one command in this process against a running server and returns what it printed.
func cli(t *testing.T, s *shop, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&errs)
	if s != nil {
		args = append(args, "--set", "data_dir="+s.dir, "--set", "ops.listen="+s.ops[strings.Index(s.ops, "//")+2:])
	}
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestOfferCommands(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	must := func(args ...string) string {
		t.Helper()
		out, errs, err := cli(t, s, args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, errs)
		}
		return out
	}
	out := must("offer", "create", "--sku", "phone-1", "--title", "Phone", "--kind", "flash", "--price", "99900", "--total", "100",
		"--limit", "1", "--opens", "1h")
	if !strings.Contains(out, `"state": "upcoming"`) || !strings.Contains(out, `"id": "1"`) {
		t.Errorf("create: %s", out)
	}
	if out = must("offer", "update", "1", "--title", "Phone 2", "--total", "120"); !strings.Contains(out, `"total": 120`) {
		t.Errorf("update: %s", out)
	}
	if out = must("offer", "update", "1", "--opens", "none"); strings.Contains(out, "opens_at") || !strings.Contains(out, `"state": "open"`) {
		t.Errorf("update without a window: %s", out)
	}
	if out = must("offer", "list"); !regexp.MustCompile(`(?m)^1 +flash +open +\d+ +120 +1 +99900 CNY .*Phone 2$`).MatchString(out) {
		t.Errorf("list: %s", out)
	}
	if out = must("offer", "list", "--json", "--kind", "normal"); out != "" {
		t.Errorf("list of normal offers: %s", out)
	}
	if out = must("offer", "close", "1"); !strings.Contains(out, `"state": "closed"`) {
		t.Errorf("close: %s", out)
	}
	token := strings.TrimSpace(must("token", "--user", "7"))
	placed := s.must(201, "POST", s.gateway+"/v1/orders?wait=5", token, line(s.offer("normal", 5, 0), 1))
	if out = must("order", "get", placed.field("id")); !strings.Contains(out, `"user_id": "7"`) {
		t.Errorf("order get: %s", out)
	}
	service := strings.TrimSpace(must("token", "--service"))
	s.must(200, "GET", s.gateway+"/v1/orders/"+placed.field("id"), service, "", "Sluice-User", "7")
	if out = must("audit"); !strings.Contains(out, "audit passed") || !strings.Contains(out, "fast stock + live units = total") {
		t.Errorf("audit: %s", out)
	}
}

func TestOfferImport(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	table := filepath.Join(t.TempDir(), "offers.csv")
	if err := os.WriteFile(table, []byte("sku,title,kind,unit_price,currency,total,shop_id,opens_at\n"+
		"a,A,normal,100,CNY,10,2,\nb,\"B, b\",flash,5,CNY,10,2,10s\nc,C,none,1,CNY,1,2,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, err := cli(t, s, "offer", "import", table)
	if !errors.Is(err, errSaid) || !strings.Contains(errs, "line 4: ") || !strings.Contains(errs, "kind must be") ||
		!regexp.MustCompile(`^2 offers created, 1 refused\n.* s, .* offers/s; memory of the server [1-9]\d* MiB, before [1-9]`).MatchString(out) {
		t.Errorf("import: %v\n%s%s", err, out, errs)
	}
	lines := filepath.Join(t.TempDir(), "offers.ndjson")
	if err := os.WriteFile(lines, []byte(strings.Repeat(
		`{"shop_id":"3","sku":"x","title":"X","kind":"normal","unit_price":1,"currency":"CNY","total":1}`+"\n\n", 1200)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, err = cli(t, s, "offer", "import", lines); err != nil || !strings.HasPrefix(out, "1200 offers created, 0 refused\n") {
		t.Errorf("import: %v\n%s%s", err, out, errs)
	}
	out, _, err = cli(t, s, "offer", "list", "--shop", "3", "--json")
	if err != nil || strings.Count(out, "\n") != 1200 {
		t.Errorf("list has %d lines, %v", strings.Count(out, "\n"), err)
	}
	if out, errs, err = cli(t, s, "offer", "import", lines, "--from", "2398"); err != nil || !strings.HasPrefix(out, "1 offers created, 0 refused\n") {
		t.Errorf("import of the last line: %v\n%s%s", err, out, errs)
	}
	if err := os.WriteFile(table, []byte("sku,title,kind,unit_price,currency,total,shop_id\n"+
		"a,A,normal,100,CNY,10,4\nb,\"B\n2\",normal,5,CNY,10,4\nc,C,normal,1.5,CNY,1,4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, err = cli(t, s, "offer", "import", table, "--from", "3")
	if !errors.Is(err, errSaid) || !strings.Contains(errs, "line 5: unit_price must be a whole number of minor units") ||
		!strings.HasPrefix(out, "1 offers created, 1 refused\n") {
		t.Errorf("import of a table with a bad number: %v\n%s%s", err, out, errs)
	}
}

// TestOfferImportMistakes: bad rows of a table fail alone; a table that cannot be read says where, and what was done.
func TestOfferImportMistakes(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	const names, good = "sku,title,kind,unit_price,currency,total,shop_id\n", "a,A,normal,100,CNY,10,9\n"
	table := filepath.Join(t.TempDir(), "offers.csv")
	imported := func(content string, args ...string) (string, string, error) {
		if err := os.WriteFile(table, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return cli(t, s, append([]string{"offer", "import", table}, args...)...)
	}
	out, errs, err := imported("\ufeff" + names + good + "b,B\n" + good + "c,C,normal,x,CNY,1,9\n" + "d,D,normal,1,CNY,1,9,more\n" + good)
	if !errors.Is(err, errSaid) || !strings.HasPrefix(out, "3 offers created, 3 refused\n") ||
		!strings.Contains(errs, "line 3: it has 2 cells, the first row names 7 fields") || !strings.Contains(errs, "line 5: unit_price") ||
		!strings.Contains(errs, "line 6: it has 8 cells") {
		t.Errorf("bad rows: %v\n%s%s", err, out, errs)
	}
	if _, _, err = imported(names + good + good + "c,\"C,normal,1,CNY,1,9\n" + good); err == nil || !strings.Contains(err.Error(), "line 4 cannot be read") ||
		!strings.Contains(err.Error(), "2 offers created, 0 refused. Repair it, then go on with --from 4") {
		t.Errorf("a quote without its end: %v", err)
	}
	for content, want := range map[string]string{
		"":                                  "the file is empty; its first row must name the fields",
		"sku,titel\na,b\n":                  `the first row names "titel", which is no field of an offer; they are shop_id`,
		"sku,sku\na,b\n":                    "names sku twice",
		"{\"sku\":\"a\",\"title\":\"b\"}\n": "the first row",
	} {
		if _, _, err := imported(content); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", content, err)
		}
	}
	if out, _, err = imported(good+strings.Repeat("x", 70_000)+"\n", "--format", "ndjson"); err == nil ||
		!strings.Contains(err.Error(), "line 2 cannot be read: it is longer than 65536 bytes") || !strings.Contains(err.Error(), "--from 2") {
		t.Errorf("a long line: %v\n%s", err, out)
	}
	if out, _, err = cli(t, s, "offer", "list", "--shop", "9", "--json"); err != nil || strings.Count(out, "\n") != 5 {
		t.Errorf("list has %d lines, %v", strings.Count(out, "\n"), err)
	}
}

// TestCommandMistakes is what people get wrong on the command line, and the words that must help them.
func TestCommandMistakes(t *testing.T) {
	t.Parallel()
	empty, other := "data_dir="+t.TempDir(), "data_dir="+t.TempDir()
	running, _ := open(t, t.TempDir())
	for _, c := range []struct {
		server *shop
		args   string
		want   string
	}{
		{nil, "token --user 7 --set " + empty, "start `sluice serve` once, which generates them"},
		{nil, "token", "either --user ID, for a buyer, or --service"},
		{nil, "offer list --set " + empty, "no secrets yet"},
		{nil, "serve --set gateway.lisen=1", "did you mean gateway.listen?"},
		{nil, "serve --role persist", "cannot share stock.driver memstock"},
		{nil, "serve --demo --kinds flash", "leave --kinds and engine.kinds out"},
		{nil, "serve --kinds flsh", "must be normal or flash"},
		{nil, "serve extra", "`sluice serve` takes flags only, not \"extra\": sluice serve [flags]"},
		{nil, "serve --nope", "`sluice serve --help` lists the flags"},
		{nil, "serv", `unknown command "sluice serv": did you mean serve?`},
		{nil, "frobnicate", "`sluice --help` lists the commands"},
		{nil, "offer clsoe 3", `unknown command "sluice offer clsoe": did you mean close?`},
		{nil, "parked show 1", "`sluice parked show` has 1 arguments, not the 2 that it needs: sluice parked show BATCH ORDER"},
		{nil, "token --user 7 --service", "either --user ID, for a buyer, or --service"},
		{nil, "serve --set gateway.listen=0.0.0.0:0 --set " + empty, "which other machines can reach: set SLUICE_JWT_SECRET"},
		{nil, "serve --set store.dialect=oracle", "store.dialect must be sqlite or mysql"},
		{nil, "check --set store.dialect=mysql", "is not a MySQL data source name"},
		{nil, "check --set store.dialect=mysql --set store.shards=u:p@tcp(h)/d", "entry 0 holds a password"},
		{nil, "check --set store.dialect=mysql --set store.shards=u@tcp(h)/", "entry 0 names no database"},
		{nil, "check --set gateway.public_keys_file=/nowhere", "gateway.public_keys_file /nowhere: open"},
		{nil, "serve --set gateway.public_keys_file=cli_test.go --set gateway.listen=127.0.0.1:0 --set ops.listen=127.0.0.1:0 --set " + other,
			"neither a JWKS nor public keys in PEM"},
		{nil, "check --set gateway.limits.user.rate=1e9", "--set: gateway.limits.user.rate must be 0 (no limit), or 0.001 to 10000000 a second"},
		{nil, "check --set gateway.trusted_proxies=10.0.0.1", "gateway.trusted_proxies entry 0 must be a valid prefix"},
		{nil, "check --set store.shards=a.db,a.db", "names one shard twice"},
		{nil, "check --set store.shards=", "store.shards must name at least one shard"},
		{nil, "check --set store.virtual_shards=1,2", "must be empty or have 256 entries"},
		{nil, "check --set stock.driver=memory", "stock.driver must be memstock or redisstock"},
		{nil, "check --set stock.driver=redisstock", "stock.redisstock.addrs must name at least one server"},
		{nil, "check --set queue.driver=kafka", "queue.driver must be sqlitequeue"},
		{nil, "check --set engine.in_flight=2", "engine.in_flight must be 1 with memstock"},
		{nil, "bench nothing", "unknown scenario"},
		{nil, "audit --set " + empty, "Name the right one with -c or --set data_dir=DIR"},
		{running, "token --user 0", "--user must be a positive number"},
		{running, "token --user 7 --ttl -1s", "--ttl must be positive"},
		{running, "offer update 1", "nothing to change"},
		{running, "offer update 99 --total 5", "offer_not_found"},
		{running, "offer create --sku x", "title is required"},
		{running, "offer create --price 1.5", "--price must be a whole number of minor units (cents, fen), not"},
		{running, "offer create --opens tomorrow", "--opens must be a time such as"},
		{running, "offer import offers.txt", "offers.txt"},
		{running, "order get 5", "order_not_found"},
		{running, "deadletter show 5", "ids are PARTITION-POSITION"},
		{running, "offer list --kind fash", "kind must be normal or flash"},
		{running, "audit -o xml", "-o must be text or json"},
	} {
		_, _, err := cli(t, c.server, strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("sluice %s:\n got %v\nwant %s", c.args, err, c.want)
		}
	}
	if _, _, err := cli(t, nil, "offer", "list", "--set", other, "--set", "ops.listen="+strings.TrimPrefix(running.ops, "http://")); err == nil ||
		!strings.Contains(err.Error(), "does not take the ops token of data directory "+strings.TrimPrefix(other, "data_dir=")) {
		t.Errorf("with the token of another server: %v", err)
	}
	gone := &shop{dir: running.dir, ops: "http://127.0.0.1:1"}
	if _, _, err := cli(t, gone, "offer", "list"); err == nil || !strings.Contains(err.Error(), "no server answers on the ops listener") {
		t.Errorf("without a server: %v", err)
	}
}

// TestHealth: a server that is ready, one that still waits for something, none, and another program.
func TestHealth(t *testing.T) {
	t.Parallel()
	s, stop := open(t, t.TempDir())
	if out, _, err := cli(t, s, "health"); err != nil || out != "ready\n" {
		t.Errorf("ready: %q, %v", out, err)
	}
	stop()
	if out, _, err := cli(t, s, "health"); err == nil {
		t.Errorf("stopped: %q", out)
	}
	answer := func(status int, body string) error {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		defer other.Close()
		_, _, err := cli(t, &shop{dir: s.dir, ops: other.URL}, "health")
		return err
	}
	if err := answer(503, `{"status":"not_ready","missing":["a","b"]}`); err == nil || err.Error() != "not_ready: a; b" {
		t.Errorf("not ready: %v", err)
	}
	if err := answer(200, "hello"); err == nil || !strings.Contains(err.Error(), "is no ops listener of Sluice") {
		t.Errorf("another program: %v", err)
	}
}

func TestConfigCommands(t *testing.T) {
	t.Parallel()
	out, _, err := cli(t, nil, "config", "--default")
	if err != nil || !strings.HasPrefix(out, "# Sluice, the embedded default") {
		t.Errorf("config --default: %v\n%s", err, out)
	}
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err = cli(t, nil, "check", "-c", file); err != nil || !strings.HasPrefix(out, "ok: ") {
		t.Errorf("check of the printed default: %v\n%s", err, out)
	}
	if out, _, err = cli(t, nil, "config", "--set", "engine.deadline=3s"); err != nil || !strings.Contains(out, "deadline: 3s") {
		t.Errorf("config: %v\n%s", err, out)
	}
	if out, _, err = cli(t, nil, "version"); err != nil || !strings.HasPrefix(out, "sluice ") {
		t.Errorf("version: %v\n%s", err, out)
	}
}

// TestDemo: what the demo prints can be pasted, and is not lost behind the log; and a second start does not fill the shop up.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for start := 1; start <= 2; start++ {
		p := spawn(t, dir, "--demo")
		p.says("the flash sale, which opens in")
		text := p.errors.String()
		token := regexp.MustCompile(`TOKEN=(\S+)`).FindStringSubmatch(text)
		body := regexp.MustCompile(`-d '([^']+)'`).FindStringSubmatch(text)
		if link := fmt.Sprintf("\n  %s/#token=%s\n", p.ops, p.secrets.OpsToken); !strings.Contains(text, link) {
			t.Errorf("no link to the console %s:\n%s", link, text)
		}
		if log, _, _ := strings.Cut(text, "\nThe console"); strings.Count(log, "\n") > 3 {
			t.Errorf("a person has to look for the link behind all this:\n%s", log)
		}
		if token == nil || body == nil {
			t.Fatalf("nothing to paste:\n%s", text)
		}
		placed := p.must(201, "POST", p.gateway+"/v1/orders?wait=5", token[1], body[1])
		p.must(200, "GET", p.gateway+"/v1/orders/"+placed.field("id"), token[1], "")
		list := p.must(200, "GET", p.ops+"/ops/offers", p.secrets.OpsToken, "")
		if got := bytes.Count(list.body, []byte(`"id":`)); got != 3+start {
			t.Errorf("start %d: %d offers, want %d", start, got, 3+start)
		}
		if code := p.end(os.Interrupt); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.errors.String())
		}
	}
}

// TestStartIsInterrupted: a signal during the start ends it, and what was opened is closed.
func TestStartIsInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, d := config(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := NewServer(c, d, nil, quiet)
	if err := s.Start(ctx); err == nil {
		t.Error("started although it was stopped")
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	_, stop := open(t, dir)
	stop()
}
