package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
)

func newWait(a *app) *cobra.Command {
	until := string(engine.UntilNotRunning)
	cmd := &cobra.Command{
		Use:   "wait [flags] CONTAINER [CONTAINER...]",
		Short: "Wait until containers stop, and print their exit codes",
		Example: `  brig wait job
  brig wait --condition removed job`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			known := []engine.WaitCondition{engine.UntilNotRunning, engine.UntilNextExit, engine.UntilRemoved}
			if !slices.Contains(known, engine.WaitCondition(until)) {
				return fmt.Errorf("--condition %q: use not-running, next-exit or removed", until)
			}
			failed := false
			for _, n := range args {
				code, err := a.waitFor(n, engine.WaitCondition(until))
				if err != nil {
					failed = true
					fmt.Fprintf(a.err, "brig: %s\n", err)
					continue
				}
				fmt.Fprintln(a.out, code)
			}
			if failed {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&until, "condition", until, "not-running, next-exit or removed")
	return cmd
}

func (a *app) waitFor(name string, until engine.WaitCondition) (int, error) {
	c, err := a.container(name)
	if err != nil {
		return 0, err
	}
	return c.Wait(until)
}
