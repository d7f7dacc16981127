package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/gateway/ops"
)

func newDeadLetter(s *settings) *cobra.Command {
	cmd := &cobra.Command{Use: "deadletter", Short: "Look at damaged messages of the queue, replay or drop them"}
	call := func(cmd *cobra.Command, method, id, end string) error {
		return callAndPrint(cmd, s, method, "/ops/deadletters/"+url.PathEscape(id)+end, nil)
	}
	show := &cobra.Command{
		Use:   "show ID",
		Short: "Print a dead letter: its bytes (which may hold names and addresses) and what this program reads in them",
		Args:  takes(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return call(cmd, http.MethodGet, args[0], "") },
	}
	replay := &cobra.Command{
		Use:   "replay ID",
		Short: "Publish a dead letter again if this program can read it; exit 1 if it is kept",
		Args:  takes(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return call(cmd, http.MethodPost, args[0], "/replay") },
	}
	yes := false
	drop := &cobra.Command{
		Use:   "drop ID --yes",
		Short: "Delete a dead letter for ever",
		Args:  takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return errors.New("this deletes the only copy, with the orders in it: say --yes")
			}
			return call(cmd, http.MethodDelete, args[0], "")
		},
	}
	drop.Flags().BoolVar(&yes, "yes", false, "I have looked at it")
	cmd.AddCommand(newDeadLetterList(s), show, replay, drop)
	return cmd
}

func newDeadLetterList(s *settings) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters of a running server, by partition and position",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printPages(cmd, s, pages{"/ops/deadletters", url.Values{}, "100"}, asJSON, printLetters)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	return cmd
}

func printLetters(w io.Writer, list []ops.Letter) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tPARTITION\tBURIED\tBYTES\tREASON") // Flush reports errors
	for i := range list {
		l := &list[i]
		_, _ = fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%s\n", l.ID, l.Partition, l.Buried.Format(time.RFC3339), l.Size, l.Reason)
	}
	return t.Flush()
}
