package gateway

import (
	"strconv"
	"time"

	"sluice/engine/order"
)

// code is the stable code of a problem document. The zero code is none: the request was served.
type code uint8

const (
	codeNone code = iota
	codeInvalidRequest
	codeUnauthenticated
	codeForbidden
	codeOfferNotFound
	codeOrderNotFound
	codeNotFound
	codeMethodNotAllowed
	codeRequestTimeout
	codeSoldOut
	codeOverLimit
	codeNotOpen
	codeClosed
	codeStillPending
	codeNotCancellable
	codeBodyTooLarge
	codeUnsupportedMediaType
	codeIdempotencyKeyReused
	codeMixedGroups
	codeDuplicateItem
	codeQuantityInvalid
	codeRateLimited
	codeHeadersTooLarge
	codeInternal
	codeOverloaded
	codeNotReady
	codeOutcomeUnknown
	codesEnd
)

// problems is the one table from codes to names, statuses and titles (docs/design.md, section 11).
var problems = [codesEnd]struct {
	name   string
	status int
	title  string
}{
	codeInvalidRequest:       {"invalid_request", 400, "The request is not valid"},
	codeUnauthenticated:      {"unauthenticated", 401, "A valid token is needed"},
	codeForbidden:            {"forbidden", 403, "Not allowed"},
	codeOfferNotFound:        {"offer_not_found", 404, "No such offer"},
	codeOrderNotFound:        {"order_not_found", 404, "No such order"},
	codeNotFound:             {"not_found", 404, "No such address"},
	codeMethodNotAllowed:     {"method_not_allowed", 405, "Not with this method"},
	codeRequestTimeout:       {"request_timeout", 408, "The request took too long to arrive"},
	codeSoldOut:              {"sold_out", 409, "Sold out"},
	codeOverLimit:            {"over_limit", 409, "More than one user may buy"},
	codeNotOpen:              {"not_open", 409, "The sale has not begun"},
	codeClosed:               {"closed", 409, "The sale is over"},
	codeStillPending:         {"still_pending", 409, "The order is still pending"},
	codeNotCancellable:       {"not_cancellable", 409, "The order cannot be cancelled"},
	codeBodyTooLarge:         {"body_too_large", 413, "The body is too large"},
	codeUnsupportedMediaType: {"unsupported_media_type", 415, "The body is not JSON"},
	codeIdempotencyKeyReused: {"idempotency_key_reused", 422, "The key belongs to another order"},
	codeMixedGroups:          {"mixed_groups", 422, "These offers cannot be ordered together"},
	codeDuplicateItem:        {"duplicate_item", 422, "An offer is named twice"},
	codeQuantityInvalid:      {"quantity_invalid", 422, "A quantity is not valid"},
	codeRateLimited:          {"rate_limited", 429, "Too many requests"},
	codeHeadersTooLarge:      {"headers_too_large", 431, "The headers are too large"},
	codeInternal:             {"internal", 500, "A fault of the server"},
	codeOverloaded:           {"overloaded", 503, "Too much to do"},
	codeNotReady:             {"not_ready", 503, "Not ready yet"},
	codeOutcomeUnknown:       {"outcome_unknown", 504, "The outcome is not known"},
}

// problemHeads are the documents' constant beginnings.
var problemHeads = func() (heads [codesEnd][]byte) {
	for c := codeInvalidRequest; c < codesEnd; c++ {
		p := problems[c]
		b := append([]byte(`{"type":"urn:sluice:problem:`), p.name...)
		b = appendString(append(b, `","title":`...), p.title)
		b = strconv.AppendInt(append(b, `,"status":`...), int64(p.status), 10)
		heads[c] = append(append(append(b, `,"code":"`...), p.name...), `","detail":`...)
	}
	return heads
}()

// fieldError is one entry of a problem's errors. pointer is a JSON pointer into the body, or `?name` for a query
// parameter, or the name of a header.
type fieldError struct {
	pointer, detail string
}

// problem is a refusal with its particulars.
type problem struct {
	code   code
	detail string // a person can act on it; empty: the title says all
	errors []fieldError
	// opens is when a sale that is not open yet begins; at is the server's time beside it. 0: not shown.
	opens, at order.Milli
	// limited says which limit refused, and for how long. The zero limited is not shown.
	limited limited
}

// appendProblem appends the problem document.
func appendProblem(dst []byte, p *problem, requestID []byte) []byte {
	dst = append(dst, problemHeads[p.code]...)
	detail := p.detail
	if detail == "" {
		detail = problems[p.code].title
	}
	dst = appendString(dst, detail)
	dst = append(append(append(dst, `,"request_id":"`...), requestID...), '"')
	if p.opens != 0 {
		dst = appendTime(append(dst, `,"opens_at":`...), p.opens)
		dst = appendTime(append(dst, `,"server_time":`...), p.at)
	}
	if d := p.limited; d.by != limitNone {
		dst = append(append(append(dst, `,"limit":"`...), limitNames[d.by]...), `","retry_after_ms":`...)
		dst = strconv.AppendInt(dst, int64((d.wait+time.Millisecond-1)/time.Millisecond), 10)
	}
	if len(p.errors) > 0 {
		dst = append(dst, `,"errors":[`...)
		for i := range p.errors {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(append(dst, `{"pointer":`...), p.errors[i].pointer)
			dst = appendString(append(dst, `,"detail":`...), p.errors[i].detail)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}
