package configs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// Source says where a configuration comes from.
type Source struct {
	File   string         // YAML; empty: the embedded default alone
	Env    []string       // as os.Environ gives it
	Set    []string       // path=value, the last word
	Mounts map[string]any // pointers to driver options by the path of their section, such as queue.sqlitequeue
}

// prefix begins every environment variable that is a setting. After it comes the path in capitals, with two underscores
// for a dot: SLUICE_GATEWAY__LISTEN.
const prefix = "SLUICE_"

// Load reads the embedded default, then what the source gives: the file, the environment, the --set values, each over
// the one before; a file holds only what differs from the default. It checks every value. The error names everything
// that is wrong, one line each.
func Load(s Source) (*Config, error) {
	c := &Config{}
	c.fields = fieldsOf("", reflect.ValueOf(c).Elem())
	for _, path := range slices.Sorted(maps.Keys(s.Mounts)) {
		c.fields = append(c.fields, fieldsOf(path, reflect.ValueOf(s.Mounts[path]).Elem())...)
	}
	if err := c.layer("default", content(embedded), yaml.Parser()); err != nil {
		return nil, fmt.Errorf("BUG: the embedded configuration: %w", err)
	}
	if s.File != "" {
		if err := c.layer(s.File, file.Provider(s.File), yaml.Parser()); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(c.environment(s.Env), c.sets(s.Set)); err != nil {
		return nil, err
	}
	return c, c.Locate(c.Validate())
}

// layer lays the settings of one file over c.
func (c *Config) layer(source string, p koanf.Provider, parser koanf.Parser) error {
	k := koanf.New(".")
	if err := k.Load(p, parser); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("configuration file %s does not exist", source)
		}
		return fmt.Errorf("configuration file %s: %w", source, readable(err))
	}
	all := k.All()
	var errs []error
	for _, path := range k.Keys() {
		if isEmpty(all[path]) && c.isSection(path) {
			continue // a section whose settings are all commented out
		}
		if err := c.put(path, all[path], source); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", source, err))
		}
	}
	return errors.Join(errs...)
}

// readable is what the YAML parser says in words that say what to do.
func readable(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	switch {
	case strings.Contains(text, "cannot start any token"):
		text += " (is it a tab? YAML is indented with spaces)"
	case strings.Contains(text, "into map[string]interface {}"):
		text = "it must hold settings, such as a line `gateway:` and below it `  listen: 127.0.0.1:8080`"
	}
	return errors.New(text)
}

func isEmpty(value any) bool {
	section, ok := value.(map[string]any)
	return value == nil || ok && len(section) == 0
}

func (c *Config) isSection(path string) bool {
	return slices.ContainsFunc(c.fields, func(f *Field) bool { return strings.HasPrefix(f.Path, path+".") })
}

func (c *Config) put(path string, value any, source string) error {
	f, err := find(c.fields, path)
	if err != nil {
		return err
	}
	if err := set(f.value, value); err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	f.Source = source
	return nil
}

// environment lays the variables over c. A variable with two underscores in a row is a setting and must exist; one
// without can only be one of the settings outside every section, and others (the secrets, what a container platform
// sets) are not ours to judge.
func (c *Config) environment(environ []string) error {
	var errs []error
	k := koanf.New(".")
	err := k.Load(env.Provider(".", env.Opt{
		Prefix:      prefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			path := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "__", "."))
			if _, err := find(c.fields, path); err != nil && !strings.Contains(path, ".") {
				return "", nil
			}
			if err := c.put(path, value, name); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			return "", nil
		},
	}), nil)
	return errors.Join(append(errs, err)...)
}

func (c *Config) sets(sets []string) error {
	var errs []error
	for _, s := range sets {
		path, value, ok := strings.Cut(s, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("--set %s: must be path=value, such as --set gateway.listen=127.0.0.1:9000", s))
			continue
		}
		if err := c.put(strings.TrimSpace(path), value, "--set"); err != nil {
			errs = append(errs, fmt.Errorf("--set %s: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

// content is a koanf provider of bytes that are already here.
type content []byte

func (b content) ReadBytes() ([]byte, error) { return b, nil }
func (b content) Read() (map[string]any, error) {
	return nil, errors.New("BUG: content has bytes only")
}
