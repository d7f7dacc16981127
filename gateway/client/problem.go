package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Problem is an answer that is no success. Decide by Code.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"` // of HTTP
	// Code is one of openapi.yaml, such as sold_out. It is empty if the answer is not Sluice's but that of something in
	// between.
	Code      string  `json:"code"`
	Detail    string  `json:"detail"` // what a person can do about it
	RequestID string  `json:"request_id"`
	Errors    []Fault `json:"errors"` // of input: where, and what
	// OpensAt is when the sale begins, ServerTime the server's time beside it; of not_open.
	OpensAt    time.Time `json:"opens_at"`
	ServerTime time.Time `json:"server_time"`
	// Limit is which limit refused: global, ip, user or offer; of rate_limited.
	Limit string `json:"limit"`
	// RetryAfter is when to come back; 0 if the server does not say.
	RetryAfter time.Duration `json:"-"`
}

// Fault is one thing that is wrong with a request. Pointer is a JSON pointer into the body, `?name` of the query, or the
// name of a header.
type Fault struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func (p *Problem) Error() string {
	text := fmt.Sprintf("%d %s: %s", p.Status, p.Code, p.Detail)
	for _, f := range p.Errors {
		text += fmt.Sprintf(" (%s %s)", f.Pointer, f.Detail)
	}
	return text
}

// problemOf reads a problem document, or makes one of what is none.
func problemOf(status int, retryAfter string, body []byte) *Problem {
	p := new(Problem)
	if json.Unmarshal(body, p) != nil || p.Code == "" {
		p = &Problem{Title: http.StatusText(status), Detail: http.StatusText(status)}
	}
	p.Status = status
	p.RetryAfter = patience(body)
	if seconds, err := strconv.ParseUint(retryAfter, 10, 31); err == nil && p.RetryAfter == 0 {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

// patience is the member of a problem that says more exactly than the header when to come back; 0 if there is none.
func patience(body []byte) time.Duration {
	var exact struct {
		Milli uint32 `json:"retry_after_ms"`
	}
	_ = json.Unmarshal(body, &exact) // what is no problem has none
	return time.Duration(exact.Milli) * time.Millisecond
}
