package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/engine/order"
)

// stopWait bounds a graceful stop. What a healthy disk and database can finish takes far less.
const stopWait = 30 * time.Second

func newServe(s *settings) *cobra.Command {
	var kinds, as string
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: "Run the server, or one role of it beside others that share Redis, RocketMQ and the MySQL shards: gateway (the public\n" +
			"listener and the engine), persist (stores orders), lifecycle (expiry, giving units back, the feed of events). It prints\n" +
			"one line, `ready gateway=ADDR ops=ADDR`, when it serves; roles without the public listener, `ready ops=ADDR`. SIGTERM and\n" +
			"SIGINT stop it gracefully: every request that was accepted is answered. A second signal ends it at once.\n" +
			"SIGHUP has it read its configuration, its secrets and its certificates again; so does a change of their files.",
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if as != "" {
				s.set = append(s.set, "role="+as)
			}
			if kinds != "" {
				s.set = append(s.set, "engine.kinds="+kinds)
			}
			c, d, err := s.load()
			if err != nil {
				return err
			}
			switch {
			case demo && !role(c.Role).sells():
				return errors.New("--demo makes offers and sells them: it needs the role all or gateway, not " + c.Role)
			case kinds != "" && c.Role == configs.RoleLifecycle:
				return errors.New("--kinds: the role lifecycle does its work for orders of both kinds; leave it out")
			}
			if demo && len(c.Engine.Kinds) < len(order.Kinds) {
				return errors.New("--demo sells normal and flash offers: leave --kinds and engine.kinds out")
			}
			return serve(cmd, s, c, d, demo)
		},
	}
	cmd.Flags().StringVar(&as, "role", "", "what this process runs: all (the default), gateway, persist or lifecycle")
	cmd.Flags().StringVar(&kinds, "kinds", "", "the kinds that this process sells or stores: normal, flash or both with a comma")
	cmd.Flags().BoolVar(&demo, "demo", false, "create demo offers, and print a token and lines to paste")
	return cmd
}

// serve runs the server until the command's context ends.
func serve(cmd *cobra.Command, s *settings, c *configs.Config, d *drivers, demo bool) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // from the beginning: it would end the process
	defer signal.Stop(hangups)
	tuneRuntime(&c.Runtime)
	level := new(slog.LevelVar)
	level.Set(c.Log.Level)
	log := newLog(c.Log.Format, level, cmd.ErrOrStderr())
	rocketSays.to.Store(log)
	ctx := cmd.Context()
	server := NewServer(c, d, os.Environ(), log)
	server.level = level
	err := server.Start(ctx)
	if err == nil {
		server.watchConfig(s, hangups)
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "ready %s\n", server.addresses())
	}
	if err == nil && demo {
		err = server.demo(ctx, cmd.ErrOrStderr())
	}
	if err == nil {
		<-ctx.Done()
		log.Info("stopping", "signal", "received")
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer cancel()
	return errors.Join(err, server.Close(stop))
}

func newLog(format string, level *slog.LevelVar, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if strings.EqualFold(format, "json") {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
