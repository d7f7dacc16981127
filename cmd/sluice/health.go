package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
)

// healthWait is how long a server may take to say how it is.
const healthWait = 4 * time.Second

func newHealth(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Ask a running server whether it is ready; exit 1 if not",
		Long: "Ask the ops listener of the running server whether it is ready, and print what it still waits for. It needs no token:\n" +
			"a container platform can run it where there is no curl. The exit code is 1 if it is not ready or does not answer.",
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := s.load()
			if err != nil {
				return err
			}
			cl, err := opsClient(c, &configs.Secrets{})
			if err != nil {
				return err
			}
			cl.http.Timeout = healthWait
			res, err := cl.http.Get(cl.base + "/readyz")
			if err != nil {
				return err
			}
			var answer struct {
				Status  string
				Missing []string
			}
			if err := errors.Join(json.NewDecoder(res.Body).Decode(&answer), res.Body.Close()); err != nil {
				return fmt.Errorf("%s is no ops listener of Sluice: %w", c.Ops.Listen, err)
			}
			if res.StatusCode != http.StatusOK {
				return errors.New(answer.Status + ": " + strings.Join(answer.Missing, "; "))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer.Status)
			return err
		},
	}
}
