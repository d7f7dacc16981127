package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/persist/store"
)

// keepQueue holds the deployment to its queue. Nothing has gone into this one or come out of it yet.
func (s *Server) keepQueue(ctx context.Context) error {
	identity := s.queue.Identity()
	adopted, err := s.store.KeepQueue(ctx, identity)
	if adopted {
		s.log.Info("the deployment keeps to this queue from now on", "queue", identity)
	}
	return err
}

func newQueue(s *settings) *cobra.Command {
	cmd := &cobra.Command{Use: "queue", Short: "The queue that the deployment keeps to"}
	var yes bool
	adopt := &cobra.Command{
		Use:   "adopt",
		Short: "Begin anew with the configured queue, in the place of one that is lost for ever or drained",
		Long: "Make the configured queue the deployment's. A start refuses every queue but the one that the deployment began with,\n" +
			"because accepted orders lie in it that are not stored yet. If that one is lost for ever, or drained because another\n" +
			"driver is to take its place, this command says what goes with it, and with --yes begins anew. The new queue must be\n" +
			"empty, and every process of the deployment must have been stopped for a minute.",
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, d, err := s.load()
			if err != nil {
				return err
			}
			v, err := checkConfig(c, d)
			if err != nil {
				return err
			}
			lock, err := lockDir(c.DataDir)
			if err != nil {
				return err
			}
			return errors.Join(adoptQueue(cmd.Context(), &adoption{c, d, v, yes, cmd.OutOrStdout()}), lock.Release())
		},
	}
	adopt.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.AddCommand(adopt)
	return cmd
}

// adoption is one run of `sluice queue adopt`.
type adoption struct {
	config  *configs.Config
	drivers *drivers
	vault   *vault
	yes     bool
	out     io.Writer
}

func adoptQueue(ctx context.Context, a *adoption) (err error) {
	o, err := storeOptions(a.config, a.vault)
	if err != nil {
		return err
	}
	if err := shardsThere(a.config, o.Shards); err != nil {
		return err
	}
	st, err := store.Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	stored, unfinished, err := st.Queue(ctx)
	if err != nil {
		return err
	}
	found, err := a.drivers.queueIdentity(a.config)
	switch {
	case err != nil:
		return err
	case stored == "":
		return errors.New("this deployment keeps to no queue yet: its next start takes the configured one")
	case stored == found && !unfinished:
		return fmt.Errorf("%s is the deployment's queue already: there is nothing to do", found)
	case !a.yes && unfinished:
		fmt.Fprintf(a.out, "An earlier `sluice queue adopt` has begun to make %s the deployment's queue, and has not ended.%s", stored, adoptionMeans)
		return errors.New("nothing was changed: no process starts until `sluice queue adopt --yes` has ended")
	case !a.yes:
		fmt.Fprintf(a.out, "The deployment's queue is %s.%s", stored, adoptionMeans)
		return errors.New("nothing was changed: `sluice queue adopt --yes` does it")
	}
	q, err := a.drivers.openQueue(ctx, a.config, st)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if err := empty(ctx, q, a.config.Engine.Partitions); err != nil {
		return err
	}
	units, err := st.AdoptQueue(ctx, q.Identity())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%d units were given back that were taken for orders which were never recorded\n"+
		"the deployment's queue is %s from now on: start the server, then run `sluice audit`\n", units, q.Identity())
	return err
}

// adoptionMeans follows a sentence that names the queue.
const adoptionMeans = ` If you begin anew:

- Orders that were answered 202 and lay in the former queue only are lost. Their buyers read pending, later 404. Their units are on sale again: every
  partition counts anew at the next start. ` + "`sluice audit --history FILE`" + ` names them, if you have what clients saw.
- Dead letters that nobody has replayed are lost, too.
- The old queue can never be used again with this deployment. If it may come back, or was only moved, do not do this: put it back.
- With fast stock in Redis, remove the keys of stock.redisstock.name there first: they hold the keys of lost orders, whose
  buyers would be answered with an order that is not there.
`

// empty refuses a queue that holds messages: they are another deployment's, or of a time before.
func empty(ctx context.Context, q queue.Queue, ps order.Partitions) error {
	var waiting int64
	for p := range order.Partition(ps.Count()) {
		b, err := q.Backlog(ctx, p)
		if err != nil {
			return err
		}
		waiting += b.Messages
	}
	if waiting > 0 {
		return fmt.Errorf("the configured queue, %s, is not empty: %d messages wait in it, which are not this deployment's or are older than what it has "+
			"decided since; name an empty one", q.Identity(), waiting)
	}
	return nil
}
