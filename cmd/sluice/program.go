package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/configs"
	"sluice/engine"
	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/gateway/ops"
)

// program is the server as the ops listener sees it. The listener starts before the engine, so everything here looks
// whether its stage is there yet.
func (s *Server) program() ops.Program {
	p := ops.Program{
		Offers:  s.store,
		Parked:  stuck{s.store, s},
		Letters: stuck{s.store, s},
		Order:   s.store.Order,
		Feed:    s.store,
		Stats:   func() any { return s.stats() },
		Config:  s.effective,
		Reload:  s.reload,
		Metrics: s.metrics,
		Live:    s.live,
		Missing: s.missing,
		Lacking: s.role().elsewhere(configs.RoleGateway, "sell"),
	}
	if s.role().sells() {
		p.Catalogue, p.Stock, p.Rebuild = catalogue{s}, s.fastStock, s.rebuild
	}
	return p
}

// running is the engine once it has started; before, nil.
func (s *Server) running() *engine.Engine { return s.selling.Load() }

// missing says in words what this process still waits for.
func (s *Server) missing() []string {
	if r := s.role(); !r.sells() {
		if s.stages()[r.stage()] == nil {
			return []string{r.stage() + " is starting"}
		}
		return s.unreachable()
	}
	e := s.running()
	if e == nil {
		return []string{"the engine is starting"}
	}
	list := []string{}
	if !s.ids.Ready() {
		list = append(list, "no lease of a node number covers this moment")
	}
	for _, p := range e.Ready() {
		if p.State != "open" {
			list = append(list, fmt.Sprintf("partition %d (%s) is %s", p.Partition, p.Kind, p.State))
		}
	}
	return list
}

// catalogue is the engine's, for the ops listener.
type catalogue struct{ s *Server }

func (c catalogue) Offer(id order.OfferID) (o order.Offer, left int64, ok bool) {
	if e := c.s.running(); e != nil {
		if offer := e.Offer(id); offer != nil {
			return offer.Offer, offer.Left(), true
		}
	}
	return order.Offer{}, 0, false
}

func (c catalogue) Offers(after order.OfferID) iter.Seq[*order.Offer] {
	return func(yield func(*order.Offer) bool) {
		e := c.s.running()
		if e == nil {
			return
		}
		list := e.Offers()
		first, _ := slices.BinarySearchFunc(list, after+1, func(o *engine.Offer, id order.OfferID) int { return cmp.Compare(o.ID, id) })
		for _, o := range list[first:] {
			if !yield(&o.Offer) {
				return
			}
		}
	}
}

func (c catalogue) Sellable(o *order.Offer) bool {
	e := c.s.running()
	if e == nil {
		return false
	}
	known := e.Offer(o.ID)
	return known != nil && shows(&known.Offer, o) && slices.ContainsFunc(e.Ready(), func(p engine.PartitionState) bool {
		return p.Partition == known.Partition && p.State == "open" && p.Applied >= o.Created
	})
}

func (c catalogue) Sells(kind order.Kind) bool { return slices.Contains(c.s.config.Engine.Kinds, kind) }

// shows tells whether the catalogue's offer has what an edit wrote. A lowered total takes effect with a rebuild, which
// finds it wanted and lowers it as far as what is sold allows.
func shows(known, edited *order.Offer) bool {
	total := known.Total == edited.Total
	if edited.Wanted < edited.Total {
		total = known.Total < edited.Total
	}
	return total && known.Title == edited.Title && known.PriceVersion >= edited.PriceVersion && known.Opens == edited.Opens &&
		known.Closes == edited.Closes
}

// fastStock reads the fast stock of every partition for the auditor. A partition that is not open has its state only.
func (s *Server) fastStock(ctx context.Context) ([]ops.Stock, error) {
	list := []ops.Stock{}
	e := s.running()
	if e == nil {
		return list, nil
	}
	for _, p := range e.Ready() {
		st := ops.Stock{Partition: p.Partition, Kind: p.Kind.String(), State: p.State, Logged: p.Logged, Waiting: p.Waiting}
		snap, epoch, err := e.Snapshot(ctx, p.Partition)
		var notReady *stock.NotReady
		switch {
		case errors.As(err, &notReady):
			st.State = "recovering"
		case err != nil:
			return nil, fmt.Errorf("fast stock of partition %d: %w", p.Partition, err)
		default:
			fill(&st, snap, epoch)
		}
		backlog, err := s.queue.Backlog(ctx, p.Partition)
		if err != nil {
			return nil, fmt.Errorf("backlog of partition %d: %w", p.Partition, err)
		}
		st.Backlog = backlog.Messages
		list = append(list, st)
	}
	return list, nil
}

func fill(st *ops.Stock, snap *stock.Snapshot, epoch order.Epoch) {
	st.Epoch, st.Applied, st.Outbox = order.ID(epoch).String(), snap.Applied, snap.Batches
	st.Left = make(map[string]int64, len(snap.Left))
	for _, l := range snap.Left {
		st.Left[order.ID(l.Offer).String()] = l.Units
	}
	st.Buyers = make([][3]any, 0, len(snap.Buyers))
	for _, b := range snap.Buyers {
		st.Buyers = append(st.Buyers, [3]any{order.ID(b.Offer).String(), order.ID(b.User).String(), b.Units})
	}
}

// rebuild asks for a rebuild of the named partitions of this process, or of all of them.
func (s *Server) rebuild(ctx context.Context, named []order.Partition) error {
	e := s.running()
	if e == nil {
		return &ops.Problem{Status: 503, Code: "not_ready", Detail: "the engine is starting"}
	}
	mine := e.Ready()
	for _, p := range named {
		if !slices.ContainsFunc(mine, func(m engine.PartitionState) bool { return m.Partition == p }) {
			return &ops.Problem{Status: 404, Code: "not_found", Detail: fmt.Sprintf("partition %d is not one of this process", p)}
		}
	}
	for _, p := range mine {
		if len(named) == 0 || slices.Contains(named, p.Partition) {
			if err := e.RequestRebuild(ctx, p.Partition); err != nil {
				return err
			}
		}
	}
	return nil
}

// configState is the configuration in force and what is known of reloads.
func (s *Server) configState() (*configs.Config, ReloadState) {
	if r := s.reloader.Load(); r != nil {
		return r.config()
	}
	return s.config, ReloadState{Generation: 1, Hash: s.config.Hash(), Since: s.began}
}

// effective is the configuration in force for the ops listener.
func (s *Server) effective() any {
	c, state := s.configState()
	shown := effective(c)
	shown["generation"], shown["hash"] = state.Generation, state.Hash
	return shown
}

// reload reads the configuration again for the ops listener.
func (s *Server) reload(dry bool) (any, error) {
	r := s.reloader.Load()
	if r == nil {
		return nil, &ops.Problem{Status: 503, Code: "not_ready", Detail: "the server is starting"}
	}
	out, err := r.reload("the ops listener", dry)
	var fixed *configs.FixedError
	switch {
	case errors.As(err, &fixed):
		p := &ops.Problem{Status: 409, Code: "fixed_setting", Detail: "Nothing was changed: restart the server for these settings."}
		for _, c := range fixed.Changes {
			p.Errors = append(p.Errors, ops.FieldProblem{Pointer: c.Path, Detail: fmt.Sprintf("is fixed: %v -> %v", c.Old, c.New)})
		}
		return nil, p
	case err != nil:
		return nil, &ops.Problem{Status: 422, Code: "invalid_configuration", Detail: "Nothing was changed. " + err.Error()}
	}
	return out, nil
}

// stats is one snapshot of every stage.
func (s *Server) stats() map[string]any {
	all := map[string]any{
		"version": version, "commit": commit(), "go": runtime.Version(), "role": s.config.Role, "uptime_seconds": time.Since(s.began).Seconds(),
		"missing": s.missing(), "resident_bytes": residentBytes(),
	}
	_, state := s.configState()
	all["config"] = plain(reflect.ValueOf(state))
	all["secrets"] = plain(reflect.ValueOf(s.vault.status()))
	for name, report := range s.stages() {
		all[name] = plain(reflect.ValueOf(report()))
	}
	all["present"] = plain(reflect.ValueOf(s.present()).Elem())
	if e := s.running(); e != nil {
		all["partitions"] = plain(reflect.ValueOf(e.Ready()))
	}
	return all
}

// residentBytes is the memory of this process that is not swapped out; 0 where the system does not say.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
