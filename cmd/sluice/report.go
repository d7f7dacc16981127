package main

import (
	"fmt"
	"maps"
	"reflect"
	"time"

	"sluice/configs"
)

// report adds a stage's snapshot to what /ops/stats and /metrics show.
func (s *Server) report(stage string, stats func() any) {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.reports[stage] = stats
}

// stages lists the stages that have started, with their snapshots.
func (s *Server) stages() map[string]func() any {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	return maps.Clone(s.reports)
}

// plain is a snapshot as JSON shows it: keys in snake_case, durations in seconds with the unit in the key, moments in
// RFC 3339.
func plain(v reflect.Value) any {
	switch value := v.Interface().(type) {
	case time.Duration:
		return value.Seconds()
	case time.Time:
		if value.IsZero() {
			return nil
		}
		return value
	case fmt.Stringer:
		return value.String()
	}
	switch v.Kind() {
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				m[keyOf(&f)] = plain(v.Field(i))
			}
		}
		return m
	case reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, plain(v.Index(i)))
		}
		return list
	}
	return v.Interface()
}

func keyOf(f *reflect.StructField) string {
	key := configs.Snake(f.Name)
	if f.Type == reflect.TypeFor[time.Duration]() {
		key += "_seconds"
	}
	return key
}
