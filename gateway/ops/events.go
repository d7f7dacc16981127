package ops

import (
	"net/http"
	"time"
)

const (
	// watchersMax bounds the streams of events that are open at once; one more is answered 503.
	watchersMax = 16
	// eventEvery is the time between two events, which are the stream's heartbeat too.
	eventEvery = time.Second
	// eventWait is how long an event may take to leave. Who does not read for so long is cut off.
	eventWait = 10 * time.Second
)

// events sends what the console shows as Server-Sent Events: one event `live` a second, its data a JSON object, until
// the reader leaves or the server stops.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.watchers <- struct{}{}:
		defer func() { <-s.watchers }()
	default:
		w.Header().Set("Retry-After", "5")
		s.fail(w, r, &Problem{Status: 503, Code: "overloaded", Detail: "too many consoles are open; close one"})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy in front must not wait for more
	w.WriteHeader(http.StatusOK)
	stream := http.NewResponseController(w)
	if stream.SetReadDeadline(time.Time{}) != nil { // that of the request would end the stream
		return
	}
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	for {
		if stream.SetWriteDeadline(time.Now().Add(eventWait)) != nil {
			return
		}
		data := append([]byte("event: live\ndata: "), encode(s.program.Live())...)
		if _, err := w.Write(append(data, '\n')); err != nil || stream.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		case <-tick.C:
		}
	}
}
