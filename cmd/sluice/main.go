// Command sluice is the whole product: the server, and the tools around it. Each command has a file of its own; they
// share the flags -c and --set, which say where the configuration comes from.
//
// # Goroutines
//
//	signals     one, for the life of the process: the first signal ends the context, the second the process
//	reload      one while the server runs (reload.go): the configuration file and SIGHUP; Server.Close waits for it
//	secrets     one while the server runs (rotate.go): files of secrets and certificates; Server.Close waits for it
//	node lease  one while the server runs (lease.go): renews the node number; Server.Close waits for it
//
// The stages start their own. Server.Start opens those of the role in the order of what stands on what, Server.Close
// stops them in the order in which orders flow.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sluice/configs"
)

func main() { os.Exit(run(os.Args[1:])) }

// run executes one command line and returns the exit code. The first SIGINT or SIGTERM ends the context, the second the
// process at once.
func run(args []string) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		<-signals
		stop()
		<-signals
		fmt.Fprintln(os.Stderr, "sluice: second signal: exiting at once")
		os.Exit(1)
	}()
	root := newRoot()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errSaid) {
			fmt.Fprintln(os.Stderr, "sluice: "+strings.ReplaceAll(err.Error(), "\n", "\n        "))
		}
		return 1
	}
	return 0
}

// errSaid ends a command with exit code 1 when everything that is to be said was said.
var errSaid = errors.New("said")

// settings are the flags that every command takes.
type settings struct {
	file string
	set  []string
}

// load reads the configuration that the flags and the environment name.
func (s *settings) load() (*configs.Config, *drivers, error) {
	d := newDrivers()
	c, err := configs.Load(configs.Source{File: s.file, Env: os.Environ(), Set: s.set, Mounts: d.mounts()})
	if err == nil {
		err = c.Locate(d.validate(c))
	}
	return c, d, err
}

func newRoot() *cobra.Command {
	var s settings
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "An order engine for shops that run flash sales",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVarP(&s.file, "config", "c", "", "YAML file over the embedded default (sluice config --default)")
	root.PersistentFlags().StringArrayVar(&s.set, "set", nil, "one setting as path=value, such as gateway.listen=127.0.0.1:9000; repeatable")
	root.AddCommand(newServe(&s), newToken(&s), newOffer(&s), newOrder(&s), newParked(&s), newDeadLetter(&s), newQueue(&s), newBackup(&s),
		newRestore(&s), newConfig(&s), newCheck(&s), newReload(&s), newHealth(&s), newAudit(&s), newBench(&s), newVersion())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	for _, cmd := range append(root.Commands(), root) {
		if cmd.HasSubCommands() {
			isGroup(cmd)
		}
	}
	return root
}

// isGroup makes a command with commands of its own refuse those that it does not have; cobra would print its help and
// call that success.
func isGroup(group *cobra.Command) {
	group.Args, group.SuggestionsMinimumDistance, group.DisableFlagsInUseLine = cobra.ArbitraryArgs, 2, true
	group.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("unknown command %q", cmd.CommandPath()+" "+args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return fmt.Errorf("%s: did you mean %s?", text, near[0])
		}
		return fmt.Errorf("%s; `%s --help` lists the commands", text, cmd.CommandPath())
	}
}

// takes wants n arguments and says how the command is written otherwise.
func takes(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == n:
			return nil
		case n == 0:
			return fmt.Errorf("`%s` takes flags only, not %q: %s", cmd.CommandPath(), args[0], cmd.UseLine())
		}
		return fmt.Errorf("`%s` has %d arguments, not the %d that it needs: %s", cmd.CommandPath(), len(args), n, cmd.UseLine())
	}
}
