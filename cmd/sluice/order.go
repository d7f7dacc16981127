package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func newOrder(s *settings) *cobra.Command {
	cmd := &cobra.Command{Use: "order", Short: "Look at orders of a running server"}
	cmd.AddCommand(&cobra.Command{
		Use:   "get ID",
		Short: "Print an order as it is stored",
		Args:  takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return callAndPrint(cmd, s, http.MethodGet, "/ops/orders/"+url.PathEscape(args[0]), nil)
		},
	})
	return cmd
}
