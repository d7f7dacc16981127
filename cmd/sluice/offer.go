package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice/gateway/ops"
)

func newOffer(s *settings) *cobra.Command {
	cmd := &cobra.Command{Use: "offer", Short: "Create, change, list, close and import offers of a running server"}
	cmd.AddCommand(newOfferCreate(s), newOfferUpdate(s), newOfferList(s), newOfferClose(s), newOfferImport(s))
	return cmd
}

// offerFlag is a flag whose value is one field of an offer.
type offerFlag struct{ name, field, usage string }

var (
	createFlags = []offerFlag{
		{"shop", "shop_id", "shop id, a positive number"},
		{"group", "group", "group of offers that can be ordered together (default: the shop, or the offer itself for flash)"},
		{"sku", "sku", "stock keeping unit, visible ASCII"},
		{"kind", "kind", "normal or flash"},
		{"currency", "currency", "ISO 4217, such as CNY"},
		{"limit", "per_user_limit", "units per user, 0 for no limit"},
	}
	changeFlags = []offerFlag{
		{"title", "title", "title that buyers see"},
		{"price", "unit_price", "price of one unit in minor units (cents, fen)"},
		{"total", "total", "units on sale, sold ones included"},
		{"opens", "opens_at", "when buying begins: RFC 3339, or a duration from now such as 10s; none: at once"},
		{"closes", "closes_at", "when buying ends: RFC 3339, or a duration from now; none: never"},
	}
	offerDefaults = map[string]string{"shop": "1", "kind": "normal", "currency": "CNY"}
	numberFields  = map[string]bool{"unit_price": true, "total": true, "per_user_limit": true}
	timeFields    = map[string]bool{"opens_at": true, "closes_at": true}
)

func addOfferFlags(flags *pflag.FlagSet, list []offerFlag, defaults map[string]string) {
	for _, f := range list {
		flags.String(f.name, defaults[f.name], f.usage)
	}
}

// offerJSON makes the request's body of the flags: those that were given or have a default.
func offerJSON(flags *pflag.FlagSet, list []offerFlag) ([]byte, error) {
	fields := map[string]any{}
	for _, f := range list {
		text := flags.Lookup(f.name).Value.String()
		if text == "" && !flags.Changed(f.name) {
			continue
		}
		value, err := offerValue(f.field, text, time.Now())
		if err != nil {
			return nil, fmt.Errorf("--%s %w", f.name, err)
		}
		fields[f.field] = value
	}
	return json.Marshal(fields)
}

// offerValue reads a field of an offer as people write it in a flag or a table.
func offerValue(field, text string, now time.Time) (any, error) {
	text = strings.TrimSpace(text)
	switch {
	case numberFields[field]:
		var n int64
		if _, err := fmt.Sscanf(text, "%d", &n); err != nil || fmt.Sprint(n) != text {
			unit := map[string]string{"unit_price": " of minor units (cents, fen)"}[field]
			return nil, fmt.Errorf("must be a whole number%s, not %q", unit, text)
		}
		return n, nil
	case timeFields[field] && (text == "" || text == "none"):
		return nil, nil
	case timeFields[field]:
		if d, err := time.ParseDuration(text); err == nil {
			return now.Add(d).UTC().Format(time.RFC3339Nano), nil
		}
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			return nil, fmt.Errorf("must be a time such as 2026-11-11T12:00:00Z or a duration from now such as 10s, not %q", text)
		}
	}
	return text, nil
}

func newOfferCreate(s *settings) *cobra.Command {
	all := append(append([]offerFlag{}, createFlags...), changeFlags...)
	cmd := &cobra.Command{
		Use:     "create --sku SKU --title TITLE --price N --total N [flags]",
		Short:   "Create an offer; prints it when the server can sell it",
		Example: "  sluice offer create --sku phone-1 --title 'Phone, 256 GB' --kind flash --price 99900 --total 100 --limit 1 --opens 10s",
		Args:    takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := offerJSON(cmd.Flags(), all)
			if err != nil {
				return err
			}
			return callAndPrint(cmd, s, http.MethodPost, "/ops/offers", body)
		},
	}
	addOfferFlags(cmd.Flags(), all, offerDefaults)
	return cmd
}

func newOfferUpdate(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update ID [flags]",
		Short: "Change title, price, total or window of an offer",
		Args:  takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := offerJSON(cmd.Flags(), changeFlags)
			if err != nil {
				return err
			}
			return callAndPrint(cmd, s, http.MethodPatch, "/ops/offers/"+url.PathEscape(args[0]), body)
		},
	}
	addOfferFlags(cmd.Flags(), changeFlags, nil)
	return cmd
}

func newOfferClose(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "close ID",
		Short: "End the sale of an offer now",
		Args:  takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return callAndPrint(cmd, s, http.MethodPost, "/ops/offers/"+url.PathEscape(args[0])+"/close", nil)
		},
	}
}

func newOfferList(s *settings) *cobra.Command {
	var asJSON bool
	var kind, shop string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the offers of a running server",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(s)
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"kind": kind, "shop_id": shop} {
				if value != "" {
					query.Set(name, value)
				}
			}
			offers, err := c.offers(cmd.Context(), query)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				for i := range offers {
					err = errors.Join(err, e.Encode(&offers[i]))
				}
				return err
			}
			return printOffers(cmd.OutOrStdout(), offers)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	cmd.Flags().StringVar(&kind, "kind", "", "only normal or only flash")
	cmd.Flags().StringVar(&shop, "shop", "", "only this shop")
	return cmd
}

// offers reads every page of the list.
func (c *client) offers(ctx context.Context, query url.Values) ([]ops.Offer, error) {
	var all []ops.Offer
	query.Set("limit", "1000")
	for {
		var page struct {
			Data []ops.Offer `json:"data"`
			Next string      `json:"next_cursor"`
		}
		if err := c.get(ctx, "/ops/offers?"+query.Encode(), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Data...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
}

func printOffers(w io.Writer, offers []ops.Offer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tKIND\tSTATE\tREMAINING\tTOTAL\tLIMIT\tPRICE\tOPENS\tCLOSES\tSKU\tTITLE") // Flush reports errors
	at := func(m *time.Time) string {
		if m == nil {
			return "-"
		}
		return m.Format(time.RFC3339)
	}
	for i := range offers {
		o := &offers[i]
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d %s\t%s\t%s\t%s\t%s\n", o.ID, o.Kind, o.State, o.Remaining,
			o.Total, o.Limit, o.UnitPrice, o.Currency, at(o.Opens), at(o.Closes), o.SKU, o.Title)
	}
	return t.Flush()
}

// callAndPrint makes one call and prints its JSON answer, indented.
func callAndPrint(cmd *cobra.Command, s *settings, method, path string, body []byte) error {
	c, err := newClient(s)
	if err != nil {
		return err
	}
	answer, err := c.call(cmd.Context(), method, path, body)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, answer, "", "  "); err != nil {
		return fmt.Errorf("the server's answer is not JSON: %w", err)
	}
	_, err = cmd.OutOrStdout().Write(pretty.Bytes())
	return err
}
