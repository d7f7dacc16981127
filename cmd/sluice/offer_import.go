package main

import (
	"bufio"
	"bytes"
	"context"
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

func newOfferImport(s *settings) *cobra.Command {
	var format string
	var from int
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Create many offers from NDJSON or CSV; - reads standard input",
		Long: "Create many offers, a file of any length. NDJSON: one offer per line, as POST /ops/offers takes it. CSV: the\n" +
			"first row names the fields (shop_id, sku, title, kind, unit_price, currency, total, per_user_limit, opens_at,\n" +
			"closes_at, group); an empty cell is a field that is not given. A bad line fails alone: it is named, and the\n" +
			"exit code is 1. Lines are not compared with what is on sale: a line imported twice is two offers. An import\n" +
			"that broke off says which line was the last to be answered; go on with --from.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }()
				in = f
			}
			if format == "" {
				format = strings.TrimPrefix(filepath.Ext(args[0]), ".")
			}
			if format != "csv" && format != "ndjson" && format != "jsonl" {
				return fmt.Errorf("%s: say --format ndjson or --format csv", args[0])
			}
			c, err := newClient(s)
			if err != nil {
				return err
			}
			i := &offerImport{cmd: cmd, client: c, from: from}
			return i.run(func(w io.Writer) error {
				if format == "csv" {
					return i.sendCSV(w, in)
				}
				return i.sendNDJSON(w, in)
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "ndjson or csv (default: by the file's name)")
	cmd.Flags().IntVar(&from, "from", 1, "first line of the file to import")
	return cmd
}

// offerImport is one import: a single call that is written and answered at the same time, line n of the request being
// line n of the file. What is skipped is sent as a blank line, which is not answered.
type offerImport struct {
	cmd    *cobra.Command
	client *client
	from   int

	created, failed, last int // answered: offers, refusals, number of the last line
}

func (i *offerImport) run(send func(io.Writer) error) error {
	began, ctx := time.Now(), i.cmd.Context()
	before, err := i.client.memory(ctx)
	if err != nil {
		return err
	}
	body, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := send(w)
		_ = w.CloseWithError(err) // nil: the end of the body
		sent <- err
	}()
	err = i.exchange(ctx, body)
	_ = body.CloseWithError(errStopped) // the writing side ends, if the server has not read it to the end
	if sending := <-sent; sending != nil && !errors.Is(sending, errStopped) {
		err = sending
	}
	if err != nil {
		return fmt.Errorf("%w\nUp to line %d all is answered: %d offers created, %d refused. Of the lines behind it up to 1000 may have been "+
			"created: look with `sluice offer list`, then go on with --from", err, i.last, i.created, i.failed)
	}
	after, err := i.client.memory(ctx)
	if err != nil {
		return err
	}
	took := time.Since(began)
	_, err = fmt.Fprintf(i.cmd.OutOrStdout(), "%d offers created, %d refused\n%.1f s, %.0f offers/s; memory of the server %d MiB, before %d MiB\n",
		i.created, i.failed, took.Seconds(), float64(i.created)/took.Seconds(), after>>20, before>>20)
	if err == nil && i.failed > 0 {
		err = errSaid
	}
	return err
}

// errStopped ends the writing side when the answers have ended.
var errStopped = errors.New("the answers have ended")

// exchange sends body and reads the answers.
func (i *offerImport) exchange(ctx context.Context, body io.Reader) error {
	res, err := i.client.stream(ctx, "/ops/offers/batch", body)
	if err != nil {
		return err
	}
	defer func() { _ = res.Close() }()
	answers := json.NewDecoder(res)
	for {
		var a struct {
			Line    int          `json:"line"`
			Status  int          `json:"status"`
			Problem *ops.Problem `json:"problem"`
		}
		err := answers.Decode(&a)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the server's answer behind line %d: %w", i.last, err)
		case a.Problem == nil:
			i.created++
		case a.Status >= http.StatusInternalServerError, a.Status == http.StatusRequestEntityTooLarge:
			return fmt.Errorf("line %d: %w", a.Line, a.Problem) // the server reads no further
		default:
			i.failed++
			i.cmd.PrintErrf("line %d: %v\n", a.Line, a.Problem)
		}
		i.last = a.Line
	}
}

// sendNDJSON sends the lines of a file.
func (i *offerImport) sendNDJSON(w io.Writer, in io.Reader) error {
	out, lines := bufio.NewWriter(w), bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		if n >= i.from {
			_, _ = out.Write(lines.Bytes()) // the Flush has the error
		}
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
	return errors.Join(lines.Err(), out.Flush())
}

// sendCSV sends the rows of a table as JSON, each on the line on which it begins.
func (i *offerImport) sendCSV(w io.Writer, in io.Reader) error {
	r := csv.NewReader(in)
	r.TrimLeadingSpace = true
	names, err := r.Read()
	if err != nil {
		return fmt.Errorf("the first row must name the fields: %w", err)
	}
	out, now, next := bufio.NewWriter(w), time.Now(), 1
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		line, _ := r.FieldPos(0)
		if line < i.from {
			continue
		}
		body, err := rowJSON(names, row, now)
		if err != nil {
			return errors.Join(fmt.Errorf("line %d: %w", line, err), out.Flush())
		}
		_, _ = out.Write(bytes.Repeat([]byte{'\n'}, line-next)) // the next call has the error
		if _, err := out.Write(append(body, '\n')); err != nil {
			return err
		}
		next = line + 1
	}
}

// rowJSON is a row of a table as JSON.
func rowJSON(names, row []string, now time.Time) (_ []byte, err error) {
	fields := map[string]any{}
	for i, text := range row {
		name := strings.TrimSpace(names[i])
		if strings.TrimSpace(text) == "" {
			continue
		}
		if fields[name], err = offerValue(name, text, now); err != nil {
			return nil, fmt.Errorf("%s %w", name, err)
		}
	}
	return json.Marshal(fields)
}
