package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/gateway/ops"
)

// importChunk is the number of offers in one call.
const importChunk = 500

func newOfferImport(s *settings) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Create many offers from NDJSON or CSV; - reads standard input",
		Long: "Create many offers. NDJSON: one offer per line, as POST /ops/offers takes it. CSV: the first row names the\n" +
			"fields (shop_id, sku, title, kind, unit_price, currency, total, per_user_limit, opens_at, closes_at, group);\n" +
			"an empty cell is a field that is not given. A bad line fails alone: it is named, and the exit code is 1.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			offers, err := readOffers(cmd.InOrStdin(), args[0], format)
			if err != nil {
				return err
			}
			return importOffers(cmd, s, offers)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "ndjson or csv (default: by the file's name)")
	return cmd
}

// numbered is one offer of a file and the line it stands on.
type numbered struct {
	line int
	body []byte
}

func readOffers(stdin io.Reader, name, format string) ([]numbered, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(name), ".")
	}
	switch format {
	case "ndjson", "jsonl":
		return readNDJSON(in)
	case "csv":
		return readCSV(in)
	}
	return nil, fmt.Errorf("%s: say --format ndjson or --format csv", name)
}

func readNDJSON(in io.Reader) ([]numbered, error) {
	var offers []numbered
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
			offers = append(offers, numbered{n, bytes.Clone(line)})
		}
	}
	return offers, lines.Err()
}

func readCSV(in io.Reader) ([]numbered, error) {
	r := csv.NewReader(in)
	r.TrimLeadingSpace = true
	names, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("the first row must name the fields: %w", err)
	}
	now := time.Now()
	var offers []numbered
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return offers, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		fields := map[string]any{}
		for i, text := range row {
			name := strings.TrimSpace(names[i])
			if strings.TrimSpace(text) == "" {
				continue
			}
			if fields[name], err = offerValue(name, text, now); err != nil {
				return nil, fmt.Errorf("line %d: %s %w", line, name, err)
			}
		}
		body, err := json.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		offers = append(offers, numbered{line, body})
	}
}

func importOffers(cmd *cobra.Command, s *settings, offers []numbered) error {
	c, err := newClient(s)
	if err != nil {
		return err
	}
	created, failed := 0, 0
	for len(offers) > 0 {
		chunk := offers[:min(importChunk, len(offers))]
		offers = offers[len(chunk):]
		var body bytes.Buffer
		for _, o := range chunk {
			body.Write(append(o.body, '\n'))
		}
		answer, err := c.call(cmd.Context(), http.MethodPost, "/ops/offers/batch", body.Bytes())
		if err != nil {
			return fmt.Errorf("lines %d to %d (%d offers were created before): %w",
				chunk[0].line, chunk[len(chunk)-1].line, created, err)
		}
		lines := json.NewDecoder(bytes.NewReader(answer))
		for _, o := range chunk {
			var a struct {
				Problem *ops.Problem `json:"problem"`
			}
			if err := lines.Decode(&a); err != nil {
				return fmt.Errorf("the server's answer to line %d: %w", o.line, err)
			}
			if a.Problem == nil {
				created++
				continue
			}
			failed++
			cmd.PrintErrf("line %d: %v\n", o.line, a.Problem)
		}
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%d offers created, %d refused\n", created, failed); err != nil {
		return err
	}
	if failed > 0 {
		return errSaid
	}
	return nil
}
