package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"sluice/configs"
)

func newConfig(s *settings) *cobra.Command {
	var asDefault, asDistributed, asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration, or the commented default",
		Long: "Print the effective configuration as YAML. With --default, the embedded default: every setting with its\n" +
			"meaning, unit, bounds and default. A file for -c needs only what differs from it. With --distributed, such a file for\n" +
			"Redis and MySQL shards, to be changed.",
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case asDefault:
				_, err := cmd.OutOrStdout().Write(configs.Embedded())
				return err
			case asDistributed:
				_, err := cmd.OutOrStdout().Write(configs.Distributed())
				return err
			}
			c, _, err := s.load()
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(effective(c))
			}
			_, err = cmd.OutOrStdout().Write(c.YAML())
			return err
		},
	}
	cmd.Flags().BoolVar(&asDefault, "default", false, "print the embedded default with its comments")
	cmd.Flags().BoolVar(&asDistributed, "distributed", false, "print a configuration for Redis and MySQL shards with its comments")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print every setting as JSON with its source, and whether it is hot")
	return cmd
}

// setting is one line of the effective configuration.
type setting struct {
	Name   string `json:"name"`
	Value  any    `json:"value"`
	Hot    bool   `json:"hot"`
	Source string `json:"source"`
}

// effective lists every setting. Secrets are no settings; of each it says only that it is masked.
func effective(c *configs.Config) map[string]any {
	var list []setting
	for _, f := range c.Fields() {
		list = append(list, setting{f.Path, f.Value(), f.Hot, f.Source})
	}
	secrets := map[string]string{}
	for _, key := range configs.SecretKeys() {
		secrets[key] = "********"
	}
	return map[string]any{"settings": list, "secrets": secrets}
}

func newReload(s *settings) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have a running server read its configuration again",
		Long: "Have a running server read its configuration again, from where it came from at its start: the file of its own -c, its\n" +
			"environment and its --set flags, and the files of secrets and certificates. Hot settings take effect at once. If anything\n" +
			"is wrong, or a fixed setting differs, nothing changes.",
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(s)
			if err != nil {
				return err
			}
			path := "/ops/reload"
			if dry {
				path += "?dry_run=1"
			}
			answer, err := c.call(cmd.Context(), http.MethodPost, path, nil)
			if err != nil {
				return err
			}
			var out Reloaded
			if err := json.Unmarshal(answer, &out); err != nil {
				return err
			}
			return out.text(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would change, and change nothing")
	return cmd
}

// text writes what changed for people.
func (r *Reloaded) text(w io.Writer) error {
	var b strings.Builder
	for _, c := range r.Changes {
		b.WriteString(c.String() + "\n")
	}
	for _, name := range r.Secrets {
		b.WriteString(name + ": another value\n")
	}
	verb := "in force"
	if r.DryRun {
		verb = "in force, nothing was changed"
	}
	differ := "settings differ"
	if len(r.Changes) == 1 {
		differ = "setting differs"
	}
	fmt.Fprintf(&b, "%d %s; generation %d is %s\n", len(r.Changes), differ, r.Generation, verb)
	_, err := io.WriteString(w, b.String())
	return err
}

func sources(c *configs.Config) string {
	list := c.Overridden()
	if len(list) == 0 {
		return "all by default"
	}
	return fmt.Sprintf("default overridden by %v", list)
}
