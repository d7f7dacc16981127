package ops

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"sluice/engine/order"
)

// healthz says that the process runs and answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, "application/json", []byte(`{"status":"ok"}`+"\n"))
}

// readyz says whether the process can do all of its work, and names what is missing.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	missing := s.program.Missing()
	if len(missing) == 0 {
		write(w, http.StatusOK, "application/json", []byte(`{"status":"ready"}`+"\n"))
		return
	}
	write(w, http.StatusServiceUnavailable, "application/json",
		encode(map[string]any{"status": "not_ready", "missing": missing}))
}

func (s *Server) stats(*http.Request) (int, any, error) {
	return http.StatusOK, s.program.Stats(), nil
}

func (s *Server) config(*http.Request) (int, any, error) {
	return http.StatusOK, s.program.Config(), nil
}

// reload reads the configuration again and brings it into force; with ?dry_run=1 it only says what would change.
func (s *Server) reload(r *http.Request, e *entry) (int, any, error) {
	dry := false
	if given := r.URL.Query().Get("dry_run"); given != "" {
		var err error
		if dry, err = strconv.ParseBool(given); err != nil {
			return 0, nil, invalid("?dry_run must be 1 or 0")
		}
	}
	out, err := s.program.Reload(dry)
	if err == nil {
		e.note(change{What: "configuration", To: out})
	}
	return http.StatusOK, out, err
}

func (s *Server) metrics(*http.Request) (int, any, error) {
	var b bytes.Buffer
	s.program.Metrics(&b)
	return http.StatusOK, rawBody{"text/plain; version=0.0.4; charset=utf-8", b.Bytes()}, nil
}

func (s *Server) stock(r *http.Request) (int, any, error) {
	partitions, err := s.program.Stock(r.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"partitions": partitions}, nil
}

// rebuild asks for a rebuild of the partitions that the body names, or of all: {"partitions":[0,1]}. The answer does not
// wait for it.
func (s *Server) rebuild(r *http.Request, e *entry) (int, any, error) {
	b, err := body(r, bodyMax)
	if err != nil {
		return 0, nil, err
	}
	partitions, err := parsePartitions(b)
	if err != nil {
		return 0, nil, err
	}
	if err := s.program.Rebuild(r.Context(), partitions); err != nil {
		return 0, nil, err
	}
	e.note(change{What: "fast stock", Field: "partitions", To: partitions}) // null: all of them
	answer := map[string]any{"status": "asked"}
	if len(partitions) > 0 { // otherwise all of them
		answer["partitions"] = partitions
	}
	return http.StatusAccepted, answer, nil
}

// parsePartitions reads the body of a rebuild: nil for all. A null is no partition, least of all the first.
func parsePartitions(b []byte) (list []order.Partition, err error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	var in *struct {
		Partitions *[]*order.Partition `json:"partitions"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	good := d.Decode(&in) == nil && !d.More() && in != nil && in.Partitions != nil && len(*in.Partitions) > 0
	for i := 0; good && i < len(*in.Partitions); i++ {
		if p := (*in.Partitions)[i]; p != nil {
			list = append(list, *p)
		}
	}
	if !good || len(list) < len(*in.Partitions) {
		return nil, invalid(`the body must be empty, for all partitions, or such as {"partitions":[0,1]}`)
	}
	return list, nil
}
