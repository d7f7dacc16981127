package ops

// OpenAPI is openapi.yaml, for the tests.
var OpenAPI = openAPI

// Patterns lists the routes of the listener, those that this process does not have too.
func (s *Server) Patterns() (list []string) {
	for _, r := range s.table() {
		list = append(list, r.pattern)
	}
	return list
}
