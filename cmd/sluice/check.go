package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/gateway"
	"sluice/persist/store"
)

func newCheck(s *settings) *cobra.Command {
	var live bool
	var format string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate a configuration; with --live also the servers that it names",
		Long: "Validate a configuration without starting anything. With --live, ask the servers and files that it names as well: one\n" +
			"line for each thing that was looked at, ok, a warning, or what is wrong and what to do. Nothing is changed, beside a\n" +
			"running server too. The exit code is 1 if anything is wrong. `serve` looks at the same, and refuses what is wrong.",
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("-o must be text or json, not %q", format)
			}
			c, d, err := s.load()
			if err != nil {
				return err
			}
			list := []finding{{store.OK, "configuration", fmt.Sprintf("%d settings, %s", len(c.Fields()), sources(c))}}
			v, err := checkConfig(c, d)
			if err != nil && !live {
				return err
			}
			if err != nil { // without passwords every server would be wrong
				return report(cmd.OutOrStdout(), format, append(list, finding{store.Wrong, "configuration", err.Error()}))
			}
			for _, text := range v.warnings(d) {
				list = append(list, finding{store.Warning, "secrets", text})
			}
			if live {
				list = append(list, checkLive(cmd.Context(), c, d, v)...)
			}
			return report(cmd.OutOrStdout(), format, list)
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "also ask the servers that the configuration names")
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return cmd
}

// finding is one thing that was looked at.
type finding struct {
	Level   store.Level `json:"level"` // ok, warning or wrong
	Subject string      `json:"subject"`
	Text    string      `json:"text"`
}

// report writes the findings, and says by its error that something is wrong.
func report(w io.Writer, format string, list []finding) error {
	wrong := slices.ContainsFunc(list, func(f finding) bool { return f.Level == store.Wrong })
	var err error
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		err = e.Encode(map[string]any{"ok": !wrong, "findings": list})
	} else {
		var b strings.Builder
		for _, f := range list {
			fmt.Fprintf(&b, "%s: %s: %s\n", f.Level, f.Subject, f.Text)
		}
		_, err = io.WriteString(w, b.String())
	}
	if err == nil && wrong {
		err = errSaid
	}
	return err
}

// checkConfig loads the secrets as far as they are there, the certificates and the public keys.
func checkConfig(c *configs.Config, d *drivers) (*vault, error) {
	v, err := openVault(c, d, os.Environ(), false)
	if file := c.Gateway.PublicKeysFile; err == nil && file != "" {
		err = gateway.CheckPublicKeys(file)
	}
	return v, err
}

// checkLive asks everything that a start would use.
func checkLive(ctx context.Context, c *configs.Config, d *drivers, v *vault) []finding {
	list := []finding{checkServer(ctx, c, v.now()), checkDisk(c)}
	list = append(list, checkStore(ctx, c, d, v)...)
	if role(c.Role).sells() {
		list = append(list, d.checkStock(ctx, c, v)...)
	}
	return append(list, d.checkQueue(ctx, c)...)
}

// checkServer says whether a server of this configuration runs now; either is well.
func checkServer(ctx context.Context, c *configs.Config, secrets *configs.Secrets) finding {
	cl, err := opsClient(c, secrets)
	if err != nil {
		return finding{store.Wrong, "server", err.Error()}
	}
	if !cl.answers(ctx) {
		return finding{store.OK, "server", "none answers at " + c.Ops.Listen + " (ops.listen): what follows is what a start would find"}
	}
	if _, err := cl.serves(ctx); err != nil {
		return finding{store.Warning, "server", "another one runs at " + c.Ops.Listen + " (ops.listen): " + err.Error()}
	}
	return finding{store.OK, "server", "runs, and answers at " + c.Ops.Listen}
}

// checkDisk looks at the data directory, or at what it will be made in.
func checkDisk(c *configs.Config) finding {
	dir, err := filepath.Abs(c.DataDir)
	for there := false; err == nil && !there; {
		_, stat := os.Stat(dir)
		if there = !errors.Is(stat, fs.ErrNotExist); !there {
			dir = filepath.Dir(dir)
		}
	}
	var free uint64
	if err == nil {
		free, err = freeBytes(dir)
	}
	switch {
	case err != nil:
		return finding{store.Wrong, "disk", err.Error()}
	case free < c.Disk.FreeBytesMin:
		return finding{store.Wrong, "disk", fmt.Sprintf("%s has %d MiB free, less than disk.free_bytes_min (%d MiB): every new order would be turned away; make room",
			dir, free>>20, c.Disk.FreeBytesMin>>20)}
	case free < 4*c.Disk.FreeBytesMin:
		return finding{store.Warning, "disk", fmt.Sprintf("%s has %d MiB free; below %d MiB (disk.free_bytes_min) new orders are turned away",
			dir, free>>20, c.Disk.FreeBytesMin>>20)}
	}
	return finding{store.OK, "disk", fmt.Sprintf("%d MiB free under %s", free>>20, dir)}
}

func checkStore(ctx context.Context, c *configs.Config, d *drivers, v *vault) []finding {
	o, err := storeOptions(c, v)
	var found []store.Finding
	if err == nil {
		if identity, err := d.queueIdentity(c); err == nil { // else the line of the queue says what is wrong with it
			o.Queue = &identity
		}
		found, err = store.Check(ctx, o)
	}
	var list []finding
	for _, f := range found {
		list = append(list, finding{f.Level, fmt.Sprintf("shard %d (%s)", f.Shard, f.Place), f.Text})
	}
	if err != nil {
		list = append(list, finding{store.Wrong, "shards", err.Error()})
	}
	return list
}

// lookAtQueue refuses a broker on which the promises do not hold, in the words of `sluice check --live`. What is to be
// known of a file its opening says.
func (s *Server) lookAtQueue(ctx context.Context) error {
	if s.config.Queue.Driver == "sqlitequeue" {
		return nil
	}
	var errs []error
	for _, f := range s.drivers.checkQueue(ctx, s.config) {
		switch f.Level {
		case store.Wrong:
			errs = append(errs, errors.New(f.Text))
		case store.Warning:
			s.log.Warn("a promise is weaker than it could be", "queue", f.Text)
		default:
			s.log.Info("queue", "found", f.Text)
		}
	}
	return errors.Join(errs...)
}
