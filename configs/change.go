package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Change is one setting whose value differs between two configurations.
type Change struct {
	Path string `json:"path"`
	Old  any    `json:"old"`
	New  any    `json:"new"`
	Hot  bool   `json:"hot"`
}

// String is the change as the log has it.
func (c Change) String() string { return fmt.Sprintf("%s: %v -> %v", c.Path, c.Old, c.New) }

// Changes lists what differs in next, in the order of the settings; it is never nil. Both have the same drivers mounted.
func (c *Config) Changes(next *Config) []Change {
	list := []Change{}
	for i, f := range c.fields {
		from, to := f.Value(), next.fields[i].Value()
		if next.fields[i].Path != f.Path {
			panic("BUG: configurations with different settings are compared")
		}
		if !reflect.DeepEqual(from, to) {
			list = append(list, Change{Path: f.Path, Old: from, New: to, Hot: f.Hot})
		}
	}
	return list
}

// Hash tells configurations apart: equal values have equal hashes, wherever they come from.
func (c *Config) Hash() string {
	sum := sha256.Sum256(c.YAML())
	return hex.EncodeToString(sum[:8])
}

// FixedError names the settings that cannot change while the program runs.
type FixedError struct{ Changes []Change }

func (e *FixedError) Error() string {
	list := make([]string, len(e.Changes))
	for i, c := range e.Changes {
		list[i] = c.String()
	}
	return "these settings are fixed until the program is restarted: " + strings.Join(list, ", ")
}

// Locate gives every line of err, each about a value of this configuration, the setting's whole path and the source that
// set it. Lines about a section, or a setting that nobody set, stay as they are.
func (c *Config) Locate(err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = c.locate(line)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// locate does it for one line. Stages write `engine: waiting_max must be ...` of engine.waiting_max.
func (c *Config) locate(line string) string {
	for colons := range 3 {
		text := strings.Replace(line, ": ", ".", colons)
		for _, f := range c.fields {
			if rest, ok := strings.CutPrefix(text, f.Path); ok && f.Source != "default" && strings.HasPrefix(rest, " ") {
				return f.Source + ": " + text
			}
		}
	}
	return line
}
