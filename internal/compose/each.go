package compose

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
)

// killFlags are those of kill.
func killFlags(cmd *cobra.Command) func() []string {
	signal := cmd.Flags().StringP("signal", "s", "KILL", "signal to send")
	return func() []string { return []string{"-s", *signal} }
}

// eachCommand is a command of Brig for each container of the services.
func (a *app) eachCommand(name, short, done string, flags func(*cobra.Command) func() []string) *cobra.Command {
	more := func() []string { return nil }
	cmd := &cobra.Command{
		Use:     name + " [flags] [SERVICE...]",
		Short:   short + " containers",
		Example: "  brig compose " + name + " web",
		RunE: func(cmd *cobra.Command, args []string) error {
			_, list, err := a.of(cmd.Context(), args)
			if err != nil {
				return err
			}
			for _, c := range list {
				if c.State.Running == (name == "start") {
					continue
				}
				if _, err := a.output(cmd.Context(), append(append([]string{name}, more()...), c.ID)...); err != nil {
					return err
				}
				a.told("Container", c.name(), done)
			}
			return nil
		},
	}
	if flags != nil {
		more = flags(cmd)
	}
	return cmd
}

func (a *app) stopCommand() *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:     "stop [flags] [SERVICE...]",
		Short:   "Stop containers",
		Example: "  brig compose stop web",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.stopAll(cmd.Context(), args, changed(cmd, "timeout", &timeout))
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 10, "seconds to wait before containers are killed")
	return cmd
}

// changed returns a flag's value, or nil if it was not given.
func changed(cmd *cobra.Command, name string, v *int) *int {
	if cmd.Flags().Changed(name) {
		return v
	}
	return nil
}

// stopAll stops containers, all at once: each may take its time.
func (a *app) stopAll(ctx context.Context, services []string, timeout *int) error {
	_, list, err := a.of(ctx, services)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for _, c := range list {
		go func() { errs <- a.stop(ctx, c, timeout) }()
	}
	for range list {
		if e := <-errs; err == nil {
			err = e
		}
	}
	return err
}

func (a *app) restartCommand() *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:     "restart [flags] [SERVICE...]",
		Short:   "Stop containers and start them again",
		Example: "  brig compose restart web",
		RunE: func(cmd *cobra.Command, args []string) error {
			_, list, err := a.of(cmd.Context(), args)
			if err != nil {
				return err
			}
			for _, c := range list {
				if err := a.stop(cmd.Context(), c, changed(cmd, "timeout", &timeout)); err != nil {
					return err
				}
				if _, err := a.output(cmd.Context(), "start", c.ID); err != nil {
					return err
				}
				a.told("Container", c.name(), "Started")
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 10, "seconds to wait before containers are killed")
	return cmd
}

func (a *app) rmCommand() *cobra.Command {
	var stop, volumes, force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] [SERVICE...]",
		Short:   "Remove containers that do not run",
		Example: "  brig compose rm -s web",
		RunE: func(cmd *cobra.Command, args []string) error {
			_, list, err := a.of(cmd.Context(), args)
			if err != nil {
				return err
			}
			if !stop {
				list = slices.DeleteFunc(list, func(c *container) bool { return c.State.Running })
			}
			for _, c := range list {
				if err := a.removeAfter(cmd.Context(), c, nil, volumes); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&stop, "stop", "s", false, "stop those that run first")
	cmd.Flags().BoolVarP(&volumes, "volumes", "v", false, "remove their unnamed volumes, too")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "nothing is asked in any case; for scripts of Docker's")
	return cmd
}

// logArgs are the flags that logs passes on.
func logArgs(tail, since, until string, times bool) (args []string) {
	for _, f := range [][2]string{{"--tail", tail}, {"--since", since}, {"--until", until}} {
		if f[1] != "" {
			args = append(args, f[0], f[1])
		}
	}
	if times {
		args = append(args, "-t")
	}
	return args
}

// pad makes names of one width.
func pad(name string, width int) string {
	for len(name) < width {
		name += " "
	}
	return name
}
