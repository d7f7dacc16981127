package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/knadh/koanf/parsers/yaml"
	dto "github.com/prometheus/client_model/go"
)

// TestDashboards: the dashboard and the alert rules ask only for metrics, and labels, that a running server has.
func TestDashboards(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	families := s.families()
	for _, path := range []string{"deploy/grafana/sluice.json", "deploy/grafana/alerts.yaml"} {
		b, err := os.ReadFile(filepath.Join("../..", path))
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if strings.HasSuffix(path, ".json") {
			err = json.Unmarshal(b, &tree)
		} else {
			tree, err = yaml.Parser().Unmarshal(b)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		exprs := expressions(tree)
		if len(exprs) < 15 {
			t.Errorf("%s: %d expressions only: %q", path, len(exprs), exprs)
		}
		for _, expr := range exprs {
			for _, fault := range unknownIn(expr, families) {
				t.Errorf("%s: %s\n %s", path, expr, fault)
			}
		}
	}
	for _, planted := range []string{"sum(sluice_orders_lost_total)", `sluice_ready{shard="1"}`, "rate(sluice_gateway_placing_seconds_total[1m])"} {
		if len(unknownIn(planted, families)) == 0 {
			t.Errorf("%s is taken for right", planted)
		}
	}
}

// expressions are all texts under the keys expr and query, anywhere in a tree.
func expressions(tree any) (list []string) {
	switch node := tree.(type) {
	case map[string]any:
		for key, value := range node {
			if text, ok := value.(string); ok && (key == "expr" || key == "query") && text != "prometheus" {
				list = append(list, text)
				continue
			}
			list = append(list, expressions(value)...)
		}
	case []any:
		for _, value := range node {
			list = append(list, expressions(value)...)
		}
	}
	return list
}

var (
	selector = regexp.MustCompile(`\b((?:sluice|go|process)_[a-z0-9_]+)(\{[^}]*\})?`)
	label    = regexp.MustCompile(`([a-z_]+)\s*[=!]~?"`)
)

// unknownIn says what an expression asks for that is not there. The labels job and instance come from Prometheus.
func unknownIn(expr string, families map[string]*dto.MetricFamily) (faults []string) {
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		family := families[m[1]]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(m[1], suffix); cut && family == nil && families[base].GetType() == dto.MetricType_HISTOGRAM {
				family = families[base]
			}
		}
		if family == nil {
			faults = append(faults, "no metric "+m[1])
			continue
		}
		known := []string{"job", "instance", "le"}
		for _, l := range family.Metric[0].Label {
			known = append(known, l.GetName())
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(known, l[1]) {
				faults = append(faults, m[1]+" has no label "+l[1])
			}
		}
	}
	return faults
}
