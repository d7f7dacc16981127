package style

import (
	"slices"
	"strconv"
	"strings"
)

var (
	seams   = []string{"sluice/engine/stock", "sluice/engine/queue", "sluice/internal/leader", "sluice/lifecycle/feed"}
	drivers = []string{
		"sluice/engine/stock/memstock", "sluice/engine/stock/redisstock",
		"sluice/engine/queue/sqlitequeue", "sluice/engine/queue/rocketqueue",
		"sluice/internal/leader/redisleader",
	}
)

const driversFile = "cmd/sluice/drivers.go"

func isDriver(pkg string) bool { return slices.Contains(drivers, pkg) }

// checkImports: orders flow gateway, engine, persist, lifecycle; the stages meet in the queue and the store.
func checkImports(f *file, report report) {
	for _, spec := range f.ast.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if why := importFault(f, imported); why != "" {
			report(spec.Pos(), "imports %s: %s", imported, why)
		}
	}
}

func importFault(f *file, imported string) string {
	if f.test {
		return ""
	}
	ours := imported == module || strings.HasPrefix(imported, module+"/")
	if isDriver(imported) && f.path != driversFile {
		return "only " + driversFile + " and tests import drivers"
	}
	if ours && !allowed(f.pkg, imported) {
		return "against the direction in which orders flow"
	}
	switch {
	case f.pkg == "sluice/engine/order" && !standard(imported):
		return "the vocabulary imports the standard library only"
	case f.pkg == "sluice/gateway/client" && !standard(imported) && imported != "github.com/valyala/fasthttp":
		return "the client imports the standard library and fasthttp only"
	case slices.Contains(seams, f.pkg) && !ours && (!standard(imported) || slices.Contains([]string{"os", "net", "net/http", "database/sql"}, imported)):
		return "a seam does no I/O"
	case isDriver(f.pkg) && (imported == "log" || imported == "log/slog"):
		return "drivers never log"
	}
	return ""
}

// standard tells an import of the standard library: the first element of its path has no dot and is not ours.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return first != module && !strings.Contains(first, ".")
}

// directions says which of our packages a package may import. The longest matching path counts; "..." stands for
// everything below. What is not listed may import anything that the other rules leave.
var directions = []struct {
	pkg string
	may []string
}{
	{"sluice/engine/order", nil},
	{"sluice/lua", nil},
	{"sluice/internal/...", nil},
	{"sluice/internal/leader/...", []string{"sluice/internal/leader"}},
	{"sluice/engine/stock", []string{"sluice/engine/order"}},
	{"sluice/engine/queue", []string{"sluice/engine/order"}},
	{"sluice/engine/stock/...", []string{"sluice/engine/order", "sluice/engine/stock", "sluice/internal/...", "sluice/lua"}},
	{"sluice/engine/queue/...", []string{"sluice/engine/order", "sluice/engine/queue", "sluice/internal/..."}},
	{"sluice/engine", []string{"sluice/engine/order", "sluice/engine/stock", "sluice/engine/queue", "sluice/persist/store", "sluice/internal/..."}},
	{"sluice/persist", []string{"sluice/engine/order", "sluice/engine/stock", "sluice/engine/queue", "sluice/persist/store", "sluice/internal/..."}},
	{"sluice/persist/store/...", []string{"sluice/engine/order", "sluice/engine/stock", "sluice/engine/queue", "sluice/persist/store/...", "sluice/internal/..."}},
	{"sluice/persist/store", []string{"sluice/engine/order", "sluice/engine/stock", "sluice/engine/queue", "sluice/persist/store/...", "sluice/internal/..."}},
	{"sluice/lifecycle", []string{"sluice/engine/order", "sluice/persist/store", "sluice/lifecycle/...", "sluice/internal/..."}},
	{"sluice/lifecycle/feed", []string{"sluice/engine/order"}},
	{"sluice/lifecycle/feed/...", []string{"sluice/engine/order", "sluice/lifecycle/feed", "sluice/internal/..."}},
	{"sluice/lifecycle/feed/feedtest", []string{"sluice/engine/order", "sluice/lifecycle", "sluice/lifecycle/feed", "sluice/persist/store"}},
	{"sluice/lifecycle/...", []string{"sluice/engine/order", "sluice/persist/store", "sluice/lifecycle/...", "sluice/internal/..."}},
	{"sluice/gateway/limit", []string{"sluice/engine/order", "sluice/internal/..."}},
	{"sluice/gateway/client", nil},
	{"sluice/gateway", []string{
		"sluice/engine", "sluice/engine/...", "sluice/lifecycle", "sluice/lifecycle/...", "sluice/persist/store",
		"sluice/gateway/...", "sluice/internal/...",
	}},
	{"sluice/gateway/ops", []string{
		"sluice/engine/order", "sluice/engine/stock", "sluice/engine/queue", "sluice/persist/store", "sluice/gateway/...", "sluice/internal/...",
	}},
	{"sluice/bench/audit", []string{"sluice/engine/order", "sluice/internal/..."}},
	// The naive server is what stands behind a gateway in the place of the engine.
	{"sluice/bench/naive", []string{"sluice/engine", "sluice/engine/order", "sluice/gateway", "sluice/lifecycle", "sluice/persist/store"}},
	{"sluice/bench", []string{"sluice/engine/order", "sluice/bench/...", "sluice/gateway/client", "sluice/configs", "sluice/internal/..."}},
	{"sluice/bench/...", []string{"sluice/engine/order", "sluice/bench/...", "sluice/gateway/client", "sluice/configs", "sluice/internal/..."}},
}

// allowed judges an import of one of our packages by another.
func allowed(pkg, imported string) bool {
	best, may := -1, []string(nil)
	for _, d := range directions {
		if covers(d.pkg, pkg) && len(d.pkg) > best {
			best, may = len(d.pkg), d.may
		}
	}
	return best < 0 || slices.ContainsFunc(may, func(pattern string) bool { return covers(pattern, imported) })
}

// covers tells whether a pattern, a path or everything below one, names pkg.
func covers(pattern, pkg string) bool {
	if below, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(pkg, below)
	}
	return pattern == pkg
}
