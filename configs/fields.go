package configs

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// Field is one setting of a configuration.
type Field struct {
	Path   string // such as gateway.listen
	Hot    bool   // part of a Tuning: it may change while the program runs
	Source string // where its value comes from: default, a file's name, an environment variable, --set
	value  reflect.Value
}

// Value is the setting's present value as text, or a list of texts, or a bool, or a number: what YAML shows.
func (f *Field) Value() any { return show(f.value) }

// hidden are parts of the stages' options that the program fills in itself: facts of the drivers, and what is said once
// in another section.
var hidden = map[string]bool{
	"engine.exclusive": true, "persist.kinds": true, "store.partitions": true, "store.deadline": true,
	"queue.sqlitequeue.partitions": true, "queue.sqlitequeue.free_min": true,
}

// fieldsOf lists the settings that hang below path in v, a struct that can be set. The key of a field is its koanf tag,
// or its Go name in snake_case; "-" hides it. The fields of a struct named Tuning are hot, and stand beside the fixed
// ones: whoever writes a file need not know which is which. What hangs below a Tuning is hot too. Functions and
// interfaces are not settings.
func fieldsOf(path string, v reflect.Value) []*Field { return appendFields(nil, path, v, false) }

func appendFields(list []*Field, path string, v reflect.Value, hot bool) []*Field {
	hot = hot || v.Type().Name() == "Tuning"
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := keyOf(&f)
		at := strings.TrimPrefix(path+"."+key, ".")
		switch {
		case !f.IsExported() || key == "-" || hidden[at]:
		case isLeaf(f.Type):
			list = append(list, &Field{Path: at, Hot: hot || at == "log.level", Source: "default", value: v.Field(i)})
		case f.Type.Kind() == reflect.Struct && (f.Anonymous || f.Type.Name() == "Tuning"):
			list = appendFields(list, path, v.Field(i), hot)
		case f.Type.Kind() == reflect.Struct:
			list = appendFields(list, at, v.Field(i), hot)
		}
	}
	return list
}

func keyOf(f *reflect.StructField) string {
	if tag, _, _ := strings.Cut(f.Tag.Get("koanf"), ","); tag != "" {
		return tag
	}
	return Snake(f.Name)
}

// Snake writes a Go name as a key: RequestDeadline becomes request_deadline, JWTSecret jwt_secret.
func Snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// find is the field of that path. For an unknown one the error names the nearest that exists.
func find(fields []*Field, path string) (*Field, error) {
	for _, f := range fields {
		switch {
		case f.Path == path:
			return f, nil
		case strings.HasPrefix(f.Path, path+"."):
			return nil, fmt.Errorf("%s is a section: give one of its settings, such as %s", path, f.Path)
		case strings.HasPrefix(path, f.Path+"."):
			return nil, fmt.Errorf("%s is a single value: %s does not exist", f.Path, path)
		}
	}
	nearest, distance := "", 4
	for _, f := range fields {
		if d := editDistance(f.Path, path); d < distance {
			nearest, distance = f.Path, d
		}
	}
	if nearest != "" {
		return nil, fmt.Errorf("unknown setting %s: did you mean %s?", path, nearest)
	}
	return nil, fmt.Errorf("unknown setting %s", path)
}

// editDistance is the number of single-character edits between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
