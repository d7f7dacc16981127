package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

// auditOptions says what the configuration names. Fast stock is part of it only if a server answers.
func auditOptions(ctx context.Context, s *settings) (*audit.Options, error) {
	c, d, err := s.load()
	if err != nil {
		return nil, err
	}
	secrets, err := c.LoadSecrets(os.Environ(), false)
	if err != nil {
		return nil, err
	}
	o := &audit.Options{Dialect: string(c.Store.Dialect), VirtualShards: c.Store.VirtualShards, QueueFile: d.queueFile(c)}
	if o.Shards, err = shardPlaces(c, secrets); err != nil {
		return nil, err
	}
	for _, place := range o.Shards {
		if _, err := os.Stat(place); c.Store.Dialect == store.SQLite && errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("shard file %s is not there: is %s the server's data directory? Name the right one with -c or --set data_dir=DIR",
				place, c.DataDir)
		}
	}
	if url := "http://" + reachable(c.Ops.Listen); answers(ctx, url) {
		if err := serves(ctx, url, secrets, c); err != nil {
			return nil, err
		}
		o.OpsURL, o.OpsToken = url, secrets.OpsToken
	}
	return o, nil
}

// answers tells whether a server listens there.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// serves makes sure that the server there takes our token: otherwise it is another one, or of another data directory.
func serves(ctx context.Context, url string, secrets *configs.Secrets, c *configs.Config) error {
	var stats struct{}
	cl := &client{base: url, token: secrets.OpsToken, dir: c.DataDir, http: http.Client{Timeout: 5 * time.Second}}
	return cl.get(ctx, "/ops/stats", &stats)
}
