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
	"slices"
	"strings"
	"sync"
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
			"exit code is 1. Only a line at which the file cannot be read on, such as a quote without its end, ends the\n" +
			"import. Lines are not compared with what is on sale: a line imported twice is two offers. An import that\n" +
			"broke off says where; go on with --from.",
		Args: takes(1),
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
			if format != "csv" {
				return i.run(func(w io.Writer) error { return i.sendNDJSON(w, in) })
			}
			table, names, err := openTable(in)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return i.run(func(w io.Writer) error { return i.sendCSV(w, table, names) })
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

	created, last int // answered: offers, number of the last line

	mu     sync.Mutex // refusals come from the server, and from whoever reads a table
	failed int
}

// refuse says that a line was refused.
func (i *offerImport) refuse(line int, why error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failed++
	i.cmd.PrintErrf("line %d: %v\n", line, why)
}

// unreadable is a line at which a file cannot be read on.
type unreadable struct {
	line int
	err  error
}

func (u *unreadable) Error() string { return fmt.Sprintf("line %d cannot be read: %v", u.line, u.err) }

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
		_ = w.Close() // what was sent before an error is whole lines: they are answered
		sent <- err
	}()
	err = i.exchange(ctx, body)
	_ = body.CloseWithError(errStopped) // the writing side ends, if the server has not read it to the end
	sending := <-sent
	var stop *unreadable
	if err == nil && errors.As(sending, &stop) {
		return fmt.Errorf("%w\nWhat stands before it is answered: %d offers created, %d refused. Repair it, then go on with --from %d",
			stop, i.created, i.failed, stop.line)
	}
	if sending != nil && !errors.Is(sending, errStopped) {
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
			i.refuse(a.Line, a.Problem)
		}
		i.last = a.Line
	}
}

// sendNDJSON sends the lines of a file.
func (i *offerImport) sendNDJSON(w io.Writer, in io.Reader) error {
	out, lines, n := bufio.NewWriter(w), bufio.NewScanner(in), 1
	for ; lines.Scan(); n++ {
		if n >= i.from {
			_, _ = out.Write(lines.Bytes()) // the Flush has the error
		}
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
	err := lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		err = fmt.Errorf("it is longer than %d bytes", bufio.MaxScanTokenSize)
	}
	if err != nil {
		err = &unreadable{n, err}
	}
	return errors.Join(err, out.Flush())
}

// openTable reads the first row of a table, the names of the fields.
func openTable(in io.Reader) (*csv.Reader, []string, error) {
	r := csv.NewReader(in)
	r.TrimLeadingSpace = true
	row, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, nil, errors.New("the file is empty; its first row must name the fields")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the first row must name the fields: %w", err)
	}
	var all, names []string
	for _, f := range slices.Concat(createFlags, changeFlags) {
		all = append(all, f.field)
	}
	for _, name := range row {
		if name = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")); !slices.Contains(all, name) {
			return nil, nil, fmt.Errorf("the first row names %q, which is no field of an offer; they are %s", name, strings.Join(all, ", "))
		}
		if slices.Contains(names, name) {
			return nil, nil, fmt.Errorf("the first row names %s twice", name)
		}
		names = append(names, name)
	}
	return r, names, nil
}

// sendCSV sends the rows of a table as JSON, each on the line on which it begins.
func (i *offerImport) sendCSV(w io.Writer, r *csv.Reader, names []string) error {
	out, now, next := bufio.NewWriter(w), time.Now(), 1
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		var broken *csv.ParseError
		if errors.As(err, &broken) && !errors.Is(err, csv.ErrFieldCount) {
			return errors.Join(&unreadable{broken.StartLine, broken.Err}, out.Flush())
		}
		if err != nil && broken == nil {
			return err
		}
		line, _ := r.FieldPos(0)
		if line < i.from {
			continue
		}
		body, err := rowJSON(names, row, now)
		if err != nil {
			i.refuse(line, err)
			continue
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
	if len(row) != len(names) {
		return nil, fmt.Errorf("it has %d cells, the first row names %d fields", len(row), len(names))
	}
	fields := map[string]any{}
	for i, text := range row {
		name := names[i]
		if strings.TrimSpace(text) == "" {
			continue
		}
		if fields[name], err = offerValue(name, text, now); err != nil {
			return nil, fmt.Errorf("%s %w", name, err)
		}
	}
	return json.Marshal(fields)
}
