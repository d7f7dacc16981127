package ops

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/gateway/limit"
	"sluice/internal/fsync"
)

// AuditLog is a file that says who has changed what by the ops listener: one JSON object per line, each on the disk before
// its call goes on. A call has two, and a batch one more for each chunk:
//
//	{"time":"2026-11-28T01:20:00.12Z","event":"asked","request_id":"5d..","who":"alice","peer":"10.0.0.7:4012","method":"PATCH","path":"/ops/offers/17"}
//	{..,"event":"changed",..,"changes":[..]}
//	{..,"event":"answered",..,"status":200,"changes":[{"what":"offer 17","field":"total","from":100,"to":120}]}
//	{..,"event":"refused",..,"status":401}
//
// A call that cannot be written down as asked is not done: 503. One that was done, and whose answer cannot be written down,
// is answered as it was done, for that has happened: it stands there as asked, and its changes are in the program's log.
//
// The file is opened anew for each line, so that it may be moved away at any time, by logrotate for one. What a line holds is
// neither personal nor secret: addresses of offers and orders, numbers, settings. All methods are safe for concurrent use.
type AuditLog struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex // one line at a time
	refused limit.Global
	missed  int64 // refused calls since the last line about one
}

// auditRecord is one line.
type auditRecord struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	ID      string    `json:"request_id"`
	Who     string    `json:"who,omitempty"`
	Peer    string    `json:"peer"`
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Status  int       `json:"status,omitempty"`
	Code    string    `json:"code,omitempty"`    // of the problem that was answered
	Missed  int64     `json:"missed,omitempty"`  // calls refused before this one that were too many to be written
	Changes []change  `json:"changes,omitempty"` // what was done
}

// change is one thing that has become another.
type change struct {
	What  string `json:"what"`
	Field string `json:"field,omitempty"`
	From  any    `json:"from,omitempty"`
	To    any    `json:"to,omitempty"`
}

// refusedLimit bounds the lines about calls with a wrong token: whoever has none must not fill the disk.
var refusedLimit = limit.Limit{Rate: 1, Burst: 20}

// pathMax bounds how much of an address is kept, in bytes: ours are shorter.
const pathMax = 200

// OpenAuditLog makes the file if it is not there, and makes sure that it can be written.
func OpenAuditLog(path string, log *slog.Logger) (*AuditLog, error) {
	a := &AuditLog{path: path, log: log}
	f, err := a.open()
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return a, nil
}

func (a *AuditLog) open() (*os.File, error) {
	return os.OpenFile(a.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
}

// write puts a line on the disk, whole or not at all.
func (a *AuditLog) write(r *auditRecord) error {
	r.Time = time.Now().UTC()
	line := encode(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	f, err := a.open()
	if err != nil {
		return err
	}
	return errors.Join(a.append(f, line), f.Close())
}

func (a *AuditLog) append(f *os.File, line []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size == 0 { // it may have been made just now
		if err := fsync.Dir(filepath.Dir(a.path)); err != nil {
			return err
		}
	}
	last := []byte{'\n'}
	if size > 0 {
		_, err = f.ReadAt(last, size-1)
	}
	if err == nil && last[0] != '\n' { // a line that a crash has cut short stays one of its own
		line = append([]byte{'\n'}, line...)
	}
	if err == nil {
		_, err = f.Write(line)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil && info.Mode().IsRegular() {
		err = errors.Join(err, f.Truncate(size))
	}
	return err
}

// entry is one call in the audit log, from being asked to being answered. It belongs to the call's goroutine.
type entry struct {
	log    *AuditLog
	record auditRecord
}

func recordOf(r *http.Request, who string) auditRecord {
	path := r.URL.Path
	if len(path) > pathMax {
		path = path[:pathMax]
	}
	return auditRecord{ID: requestID(), Who: who, Peer: r.RemoteAddr, Method: r.Method, Path: path}
}

// begin writes down that a call is asked for. With an error it must not be done.
func (a *AuditLog) begin(r *http.Request, who string) (*entry, error) {
	e := &entry{a, recordOf(r, who)}
	e.record.Event = "asked"
	if err := a.write(&e.record); err != nil {
		a.log.Error("an ops call is refused: it cannot be written to the audit log", "request_id", e.record.ID, "method", r.Method,
			"path", r.URL.Path, "error", err)
		return nil, errUnaudited
	}
	return e, nil
}

var errUnaudited error = &Problem{Status: 503, Code: "audit_unavailable",
	Detail: "nothing was done: it cannot be written to the audit log (ops.audit_file); make room there, or give it a file that can be written"}

// note adds what the call has done.
func (e *entry) note(c change) { e.record.Changes = append(e.record.Changes, c) }

// progress writes down what was noted since the last time, in the middle of a call. With an error the call must end.
func (e *entry) progress() error {
	e.record.Event = "changed"
	err := e.put()
	e.record.Changes = nil
	return err
}

// end writes down what the call came to. It returns when that is on the disk, or cannot be brought there.
func (e *entry) end(status int, code string) {
	e.record.Event, e.record.Status, e.record.Code = "answered", status, code
	_ = e.put() // it has said so
}

func (e *entry) put() error {
	err := e.log.write(&e.record)
	r := &e.record
	args := []any{"event", r.Event, "request_id", r.ID, "who", r.Who, "peer", r.Peer, "method", r.Method, "path", r.Path, "status", r.Status,
		"code", r.Code, "changes", string(encode(r.Changes))}
	if err != nil {
		e.log.log.Error("an ops call was done and is not in the audit log", append(args, "error", err)...)
		return err
	}
	e.log.log.Info("ops call", args...)
	return nil
}

// refuse writes down a call with a wrong token, unless there are too many.
func (a *AuditLog) refuse(r *http.Request) {
	if a.refused.Take(time.Now().UnixNano(), &refusedLimit) > 0 {
		a.mu.Lock()
		a.missed++
		a.mu.Unlock()
		return
	}
	record := recordOf(r, "")
	record.Event, record.Status, record.Code = "refused", http.StatusUnauthorized, "unauthenticated"
	a.mu.Lock()
	record.Missed, a.missed = a.missed, 0
	a.mu.Unlock()
	err := a.write(&record)
	a.log.Warn("ops call with a wrong token", "request_id", record.ID, "peer", record.Peer, "method", record.Method, "path", record.Path,
		"missed", record.Missed, "audit_error", err)
}
