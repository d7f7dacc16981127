package configs

import (
	"encoding"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"time"

	"sluice/engine/order"
)

var (
	durationType    = reflect.TypeFor[time.Duration]()
	kindType        = reflect.TypeFor[order.Kind]()
	levelType       = reflect.TypeFor[slog.Level]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// isLeaf tells whether a type holds one setting: a number, text, bool, duration, kind, or a list of these.
func isLeaf(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(unmarshalerType) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Slice:
		return isLeaf(t.Elem())
	}
	return false
}

// set gives v the value that a YAML file, a variable or a flag holds. Text is read as the type needs it, because
// variables and flags have nothing else; a list in one text is separated by commas. The error says what would be right.
func set(v reflect.Value, raw any) error {
	if v.Kind() == reflect.Slice && !reflect.PointerTo(v.Type()).Implements(unmarshalerType) {
		return setList(v, raw)
	}
	var text string
	switch raw := raw.(type) {
	case string:
		text = strings.TrimSpace(raw)
	case bool, int, int64, uint64, float64:
		text = fmt.Sprint(raw)
		if number, ok := raw.(float64); ok {
			text = strconv.FormatFloat(number, 'f', -1, 64)
		}
	case time.Time:
		return fmt.Errorf("must be %s, not a time", wanted(v.Type()))
	case nil:
		return fmt.Errorf("has no value; leave the line out to get the default")
	default:
		return fmt.Errorf("must be %s, not a list or a section", wanted(v.Type()))
	}
	if !setText(v, text) {
		return fmt.Errorf("must be %s, not %q", wanted(v.Type()), text)
	}
	return nil
}

func setList(v reflect.Value, raw any) error {
	var items []any
	switch raw := raw.(type) {
	case []any:
		items = raw
	case string:
		for item := range strings.SplitSeq(raw, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	case nil:
	default:
		return fmt.Errorf("must be a list of %s", wanted(v.Type().Elem()))
	}
	if len(items) == 0 {
		v.SetZero()
		return nil
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := set(list.Index(i), item); err != nil {
			return fmt.Errorf("entry %d %w", i, err)
		}
	}
	v.Set(list)
	return nil
}

func setText(v reflect.Value, text string) (ok bool) {
	switch {
	case v.Type() == durationType:
		d, err := time.ParseDuration(text)
		v.SetInt(int64(d))
		return err == nil
	case v.Type() == kindType:
		k, ok := order.ParseKind(text)
		v.SetUint(uint64(k))
		return ok
	case v.Addr().Type().Implements(unmarshalerType):
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) == nil
	}
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	case reflect.Float64:
		var f float64
		f, err = strconv.ParseFloat(text, 64)
		v.SetFloat(f)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var n uint64
		n, err = strconv.ParseUint(strings.ReplaceAll(text, "_", ""), 10, v.Type().Bits())
		v.SetUint(n)
	default:
		var n int64
		n, err = strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, v.Type().Bits())
		v.SetInt(n)
	}
	return err == nil
}

// wanted names what a type takes, for error messages.
func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration such as 250ms, 2s or 15m"
	case t == kindType:
		return "normal or flash"
	case t == levelType:
		return "debug, info, warn or error"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		return "a whole number, not negative"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		return "a whole number"
	case t.Kind() == reflect.Slice:
		return "a list of " + wanted(t.Elem())
	case reflect.PointerTo(t).Implements(unmarshalerType) && t.Kind() != reflect.String:
		return "a valid " + strings.ToLower(t.Name())
	}
	return "text"
}

// show is the opposite of set: the value as YAML and JSON show it.
func show(v reflect.Value) any {
	if level, ok := v.Interface().(slog.Level); ok {
		return strings.ToLower(level.String())
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return fmt.Sprint(v.Interface())
		}
		return string(text)
	}
	switch {
	case v.Type() == durationType:
		return showDuration(time.Duration(v.Int()))
	case v.Type() == kindType:
		return order.Kind(v.Uint()).String()
	case v.Kind() == reflect.String:
		return v.String()
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = show(v.Index(i))
		}
		return list
	}
	return v.Interface()
}

// showDuration writes 15m for 15m0s: as a person would.
func showDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
