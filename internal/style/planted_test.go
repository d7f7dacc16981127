package style

import (
	"strings"
	"testing"
)

// TestPlanted shows that each rule finds the offence it is there for, and leaves the innocent neighbour alone.
func TestPlanted(t *testing.T) {
	t.Parallel()
	long := "func long() {\n" + strings.Repeat("\t_ = 1\n", functionLinesMax) + "}"
	tests := []struct {
		name  string
		check func(*file, report)
		path  string
		src   string
		want  string // part of the one offence; empty: none
	}{
		{"long file", checkSize, "engine/a.go", strings.Repeat("\n", fileLinesMax+1), "402 lines"},
		{"long function", checkSize, "engine/a.go", long, "long has 72 lines"},
		{"long table", checkSize, "engine/a_test.go", "func TestA() {\n\t_ = []int{\n" + strings.Repeat("\t\t1,\n", functionLinesMax) + "\t}\n}", ""},
		{"long table outside of tests", checkSize, "engine/a.go", "func a() {\n\t_ = []int{\n" + strings.Repeat("\t\t1,\n", functionLinesMax) + "\t}\n}", "a has 74"},
		{"long test file", checkSize, "engine/a_test.go", strings.Repeat("\n", testLinesMax+1), "602 lines"},
		{"short function", checkSize, "engine/a.go", "func short() {}", ""},
		{"five parameters", checkParameters, "engine/a.go", "func F(a, b, c, d, e int) {}", "F has 5"},
		{"four and a context", checkParameters, "engine/a.go", "func F(ctx context.Context, a, b, c, d int) {}", ""},
		{"constructor", checkParameters, "engine/a.go", "func New(o Options, a, b, c, d, e int) {}", ""},
		{"append", checkParameters, "engine/a.go", "func AppendF(dst []byte, a, b, c, d int) {}", ""},
		{"append too much", checkParameters, "engine/a.go", "func AppendF(dst []byte, a, b, c, d, e int) {}", "AppendF has 5"},
		{"five, unexported", checkParameters, "engine/a.go", "func f(a, b, c, d, e int) {}", ""},
		{"five in an interface", checkParameters, "engine/a.go", "type i interface { F(a, b, c, d, e int) }", "F has 5"},
		{"package", checkNames, "engine/util/a.go", "", `"util"`},
		{"file", checkNames, "engine/helpers_test.go", "", `"helpers"`},
		{"type", checkNames, "engine/a.go", "type orderManager int", "orderManager"},
		{"type of one word", checkNames, "engine/a.go", "type Model int", "Model"},
		{"harmless type", checkNames, "engine/a.go", "type managerless int\ntype database int", ""},
		{"bare function", checkDocumentation, "engine/a.go", "func F() {}", "F has no comment"},
		{"bare method", checkDocumentation, "engine/a.go", "func (t *T) F() {}", "F has no comment"},
		{"method nobody sees", checkDocumentation, "engine/a.go", "func (t *tt) F() {}", ""},
		{"bare type", checkDocumentation, "engine/a.go", "type T int", "type T"},
		{"bare type in a group", checkDocumentation, "engine/a.go", "// Ids.\ntype (\n\tT int\n)", "type T"},
		{"bare constant", checkDocumentation, "engine/a.go", "const C = 1", "C has no comment"},
		{"group with a comment", checkDocumentation, "engine/a.go", "// Both.\nconst (\n\tC = 1\n\tD = 2\n)", ""},
		{"init", checkInit, "engine/a.go", "func init() {}", "init"},
		{"blank import of ours", checkInit, "cmd/sluice/a.go", `import _ "sluice/engine/stock/memstock"`, "blank import"},
		{"blank import of embed", checkInit, "lua/a.go", `import _ "embed"`, ""},
		{"sleep in a test", checkCalls, "engine/a_test.go", "func f() { time.Sleep(1) }", "time.Sleep"},
		{"sleep in a suite", checkCalls, "engine/stock/stocktest/a.go", "func f() { time.Sleep(1) }", "time.Sleep"},
		{"sleep in a driver", checkCalls, "engine/stock/memstock/a.go", "func f() { time.Sleep(1) }", "time.Sleep"},
		{"sleep on a fake clock", checkCalls, "engine/a_test.go", "func f() { synctest.Test(t, func() { time.Sleep(1) }) }", ""},
		{"sleep beside a fake clock", checkCalls, "engine/a_test.go", "func f() { synctest.Test(t, g); time.Sleep(1) }", "time.Sleep"},
		{"sleep in a loop that awaits", checkCalls, "engine/a_test.go", "func f() { for !done() { time.Sleep(1) } }", ""},
		{"driver in a loop", checkCalls, "engine/stock/memstock/a.go", "func f() { for !done() { time.Sleep(1) } }", "time.Sleep"},
		{"exit", checkCalls, "engine/a.go", "func f() { os.Exit(1) }", "only main"},
		{"panic without BUG", checkPanics, "engine/a.go", `func f() { panic("oops: " + x) }`, "oops"},
		{"formatted panic without BUG", checkPanics, "engine/a.go", `func f() { panic(fmt.Sprintf("oops %d", x)) }`, "oops"},
		{"panic with BUG", checkPanics, "engine/a.go", `func f() { panic("BUG: oops") }`, ""},
		{"panic passed on", checkPanics, "engine/a.go", `func f() { panic(recover()) }`, ""},
		{"nobody's task", checkComments, "engine/a.go", "// TODO: later\nfunc f() {}", "by whom"},
		{"somebody's task", checkComments, "engine/a.go", "// TODO(mei): later\nfunc f() {}", ""},
		{"outside place", checkWords, "engine/a.go", "// see /home/me/notes\nfunc f() {}", "no place"},
	}
	for _, test := range tests {
		f, err := parse(test.path, []byte("package p\n"+test.src))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		got := offences(f, test.check)
		if test.want == "" && len(got) > 0 {
			t.Errorf("%s: %q, want none", test.name, got)
		}
		if test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
			t.Errorf("%s: %q, want one with %q", test.name, got, test.want)
		}
	}
}

// TestPlantedImports: one wrong and one right import per rule.
func TestPlantedImports(t *testing.T) {
	t.Parallel()
	tests := []struct {
		path, imported string
		ok             bool
	}{
		{"engine/order/a.go", "encoding/binary", true},
		{"engine/order/a.go", "github.com/google/go-cmp/cmp", false},
		{"engine/order/a_test.go", "github.com/google/go-cmp/cmp", true},
		{"engine/order/a.go", "sluice/lua", false},
		{"engine/a.go", "sluice/persist", false},
		{"engine/a.go", "sluice/lifecycle", false},
		{"engine/a.go", "sluice/persist/store", true},
		{"engine/a.go", "sluice/engine/stock/memstock", false},
		{"engine/a_test.go", "sluice/engine/stock/memstock", true},
		{"persist/a.go", "sluice/engine", false},
		{"persist/a.go", "sluice/engine/queue", true},
		{"persist/a.go", "sluice/lifecycle", false},
		{"persist/store/a.go", "sluice/engine", false},
		{"persist/store/a.go", "sluice/persist", false},
		{"lifecycle/a.go", "sluice/engine", false},
		{"lifecycle/a.go", "sluice/persist", false},
		{"lifecycle/a.go", "sluice/persist/store", true},
		{"gateway/a.go", "sluice/engine", true},
		{"gateway/a.go", "sluice/persist", false},
		{"gateway/ops/a.go", "sluice/engine", false},
		{"gateway/client/a.go", "sluice/engine/order", false},
		{"gateway/client/a.go", "github.com/valyala/fasthttp", true},
		{"engine/stock/a.go", "database/sql", false},
		{"engine/stock/a.go", "errors", true},
		{"engine/stock/memstock/a.go", "sluice/engine/stock", true},
		{"engine/stock/memstock/a.go", "sluice/persist/store", false},
		{"engine/queue/sqlitequeue/a.go", "log/slog", false},
		{"engine/stock/stocktest/a.go", "sluice/engine/stock/memstock", true},
		{"bench/a.go", "sluice/engine/queue/sqlitequeue", false},
		{"bench/a.go", "sluice/bench/audit", true},
		{"bench/audit/a.go", "sluice/persist/store", false},
		{"bench/audit/a.go", "sluice/engine/order", true},
		{"cmd/sluice/drivers.go", "sluice/engine/stock/memstock", true},
		{"cmd/sluice/serve.go", "sluice/engine/stock/memstock", false},
		{"cmd/sluice/serve.go", "sluice/persist", true},
	}
	for _, test := range tests {
		f, err := parse(test.path, []byte("package p\nimport \""+test.imported+"\""))
		if err != nil {
			t.Fatal(err)
		}
		if got := offences(f, checkImports); (len(got) == 0) != test.ok {
			t.Errorf("%s importing %s: offences %q, want ok %v", test.path, test.imported, got, test.ok)
		}
	}
}

// TestPlantedPackages: a package without a comment, and one that hides its goroutines.
func TestPlantedPackages(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, src, want string }{
		{"no comment", "package p", "no doc comment"},
		{"hidden goroutine", "// Package p works.\npackage p\nfunc f() { go f() }", "starts a goroutine"},
		{"hidden counted goroutine", "// Package p works.\npackage p\nfunc f() { w.Go(f) }", "starts a goroutine"},
		{"told goroutine", "// Package p starts one goroutine.\npackage p\nfunc f() { go f() }", ""},
	}
	for _, test := range tests {
		f, err := parse("engine/p/a.go", []byte(test.src))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(checkPackage([]*file{f}), "; ")
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
