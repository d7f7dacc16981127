package bench

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

//go:embed report.html
var reportPage string

// ReadReport reads a report that was written as JSON.
func ReadReport(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s is no report of bench -o json: %w", path, err)
	}
	return r, nil
}

// HTML writes the report as one page that needs nothing else. With another report its cases of the same names are drawn
// beside: it in full lines, the other one dashed.
func (r *Report) HTML(w io.Writer, against *Report) error {
	page, err := template.New("report").Parse(reportPage)
	if err != nil {
		panic("BUG: the report's page does not parse: " + err.Error())
	}
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		return err
	}
	data := struct {
		*Report
		Against *Report
		Unit    string
		Rows    []pageCase
		Text    string
		Passed  bool
	}{Report: r, Against: against, Unit: r.unit(), Text: text.String(), Passed: r.Passed()}
	for i := range r.Cases {
		data.Rows = append(data.Rows, pageCaseOf(&r.Cases[i], against.find(r.Cases[i].Name)))
	}
	return page.Execute(w, data)
}

// find is the case of that name; nil if there is none.
func (r *Report) find(name string) *Case {
	if r != nil {
		for i := range r.Cases {
			if r.Cases[i].Name == name {
				return &r.Cases[i]
			}
		}
	}
	return nil
}

// pageCase is a case as the page shows it.
type pageCase struct {
	Name          string
	Rate, Share   string
	Latency       Latency
	Verdict       string
	Other, Change string // the other report's rate, and the difference
	OtherP99      string
	Charts        []template.HTML
	Steps         []Step
	Ordinary      *Ordinary
	Refused       string // counts by reason
}

// typical is the round whose rate is nearest to the case's median.
func (c *Case) typical() *Round {
	if c == nil || len(c.Rounds) == 0 {
		return &Round{}
	}
	best := &c.Rounds[0]
	for i := range c.Rounds {
		if math.Abs(c.Rounds[i].Rate-c.Rate) < math.Abs(best.Rate-c.Rate) {
			best = &c.Rounds[i]
		}
	}
	return best
}

func pageCaseOf(c, other *Case) pageCase {
	round := c.typical()
	p := pageCase{Name: c.Name, Rate: fmt.Sprintf("%.0f/s", c.Rate), Share: orDash("%.3f", c.Share), Latency: round.Answer,
		Verdict: round.Verdict, Steps: round.Steps, Ordinary: round.Ordinary,
		Refused: strings.TrimPrefix(reasons(round.Sent.Refused), ", ")}
	var old *Series
	if other != nil {
		p.Other, p.OtherP99 = fmt.Sprintf("%.0f/s", other.Rate), fmt.Sprintf("%.2f ms", other.typical().Answer.P99)
		if other.Rate > 0 {
			p.Change = fmt.Sprintf("%+.0f %%", 100*(c.Rate/other.Rate-1))
		}
		old = other.typical().Series
	}
	if s := round.Series; s != nil {
		p.Charts = charts(s, old)
	}
	if round.Day != nil {
		rates, lag, memory := round.Day.curves()
		p.Charts = append(p.Charts, chart("per second", rates), chart("lag, ms", lag), chart("memory, MiB", memory))
	}
	return p
}

// charts draws a series, and another one beside it (nil: none).
func charts(s, old *Series) (list []template.HTML) {
	if old == nil {
		old = &Series{}
	}
	list = append(list, chart("per second", []curve{
		{"answers", 0, s.Answered, old.Answered}, {"with an order", 1, s.Accepted, old.Accepted}, {"stored", 2, s.Stored, old.Stored}}))
	list = append(list, chart("time to the answer, ms", []curve{{"p50", 0, s.P50, old.P50}, {"p99", 3, s.P99, old.P99}}))
	var refused []curve
	for i, reason := range slices.Sorted(maps.Keys(s.Refused)) {
		refused = append(refused, curve{reason, i % colours, s.Refused[reason], old.Refused[reason]})
	}
	if len(refused) > 0 {
		list = append(list, chart("refused per second, by reason", refused))
	}
	if len(s.Remaining) > 0 {
		list = append(list, chart("units left", []curve{{"remaining", 0, s.Remaining, old.Remaining}}))
	}
	return list
}

// curve is one line of a chart, in the colour of a number; old is drawn dashed.
type curve struct {
	name   string
	colour int
	now    []float64
	old    []float64
}

// Size of a chart in its own units, and the number of colours that the page has.
const (
	chartWidth, chartHeight = 720.0, 200.0
	chartLeft, chartBottom  = 56.0, 22.0
	colours                 = 5
)

// chart draws curves over seconds as SVG. All texts are our own or numbers, but for codes, which are escaped.
func chart(title string, curves []curve) template.HTML {
	seconds, most := 2, 0.0
	for _, c := range curves {
		seconds = max(seconds, len(c.now), len(c.old))
		for _, v := range slices.Concat(c.now, c.old) {
			most = max(most, v)
		}
	}
	most = niceAbove(most)
	x := func(i int) float64 { return chartLeft + float64(i)*(chartWidth-chartLeft-8)/float64(seconds-1) }
	y := func(v float64) float64 { return 8 + (chartHeight-chartBottom-8)*(1-v/most) }
	b := &strings.Builder{}
	fmt.Fprintf(b, `<figure><figcaption>%s</figcaption><svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`,
		template.HTMLEscapeString(title), chartWidth, chartHeight, template.HTMLEscapeString(title))
	for i := range 5 {
		v := most * float64(i) / 4
		fmt.Fprintf(b, `<line class="grid" x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f"/><text x="%.0f" y="%.1f" text-anchor="end">%s</text>`,
			chartLeft, chartWidth-8, y(v), y(v), chartLeft-6, y(v)+4, short(v))
	}
	for i := range 5 {
		at := (seconds - 1) * i / 4
		fmt.Fprintf(b, `<text x="%.1f" y="%.0f" text-anchor="middle">%d s</text>`, x(at), chartHeight-4, at)
	}
	for _, c := range curves {
		for _, line := range []struct {
			values []float64
			class  string
		}{{c.old, "old"}, {c.now, "now"}} {
			if len(line.values) == 0 {
				continue
			}
			fmt.Fprintf(b, `<polyline class="%s c%d" points="`, line.class, c.colour)
			for i, v := range line.values {
				fmt.Fprintf(b, "%.1f,%.1f ", x(i), y(v))
			}
			b.WriteString(`"/>`)
		}
	}
	b.WriteString("</svg><p class=legend>")
	for _, c := range curves {
		fmt.Fprintf(b, `<span class="c%d">%s</span> `, c.colour, template.HTMLEscapeString(c.name))
	}
	b.WriteString("</p></figure>")
	return template.HTML(b.String())
}

// niceAbove is the first of 1, 2, 4, 5, 8 times a power of ten that is not below v.
func niceAbove(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 4, 5, 8, 10} {
		if m*power >= v {
			return m * power
		}
	}
	return 20 * power
}

// short writes a number for an axis.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + " M"
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 3, 64) + " k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
