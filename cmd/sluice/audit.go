package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench/audit"
	"sluice/configs"
	"sluice/persist/store"
)

func newAudit(s *settings) *cobra.Command {
	var format, history string
	var settle time.Duration
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Check that the stores keep every promise; exit 1 on a violation",
		Long: "Audit the stores, and the fast stock of the running server if there is one. Files are opened read-only and\n" +
			"without the server's lock. One line per rule; the exit code is 1 if a rule is violated, or if the server sells all\n" +
			"the time (--settle), which makes the audit incomplete.",
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("-o must be text or json, not %q", format)
			}
			o, err := auditOptions(cmd.Context(), s)
			if err != nil {
				return err
			}
			if o.Settle = settle; history != "" {
				if o.History, err = audit.ReadHistory(history); err != nil {
					return err
				}
			}
			report, err := audit.Run(cmd.Context(), *o)
			if err != nil {
				return err
			}
			if format == "json" {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(report)
			} else {
				err = report.Text(cmd.OutOrStdout())
			}
			if err == nil && !report.Passed() {
				err = errSaid
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&history, "history", "", "file of what clients saw, one JSON object per line: checks the answers too")
	cmd.Flags().DurationVar(&settle, "settle", 10*time.Second, "how long to wait for a running server to come to rest")
	return cmd
}

// auditOptions says what the configuration names. Fast stock is part of it only if a server answers that sells.
func auditOptions(ctx context.Context, s *settings) (*audit.Options, error) {
	c, d, err := s.load()
	if err != nil {
		return nil, err
	}
	v, err := openVault(c, d, os.Environ(), false)
	if err != nil {
		return nil, err
	}
	o := &audit.Options{Dialect: string(c.Store.Dialect), VirtualShards: c.Store.VirtualShards, TLS: v.store.Load()}
	if c.Queue.Driver == "sqlitequeue" {
		o.QueueFile = d.queueFile(c)
	}
	if o.Shards, err = shardPlaces(c, v.now()); err != nil {
		return nil, err
	}
	if err := shardsThere(c, o.Shards); err != nil {
		return nil, err
	}
	cl, err := opsClient(c, v.now())
	if err != nil {
		return nil, err
	}
	if cl.answers(ctx) {
		switch as, err := cl.serves(ctx); {
		case err != nil:
			return nil, err
		case as != "" && !as.sells(): // it has no fast stock to show
			return o, nil
		}
		o.OpsURL, o.OpsToken = cl.base, cl.token
		o.OpsTLS, err = c.Ops.TLS.Known()
	}
	return o, err
}

// shardsThere refuses a data directory without the shards' files, which opening them would make.
func shardsThere(c *configs.Config, places []string) error {
	for _, place := range places {
		if _, err := os.Stat(place); c.Store.Dialect == store.SQLite && errors.Is(err, os.ErrNotExist) {
			return notThere("shard file "+place, c.DataDir)
		}
	}
	return nil
}

// notThere says that a data directory does not hold what a server's does.
func notThere(what, dir string) error {
	return fmt.Errorf("%s is not there: is %s the server's data directory? Name the right one with -c or --set data_dir=DIR", what, dir)
}
