package bench

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

func cpuOf(list []Process) (sum float64) {
	for _, p := range list {
		sum += p.CPU
	}
	return sum
}

// processes writes where each microsecond of CPU time goes: a column for each case, a line for each process, under it
// its stages, in the round that was profiled, in the proportions of that round. Figures of a process are medians.
func (r *Report) processes(b *strings.Builder) {
	fmt.Fprintf(b, "\n%-40s", "CPU time per stored order, us")
	for i := range r.Cases {
		name, _, _ := strings.Cut(r.Cases[i].Name, ",")
		fmt.Fprintf(b, " %22s", name)
	}
	b.WriteByte('\n')
	for _, name := range r.processNames() {
		r.processLine(b, name, func(c *Case) float64 { return c.process(name) })
		for _, stage := range r.stageNames(name) {
			r.processLine(b, "  of it "+stage, func(c *Case) float64 { return c.stage(name, stage) })
		}
	}
	r.processLine(b, "all", func(c *Case) float64 {
		return c.median(func(round *Round) float64 { return cpuOf(round.Processes) })
	})
	r.processLine(b, fmt.Sprintf("of %d cores in that time", runtime.NumCPU()), func(c *Case) float64 {
		return c.median(func(round *Round) float64 { return float64(runtime.NumCPU()) * 1e6 / max(1, round.Rate) })
	})
}

func (r *Report) processLine(b *strings.Builder, name string, value func(c *Case) float64) {
	fmt.Fprintf(b, "%-40s", name)
	for i := range r.Cases {
		fmt.Fprintf(b, " %22s", orDash("%.1f", value(&r.Cases[i])))
	}
	b.WriteByte('\n')
}

// processNames are the names of all processes, in the order in which they were first seen.
func (r *Report) processNames() (names []string) {
	for i := range r.Cases {
		for j := range r.Cases[i].Rounds {
			for _, p := range r.Cases[i].Rounds[j].Processes {
				if !slices.Contains(names, p.Name) {
					names = append(names, p.Name)
				}
			}
		}
	}
	return names
}

// stageNames are the stages of a process in the order in which they are looked for.
func (r *Report) stageNames(process string) (names []string) {
	for _, s := range stages {
		names = append(names, s.name)
	}
	return slices.DeleteFunc(append(names, otherStage), func(stage string) bool {
		return !slices.ContainsFunc(r.Cases, func(c Case) bool { return c.stage(process, stage) > 0 })
	})
}

// process is the median of what a process used for an order.
func (c *Case) process(name string) float64 {
	return c.median(func(round *Round) float64 { return round.cpuOf(name) })
}

// cpuOf is what a process used for an order; 0 if it was not there.
func (round *Round) cpuOf(name string) float64 {
	for _, p := range round.Processes {
		if p.Name == name {
			return p.CPU
		}
	}
	return 0
}

// stage is the part of a stage in the median of its process, as it was in the round that was profiled.
func (c *Case) stage(process, stage string) float64 {
	for i := range c.Rounds {
		for _, p := range c.Rounds[i].Processes {
			for _, s := range p.Stages {
				if p.Name == process && s.Name == stage && p.CPU > 0 {
					return c.process(process) * s.CPU / p.CPU
				}
			}
		}
	}
	return 0
}
