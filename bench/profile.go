package bench

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Stage is a part of a server's CPU time per order.
type Stage struct {
	Name string  `json:"name"`
	CPU  float64 `json:"cpu_us_per_order"`
}

// stages say to which part of the server a stack belongs: the first of them of which a frame begins like this.
var stages = []struct {
	name   string
	frames []string
}{
	{"record", []string{"sluice/persist/store.(*Store).Record"}},
	{"claim", []string{"sluice/persist/store.(*Store).Claim"}},
	{"persist, rest", []string{"sluice/persist."}},
	{"queue", []string{"sluice/engine/queue/"}},
	{"fast stock", []string{"sluice/engine/stock/"}},
	{"engine", []string{"sluice/engine."}},
	{"gateway", []string{"sluice/gateway."}},
	{"lifecycle", []string{"sluice/lifecycle."}},
	{"http, sockets", []string{"github.com/valyala/fasthttp."}},
	{"garbage", []string{"runtime.gcBgMarkWorker", "runtime.bgsweep", "runtime.bgscavenge"}},
	{"scheduler", []string{"runtime.mcall", "runtime.mstart", "runtime.sysmon"}},
}

const otherStage = "the rest"

// errNoSamples: the process did nothing while it was profiled, or the load was over too soon.
var errNoSamples = errors.New("the profile has no samples")

// stagesOf divides cpu in the proportions of a CPU profile as Go writes it.
func stagesOf(profile []byte, cpu float64) ([]Stage, error) {
	p, err := parseProfile(profile)
	if err != nil {
		return nil, err
	}
	weights := map[string]float64{}
	total := 0.0
	for _, s := range p.samples {
		weights[p.stage(s.stack)] += s.weight
		total += s.weight
	}
	if total == 0 {
		return nil, errNoSamples
	}
	var list []Stage
	add := func(name string) {
		if w := weights[name]; w > 0 {
			list = append(list, Stage{name, cpu * w / total})
		}
	}
	for _, s := range stages {
		add(s.name)
	}
	add(otherStage)
	return list, nil
}

// cpuProfile is what is read of a profile (profile.proto of pprof).
type cpuProfile struct {
	samples   []sampled
	locations map[uint64][]uint64 // functions of a place in the code, several where calls were inlined
	functions map[uint64]uint64   // place of the name in texts
	texts     []string
}

type sampled struct {
	stack  []uint64 // locations
	weight float64
}

func (p *cpuProfile) stage(stack []uint64) string {
	for _, s := range stages {
		for _, location := range stack {
			for _, f := range p.locations[location] {
				if p.named(f, s.frames) {
					return s.name
				}
			}
		}
	}
	return otherStage
}

func (p *cpuProfile) named(function uint64, prefixes []string) bool {
	at := p.functions[function]
	if at >= uint64(len(p.texts)) {
		return false
	}
	for _, prefix := range prefixes {
		if strings.HasPrefix(p.texts[at], prefix) {
			return true
		}
	}
	return false
}

func parseProfile(b []byte) (*cpuProfile, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if b, err = io.ReadAll(r); err != nil {
		return nil, err
	}
	p := &cpuProfile{locations: map[uint64][]uint64{}, functions: map[uint64]uint64{}}
	return p, fields(b, func(number protowire.Number, _ uint64, b []byte) error {
		switch number {
		case 2:
			return p.sample(b)
		case 4:
			return p.location(b)
		case 5:
			return p.function(b)
		case 6:
			p.texts = append(p.texts, string(b))
		}
		return nil
	})
}

// sample reads the stack, and the last of its values: nanoseconds.
func (p *cpuProfile) sample(b []byte) error {
	var s sampled
	err := fields(b, func(number protowire.Number, v uint64, b []byte) error {
		values := []uint64{v}
		if b != nil {
			values = values[:0]
			for len(b) > 0 {
				v, n := protowire.ConsumeVarint(b)
				if n < 0 {
					return protowire.ParseError(n)
				}
				values, b = append(values, v), b[n:]
			}
		}
		switch {
		case number == 1:
			s.stack = append(s.stack, values...)
		case number == 2 && len(values) > 0:
			s.weight = float64(values[len(values)-1])
		}
		return nil
	})
	p.samples = append(p.samples, s)
	return err
}

func (p *cpuProfile) location(b []byte) error {
	var id uint64
	var functions []uint64
	err := fields(b, func(number protowire.Number, v uint64, b []byte) error {
		switch number {
		case 1:
			id = v
		case 4: // a line
			return fields(b, func(number protowire.Number, v uint64, _ []byte) error {
				if number == 1 {
					functions = append(functions, v)
				}
				return nil
			})
		}
		return nil
	})
	p.locations[id] = functions
	return err
}

func (p *cpuProfile) function(b []byte) error {
	var id, name uint64
	err := fields(b, func(number protowire.Number, v uint64, _ []byte) error {
		switch number {
		case 1:
			id = v
		case 2:
			name = v
		}
		return nil
	})
	p.functions[id] = name
	return err
}

// fields calls f for every field of a message: with its number, or with its bytes, which are not nil then.
func fields(b []byte, f func(number protowire.Number, v uint64, b []byte) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(number, v, bytes); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
