package ops

import "net/http"

// OpenAPI is openapi.yaml, for the tests.
var OpenAPI = openAPI

// Patterns lists the routes of the listener, those that this process does not have too.
func (s *Server) Patterns() (list []string) {
	for _, r := range s.table() {
		list = append(list, r.pattern)
	}
	return list
}

// Handler answers requests without a network.
func (s *Server) Handler() http.Handler { return s.http.Handler }
