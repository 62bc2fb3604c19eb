package cli

import (
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/spec"
)

func newStop(a *app) *cobra.Command {
	var seconds int
	var sig string
	cmd := &cobra.Command{
		Use:   "stop [flags] CONTAINER [CONTAINER...]",
		Short: "Stop running containers",
		Long: `Send the container's stop signal, SIGTERM unless the image or --stop-signal
says otherwise, and SIGKILL if it still runs after a time.`,
		Example: `  brig stop web
  brig stop -t 2 $(brig ps -q)`,
		Args: minArgs(1),
	}
	addStopFlags(cmd, &seconds, &sig)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		limit, err := stopLimit(cmd, &seconds, sig)
		if err != nil {
			return err
		}
		return a.together(args, func(c *engine.Container) error { return c.Stop(limit, sig) })
	}
	return cmd
}

// each does something with one container after the other.
func (a *app) each(names []string, f func(*engine.Container) error) error {
	return a.forEach(names, func(name string) error {
		c, err := a.container(name)
		if err != nil {
			return err
		}
		return f(c)
	})
}

// together does something slow with each container at the same time, and prints
// names in the order of the arguments.
func (a *app) together(names []string, f func(*engine.Container) error) error {
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, n := range names {
		c, err := a.container(n)
		if err != nil {
			errs[i] = err
			continue
		}
		wg.Go(func() { errs[i] = f(c) })
	}
	wg.Wait()
	i := -1
	return a.forEach(names, func(string) error { i++; return errs[i] })
}

func newKill(a *app) *cobra.Command {
	var sig string
	cmd := &cobra.Command{
		Use:   "kill [flags] CONTAINER [CONTAINER...]",
		Short: "Send a signal to running containers",
		Example: `  brig kill web
  brig kill -s HUP web`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := spec.ParseSignal("--signal", sig)
			if err != nil {
				return err
			}
			return a.each(args, func(c *engine.Container) error { return c.Kill(unix.Signal(n)) })
		},
	}
	cmd.Flags().StringVarP(&sig, "signal", "s", "KILL", "signal to send")
	return cmd
}

func newRm(a *app) *cobra.Command {
	var force, volumes bool
	cmd := &cobra.Command{
		Use:   "rm [flags] CONTAINER [CONTAINER...]",
		Short: "Remove containers",
		Example: `  brig rm web
  brig rm -f $(brig ps -aq)`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if force {
				args = a.existing(args)
			}
			return a.together(args, func(c *engine.Container) error { return c.Remove(force, volumes) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove running containers, too (with SIGKILL)")
	cmd.Flags().BoolVarP(&volumes, "volumes", "v", false, "remove its anonymous volumes, too, unless another container uses them")
	return cmd
}

// existing gives the names of containers that are there. As under Docker, a
// removal by force mentions the others, and does not fail for them.
func (a *app) existing(names []string) []string {
	var found []string
	for _, n := range names {
		var missing *engine.NotFoundError
		if _, err := a.container(n); errors.As(err, &missing) {
			fmt.Fprintf(a.err, "brig: %s\n", err)
			continue
		}
		found = append(found, n)
	}
	return found
}
