package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
)

// tree is a YAML document. at follows keys, or numbers in lists; it ends the test where there is nothing.
type tree struct {
	t    *testing.T
	name string
	node any
}

func (y tree) at(path ...any) tree {
	y.t.Helper()
	for _, key := range path {
		var next any
		switch k := key.(type) {
		case string:
			m, _ := y.node.(map[string]any)
			next = m[k]
		case int:
			if list, _ := y.node.([]any); k < len(list) {
				next = list[k]
			}
		}
		if next == nil {
			y.t.Fatalf("%s has no %v", y.name, key)
		}
		y = tree{y.t, fmt.Sprintf("%s %v", y.name, key), next}
	}
	return y
}

func (y tree) text() string { return fmt.Sprint(y.node) }

func (y tree) keys() []string {
	m, _ := y.node.(map[string]any)
	list := []string{}
	for key := range m {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}

func (y tree) list() (list []tree) {
	nodes, _ := y.node.([]any)
	for i := range nodes {
		list = append(list, y.at(i))
	}
	return list
}

func (y tree) duration() time.Duration {
	d, err := time.ParseDuration(y.text())
	if err != nil {
		y.t.Errorf("%s: %v", y.name, err)
	}
	return d
}

func deployFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../deploy", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// documents are those of a YAML file of deploy.
func documents(t *testing.T, path string) (list []tree) {
	t.Helper()
	for i, text := range strings.Split(deployFile(t, path), "\n---\n") {
		m, err := yaml.Parser().Unmarshal([]byte(text))
		if err != nil {
			t.Fatalf("%s, document %d: %v", path, i, err)
		}
		list = append(list, tree{t, path, m})
	}
	return list
}
