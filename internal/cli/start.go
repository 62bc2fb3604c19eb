package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
)

func newStart(a *app) *cobra.Command {
	var attach, interactive, sigProxy bool
	var keys string
	cmd := &cobra.Command{
		Use:   "start [flags] CONTAINER [CONTAINER...]",
		Short: "Start created or stopped containers",
		Example: `  brig start web
  brig start -ai shell`,
		Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !attach && !interactive {
				return a.startAll(args)
			}
			if len(args) > 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			d, err := parseDetachKeys(keys)
			if err != nil {
				return err
			}
			return a.startAttached(args[0], &session{a: a, stdin: interactive, sigProxy: sigProxy, detach: d})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&attach, "attach", "a", false, "attach to output and errors, and forward signals")
	f.BoolVarP(&interactive, "interactive", "i", false, "attach to the input, too")
	f.BoolVar(&sigProxy, "sig-proxy", true, "forward signals to the container")
	f.StringVar(&keys, "detach-keys", defaultDetachKeys, "keys that leave a terminal and let the container run")
	return cmd
}

func (a *app) startAll(names []string) error {
	return a.forEach(names, func(name string) error {
		c, err := a.container(name)
		if err != nil {
			return err
		}
		run, err := c.Start(0, engine.ConsoleSize{})
		if errors.Is(err, engine.ErrRunning) {
			return nil // as Docker: it is what was asked for
		}
		if err != nil {
			return fmt.Errorf("start container %s: %w", name, err)
		}
		a.warn(run.Warnings)
		run.Client.Close()
		return nil
	})
}

func (a *app) startAttached(name string, s *session) error {
	c, err := a.container(name)
	if err != nil {
		return err
	}
	streams, err := s.with(c)
	if err != nil {
		return err
	}
	run, err := c.Start(streams, s.size())
	if err != nil {
		return &exitError{1, err}
	}
	defer run.Client.Close()
	a.warn(run.Warnings)
	code, err := s.watched(run)
	return leave(a, code, err)
}
