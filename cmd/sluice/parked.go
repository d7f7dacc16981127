package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/gateway/ops"
)

func newParked(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "Look at orders that wait for their user shard, replay or reject those that it refuses",
	}
	at := func(use, short, long, method, end string) *cobra.Command {
		return &cobra.Command{Use: use + " BATCH ORDER", Short: short, Long: long, Args: takes(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				path := "/ops/parked/" + url.PathEscape(args[0]) + "/" + url.PathEscape(args[1]) + end
				return callAndPrint(cmd, s, method, path, nil)
			}}
	}
	cmd.AddCommand(newParkedList(s),
		at("show", "Print a parked order, personal details masked", "", http.MethodGet, ""),
		at("replay", "Try to record a parked order now; exit 1 if it is refused again",
			"Try to record a parked order now. If another order of its key was stored meanwhile it becomes a rejected\n"+
				"duplicate of that one, and its units come back. If its shard refuses it again it stays parked.", http.MethodPost, "/replay"),
		at("reject", "Reject a poison order: its units come back, its buyer is told",
			"Reject an order that its user shard refuses: it is stored as rejected (refused), bare if need be, and its units\n"+
				"come back. This is final; the same command again changes nothing.", http.MethodPost, "/reject"))
	return cmd
}

func newParkedList(s *settings) *cobra.Command {
	var asJSON, poison bool
	var shard int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List parked orders of a running server, oldest first",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if poison {
				query.Set("poison", "1")
			}
			if shard >= 0 {
				query.Set("shard", strconv.Itoa(shard))
			}
			return printPages(cmd, s, pages{"/ops/parked", query, "1000"}, asJSON, printParked)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	cmd.Flags().BoolVar(&poison, "poison", false, "only those that their shard refuses")
	cmd.Flags().IntVar(&shard, "shard", -1, "only of this user shard (default: of all)")
	return cmd
}

func printParked(w io.Writer, list []ops.ParkedOrder) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "BATCH\tORDER\tUSER\tSHARD\tPARTITION\tSTATUS\tCREATED\tERROR") // Flush reports errors
	for i := range list {
		o := &list[i]
		created := "-"
		if o.Created != nil {
			created = o.Created.Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", o.Batch, o.Order, o.User, o.Shard, o.Partition, o.Status, created, o.Error)
	}
	return t.Flush()
}

// pages says which list is read, in pages of which size.
type pages struct {
	path  string
	query url.Values
	limit string
}

// printPages reads a list and prints it page by page, so that it may be of any length: as lines of JSON, or by print.
func printPages[T any](cmd *cobra.Command, s *settings, p pages, asJSON bool, print func(io.Writer, []T) error) error {
	c, err := newClient(s)
	if err != nil {
		return err
	}
	p.query.Set("limit", p.limit)
	for {
		var page struct {
			Data []T    `json:"data"`
			Next string `json:"next_cursor"`
		}
		if err := c.get(cmd.Context(), p.path+"?"+p.query.Encode(), &page); err != nil {
			return err
		}
		if asJSON {
			e := json.NewEncoder(cmd.OutOrStdout())
			for i := range page.Data {
				err = errors.Join(err, e.Encode(&page.Data[i]))
			}
		} else {
			err = print(cmd.OutOrStdout(), page.Data)
		}
		if err != nil || page.Next == "" {
			return err
		}
		p.query.Set("cursor", page.Next)
	}
}
