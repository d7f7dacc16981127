package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fasthttp"

	"sluice/bench/audit"
	"sluice/bench/load"
	"sluice/engine/order"
)

// Step is one kind of request of a visit.
type Step struct {
	Name   string         `json:"name"`
	Answer Latency        `json:"answer_ms"`
	Errors int            `json:"errors"` // answers other than the one that belongs here, and none
	Codes  map[string]int `json:"codes,omitempty"`
}

// The steps of a visit, in their order. The first one counts from its intended moment, the others from their sending.
const (
	stepOffer = iota
	stepPlace
	stepPoll
	stepList
	stepCancel // every other visit
	stepOffers // the others
	steps
)

var stepNames = [steps]string{"offer page", "order", "poll until stored", "list", "cancel", "offers"}

const (
	pollPause = 50 * time.Millisecond // between two polls of a buyer
	visitsMax = 4096                  // at once
)

// browse sends people: visits at a rate, each of them at least five requests.
func (r *runner) browse(ctx context.Context) error {
	cases := r.cases(fmt.Sprintf("%.0f visits/s", r.o.Rate))
	for n := range r.o.Rounds {
		for _, c := range cases {
			round, err := r.visits(ctx, c.Connections)
			if err != nil {
				return err
			}
			c.Rounds = append(c.Rounds, *round)
			r.say("round %d of %d, %s: %s", n+1, r.o.Rounds, c.Name, round.line())
		}
	}
	return nil
}

// visits is one round.
func (r *runner) visits(ctx context.Context, connections int) (*Round, error) {
	s, err := startServer(ctx, r.o)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = s.stop() }()
	spec, err := r.carts(ctx, s)
	if err != nil {
		return nil, err
	}
	spec.Count = int(r.o.Rate * r.o.Duration.Seconds())
	reqs, err := load.Build(spec)
	if err != nil {
		return nil, err
	}
	base, err := s.ops.stored(ctx)
	if err != nil {
		return nil, err
	}
	round := &Round{Quiet: true}
	r.quietBefore(ctx, round)
	profile := r.startProfile(ctx, s, r.o.Profile)
	before := cpu(s.pid())
	w := startWatch(ctx, s.ops, 0)
	v := newVisitors(s.gateway, connections, reqs)
	began := time.Now()
	v.run(ctx, r.o.Rate)
	took := time.Since(began)
	accepted := 0
	for i := range v.history {
		if v.history[i].Order != 0 {
			accepted++
		}
	}
	last, err := w.settle(ctx, base+int64(accepted), true)
	if err != nil {
		return nil, err
	}
	w.note(round)
	r.quietAfter(round)
	if err := profile(round); err != nil {
		return nil, err
	}
	round.Sent = load.Counts{Sent: reqs.Len(), Answered: reqs.Len(), Accepted: accepted}
	round.Stored, round.Seconds = last.stored-base, last.at.Sub(began).Seconds()
	round.Rate = float64(round.Stored) / round.Seconds
	requests := 0
	round.Steps, requests = v.report()
	round.Answers, round.Answer = float64(requests)/took.Seconds(), round.Steps[stepOffer].Answer
	round.CPU = (cpu(s.pid()) - before) * 1e6 / float64(max(1, requests))
	round.server(s)
	if err := r.judge(ctx, s, round, v.history); err != nil {
		return nil, err
	}
	_, err = s.stop()
	return round, err
}

// visitors is the load of a browse round.
type visitors struct {
	client  *fasthttp.HostClient
	reqs    *load.Requests
	began   time.Time
	history []audit.Entry

	mu    sync.Mutex
	times [steps]*hdrhistogram.Histogram
	codes [steps]map[string]int
	wrong [steps]int
}

func newVisitors(addr string, connections int, reqs *load.Requests) *visitors {
	v := &visitors{reqs: reqs, history: make([]audit.Entry, reqs.Len()), client: &fasthttp.HostClient{
		Addr: addr, MaxConns: connections, MaxConnWaitTimeout: 20 * time.Second, ReadTimeout: 20 * time.Second, MaxIdemponentCallAttempts: 1,
	}}
	for i := range v.times {
		v.times[i], v.codes[i] = load.NewHistogram(), map[string]int{}
	}
	return v
}

// run starts every visit at its moment and waits for all of them.
func (v *visitors) run(ctx context.Context, rate float64) {
	defer v.client.CloseIdleConnections()
	v.began = time.Now()
	slots := make(chan struct{}, visitsMax)
	var visits sync.WaitGroup
	for i := range v.reqs.Len() {
		intended := v.began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		select {
		case <-ctx.Done():
			visits.Wait()
			v.history = v.history[:i]
			return
		case <-time.After(time.Until(intended)):
		}
		slots <- struct{}{}
		visits.Go(func() {
			v.visit(i, intended)
			<-slots
		})
	}
	visits.Wait()
}

func (v *visitors) visit(i int, intended time.Time) {
	offers := v.reqs.Cart(i)
	v.get(stepOffer, "/v1/offers/"+strconv.FormatUint(uint64(offers[0]), 10), -1, intended)
	id := v.place(i)
	if id == 0 {
		return
	}
	path := "/v1/orders/" + id.String()
	for begun := time.Now(); ; time.Sleep(pollPause) {
		body := v.get(stepPoll, path, i, time.Now())
		if !bytes.Contains(body, []byte(`"status":"pending"`)) || time.Since(begun) > settleWait {
			break
		}
	}
	v.get(stepList, "/v1/orders?limit=5", i, time.Now())
	if i%2 == 0 {
		v.do(stepCancel, "POST", path+"/cancel", i, time.Now())
	} else {
		v.get(stepOffers, "/v1/offers?kind=normal&limit=20", -1, time.Now())
	}
}

// place places order i and returns its id, or 0.
func (v *visitors) place(i int) order.ID {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI("http://sluice/v1/orders")
	req.Header.SetMethod("POST")
	req.Header.SetContentType("application/json")
	req.Header.Set("Authorization", "Bearer "+v.reqs.Token(i))
	req.Header.Set("Idempotency-Key", v.reqs.Key(i))
	req.SetBody(v.reqs.Body(i))
	sent := time.Now()
	code, err := 0, v.client.Do(req, res)
	if err == nil {
		code = res.StatusCode()
	}
	answered := time.Now()
	v.note(stepPlace, answered.Sub(sent), code, 202)
	var id order.ID
	if code == 202 {
		var out struct{ ID string }
		if json.Unmarshal(res.Body(), &out) == nil {
			n, _ := order.ParseID(out.ID)
			id = order.ID(n)
		}
	}
	v.history[i] = audit.Entry{User: v.reqs.User(i), Key: v.reqs.Key(i), Order: id, Units: int64(v.reqs.Units(i)), Code: code,
		Sent: sent.UnixMicro(), Answered: answered.UnixMicro()}
	return id
}

func (v *visitors) get(step int, path string, buyer int, intended time.Time) []byte {
	return v.do(step, "GET", path, buyer, intended)
}

// do sends a request of buyer i (-1: of nobody), which is to be answered with 200, and returns the answer's body.
func (v *visitors) do(step int, method, path string, buyer int, intended time.Time) []byte {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI("http://sluice" + path)
	req.Header.SetMethod(method)
	if buyer >= 0 {
		req.Header.Set("Authorization", "Bearer "+v.reqs.Token(buyer))
	}
	code := 0
	if err := v.client.Do(req, res); err == nil {
		code = res.StatusCode()
	}
	v.note(step, time.Since(intended), code, 200)
	return bytes.Clone(res.Body())
}

func (v *visitors) note(step int, took time.Duration, code, want int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.times[step].RecordValue(took.Microseconds())
	if code != want {
		v.wrong[step]++
		v.codes[step][strconv.Itoa(code)]++
	}
}

func (v *visitors) report() (list []Step, requests int) {
	for i := range v.times {
		l := latency(v.times[i])
		requests += int(l.Count)
		list = append(list, Step{Name: stepNames[i], Answer: l, Errors: v.wrong[i], Codes: v.codes[i]})
	}
	return list, requests
}
