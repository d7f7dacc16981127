package style

import (
	"bytes"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const (
	fileLinesMax     = 400
	testLinesMax     = 600
	functionLinesMax = 70
	parametersMax    = 4
)

// checkSize: files and functions that a person can hold in mind. A test may bring its table: the lines of a literal count
// as one there.
func checkSize(f *file, report report) {
	most := fileLinesMax
	if strings.HasSuffix(f.path, "_test.go") {
		most = testLinesMax
	}
	if n := bytes.Count(f.src, []byte("\n")); n > most {
		report(token.NoPos, "%d lines, at most %d", n, most)
	}
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := f.lines(fn) - f.tableLines(fn); n > functionLinesMax {
			report(fn.Pos(), "%s has %d lines, at most %d", fn.Name.Name, n, functionLinesMax)
		}
	}
}

func (f *file) lines(n ast.Node) int {
	return f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1
}

// tableLines are the lines beyond the first of a test function's outermost literals.
func (f *file) tableLines(fn *ast.FuncDecl) (lines int) {
	if !f.test {
		return 0
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		table, ok := n.(*ast.CompositeLit)
		if ok {
			lines += f.lines(table) - 1
		}
		return !ok
	})
	return lines
}

// checkParameters: an exported function with more than four parameters wants Options. A context does not count, nor does
// the slice that an Append function is all about; New(Options, dependencies...) may have as many as it needs.
func checkParameters(f *file, report report) {
	count := func(name string, fn *ast.FuncType) {
		n := 0
		for i, p := range fn.Params.List {
			if s, ok := p.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Context" {
				continue
			}
			if s, ok := p.Type.(*ast.Ident); ok && s.Name == "Options" && i == 0 && name == "New" {
				return
			}
			n += max(1, len(p.Names))
		}
		if strings.HasPrefix(name, "Append") {
			n--
		}
		if n > parametersMax {
			report(fn.Pos(), "%s has %d parameters, at most %d", name, n, parametersMax)
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.IsExported() && !f.test {
				count(n.Name.Name, n.Type)
			}
		case *ast.InterfaceType:
			for _, m := range n.Methods.List {
				if fn, ok := m.Type.(*ast.FuncType); ok && len(m.Names) == 1 && m.Names[0].IsExported() {
					count(m.Names[0].Name, fn)
				}
			}
		}
		return true
	})
}

// layers are names that say where a thing stands and not what it is.
var layers = []string{"util", "utils", "common", "base", "helper", "helpers", "manager", "service", "impl", "model", "models", "dto"}

// checkNames: packages, files and the last word of types.
func checkNames(f *file, report report) {
	names := append(strings.Split(path.Dir(f.path), "/"), f.ast.Name.Name, strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test"))
	for _, name := range names {
		if slices.Contains(layers, name) {
			report(f.ast.Name.Pos(), "%q names a layer, not a thing", name)
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && slices.Contains(layers, lastWord(spec.Name.Name)) {
			report(spec.Pos(), "type %s names a layer, not a thing", spec.Name.Name)
		}
		return true
	})
}

// lastWord is the last word of a camel-case name, in lower case.
func lastWord(name string) string {
	from := strings.LastIndexFunc(name, unicode.IsUpper)
	return strings.ToLower(name[max(0, from):])
}

// checkDocumentation: every export has a comment. Error and Unwrap say nothing that their interface does not.
func checkDocumentation(f *file, report report) {
	if f.ast.Name.Name == "main" || strings.HasSuffix(f.path, "_test.go") {
		return
	}
	for _, decl := range f.ast.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && ofExported(d) && d.Name.Name != "Error" && d.Name.Name != "Unwrap" {
				report(d.Pos(), "%s has no comment", d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				checkSpec(d, spec, report)
			}
		}
	}
}

func checkSpec(d *ast.GenDecl, spec ast.Spec, report report) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && s.Comment == nil && (d.Doc == nil || d.Lparen.IsValid()) {
			report(s.Pos(), "type %s has no comment", s.Name.Name)
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				report(name.Pos(), "%s has no comment", name.Name)
			}
		}
	}
}

// ofExported tells whether a function is no method, or a method of an exported type.
func ofExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}

// initAllowed are the packages that may run code before main: crash reads its point from the environment.
var initAllowed = []string{"sluice/internal/crash"}

// blankAllowed are the imports for their effect alone. None of them is ours: there is no registry.
var blankAllowed = []string{"embed", "github.com/go-sql-driver/mysql", "modernc.org/sqlite"}

func checkInit(f *file, report report) {
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if ok && fn.Recv == nil && fn.Name.Name == "init" && !slices.Contains(initAllowed, f.pkg) {
			report(fn.Pos(), "init: nothing registers itself here, cmd/sluice builds what runs")
		}
	}
	for _, spec := range f.ast.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		if spec.Name != nil && spec.Name.Name == "_" && !slices.Contains(blankAllowed, imported) {
			report(spec.Pos(), "blank import of %s", imported)
		}
	}
}

// slowPeers are test files in which somebody is slow on purpose: a server that stalls, a publisher within its deadline.
var slowPeers = []string{"bench/load/run_test.go", "engine/engine_test.go", "gateway/hub_test.go"}

// checkCalls: tests await and drivers leave waiting to others; only main exits.
func checkCalls(f *file, report report) {
	// In a loop, a condition is looked at again and again. Inside a call of synctest.Test the clock is fake, and sleeping
	// is how time passes.
	var waiting []ast.Node
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if _, loop := n.(*ast.ForStmt); loop && f.test || isCall(n, "synctest.Test") {
			waiting = append(waiting, n)
		}
		if isCall(n, "time.Sleep") && (f.test || isDriver(f.pkg)) && !slices.Contains(slowPeers, f.path) &&
			!slices.ContainsFunc(waiting, func(w ast.Node) bool { return n.Pos() > w.Pos() && n.End() <= w.End() }) {
			report(n.Pos(), "time.Sleep: await the condition")
		}
		if f.ast.Name.Name != "main" && !f.test && (isCall(n, "os.Exit") || isCall(n, "log.Fatal") || isCall(n, "log.Fatalf")) {
			report(n.Pos(), "only main exits")
		}
		return true
	})
}

// isCall tells whether n calls name, which is "package.Function" or the name of a method or function.
func isCall(n ast.Node, name string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	qualifier, function, qualified := strings.Cut(name, ".")
	if !qualified {
		return sel.Sel.Name == name
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == qualifier && sel.Sel.Name == function
}

// checkPanics: a panic is for the impossible and says so. Passing on a recovered value is not judged.
func checkPanics(f *file, report report) {
	if f.test {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		if fn, ok := call.Fun.(*ast.Ident); ok && fn.Name == "panic" {
			if text, ok := firstText(call.Args[0]); ok && !strings.HasPrefix(text, "BUG: ") {
				report(n.Pos(), `panic(%q...): begin with "BUG: " or return an error`, text)
			}
		}
		return true
	})
}

// firstText is the literal that an expression of text begins with.
func firstText(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		return firstText(e.X)
	case *ast.CallExpr:
		if len(e.Args) > 0 {
			return firstText(e.Args[0])
		}
	}
	return "", false
}

var (
	todo  = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	owned = regexp.MustCompile(`\bTODO\([a-z][a-z0-9-]*\): `)
)

// checkComments: what is left to do has an owner.
func checkComments(f *file, report report) {
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if todo.MatchString(c.Text) && !owned.MatchString(c.Text) && f.pkg != "sluice/internal/style" {
				report(c.Pos(), "left to do, but by whom? Write TODO(owner): what")
			}
		}
	}
}

// outside are words without a place here: names of folders that a reader of this repository does not have, and a
// statement that hides truncation and CHECK.
var outside = []string{"/home/", "/Users/", "INSERT IGNORE"}

func checkWords(f *file, report report) {
	if f.pkg == "sluice/internal/style" {
		return
	}
	for _, word := range outside {
		if i := bytes.Index(f.src, []byte(word)); i >= 0 {
			report(f.fset.File(f.ast.Pos()).Pos(i), "%q has no place here", word)
		}
	}
}
