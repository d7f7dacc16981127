package style

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "sluice"

// file is one Go file as the rules see it.
type file struct {
	path string // from the root of the module, with slashes
	pkg  string // import path
	test bool   // a _test.go file, or one of a suite package such as stocktest
	src  []byte
	fset *token.FileSet
	ast  *ast.File
}

// report takes one offence at pos; token.NoPos stands for the whole file.
type report func(pos token.Pos, format string, args ...any)

// rules are the rules over one file. Those over a whole package are in TestPackages.
var rules = []struct {
	name  string
	check func(*file, report)
}{
	{"size", checkSize},
	{"parameters", checkParameters},
	{"names", checkNames},
	{"documentation", checkDocumentation},
	{"imports", checkImports},
	{"initialisation", checkInit},
	{"calls", checkCalls},
	{"panics", checkPanics},
	{"comments", checkComments},
	{"words", checkWords},
}

// TestFiles holds every file to every rule.
func TestFiles(t *testing.T) {
	t.Parallel()
	files := goFiles(t)
	if len(files) < 10 {
		t.Fatalf("only %d Go files found: the walk is wrong", len(files))
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			for _, f := range files {
				for _, offence := range offences(f, rule.check) {
					t.Error(offence)
				}
			}
		})
	}
}

// TestPackages holds packages to what one file alone cannot show.
func TestPackages(t *testing.T) {
	t.Parallel()
	packages := map[string][]*file{}
	for _, f := range goFiles(t) {
		if !strings.HasSuffix(f.path, "_test.go") {
			packages[f.pkg] = append(packages[f.pkg], f)
		}
	}
	for pkg, files := range packages {
		for _, offence := range checkPackage(files) {
			t.Errorf("package %s: %s", pkg, offence)
		}
	}
}

// checkPackage: a doc comment in one file, and it names the goroutines if the package starts any.
func checkPackage(files []*file) (offences []string) {
	var doc strings.Builder
	starts := ""
	for _, f := range files {
		if f.ast.Doc != nil {
			doc.WriteString(f.ast.Doc.Text())
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok || isCall(n, "Go") {
				starts = fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
			}
			return true
		})
	}
	switch {
	case doc.Len() == 0:
		offences = append(offences, "has no doc comment")
	case starts != "" && !strings.Contains(strings.ToLower(doc.String()), "goroutine"):
		offences = append(offences, "starts a goroutine ("+starts+") that its doc comment does not tell of")
	}
	return offences
}

func offences(f *file, check func(*file, report)) (list []string) {
	check(f, func(pos token.Pos, format string, args ...any) {
		at := f.path
		if pos.IsValid() {
			at = fmt.Sprintf("%s:%d", f.path, f.fset.Position(pos).Line)
		}
		list = append(list, at+": "+fmt.Sprintf(format, args...))
	})
	return list
}

// goFiles reads every Go file of the module that is not generated.
func goFiles(t *testing.T) []*file {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var files []*file
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if skipped(rel, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil || generated(src) {
			return err
		}
		f, err := parse(rel, src)
		files = append(files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// skipped: what is not ours, or not part of the product's module.
func skipped(rel, name string) bool {
	return slices.Contains([]string{"data", "bin", "tools", "docs"}, rel) ||
		name == "testdata" || name == "node_modules" || (strings.HasPrefix(name, ".") && name != ".")
}

func generated(src []byte) bool {
	head, _, _ := bytes.Cut(src, []byte("\npackage "))
	for line := range bytes.Lines(head) {
		if bytes.HasPrefix(line, []byte("// Code generated ")) && bytes.HasSuffix(bytes.TrimSpace(line), []byte("DO NOT EDIT.")) {
			return true
		}
	}
	return false
}

func parse(rel string, src []byte) (*file, error) {
	f := &file{path: rel, pkg: path.Join(module, path.Dir(rel)), src: src, fset: token.NewFileSet()}
	f.test = strings.HasSuffix(rel, "_test.go") || strings.HasSuffix(path.Dir(rel), "test")
	var err error
	f.ast, err = parser.ParseFile(f.fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}
