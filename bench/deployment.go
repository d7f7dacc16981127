package bench

import (
	"context"

	"sluice/bench/audit"
	"sluice/bench/naive"
)

// Deployment is databases, Redis servers and a broker that run outside, on which every round gets a place of its own.
type Deployment interface {
	// Place makes a place: empty databases, a name in Redis and in the broker that nobody uses.
	Place(ctx context.Context) (*Place, error)
	// Servers are what runs there, for the CPU time and the memory that it uses.
	Servers() []Server
	// Shared says why several processes cannot serve it together; nil if they can.
	Shared() error
	// Durability says, for the report, which servers they are and when a commit is on disk.
	Durability(ctx context.Context) string
}

// Server is one that a deployment names.
type Server struct {
	Name string // in reports; empty: as its process is called
	Addr string // host:port
}

// Place is where the server of one round keeps what it does not keep in its directory.
type Place struct {
	Args  []string       // of `serve`, behind Options.Args: where it is
	Audit *audit.Options // its shards; nil: they are files in the directory
	// Naive are the options of a naive server there, without what a round chooses; nil: it cannot run there.
	Naive *naive.Options
	// Remove removes all that is in the place.
	Remove func(ctx context.Context) error
}

// place makes a place, if there is a deployment.
func (o *Options) place(ctx context.Context) (*Place, error) {
	if o.Deployment == nil {
		return &Place{Remove: func(context.Context) error { return nil }}, nil
	}
	return o.Deployment.Place(ctx)
}
