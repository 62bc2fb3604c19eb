package cli

import (
	"compress/gzip"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/logs"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

func newRestart(a *app) *cobra.Command {
	var seconds int
	var sig string
	cmd := &cobra.Command{
		Use:   "restart [flags] CONTAINER [CONTAINER...]",
		Short: "Stop containers, and start them again",
		Example: `  brig restart web
  brig restart -t 2 web db`,
		Args: minArgs(1),
	}
	addStopFlags(cmd, &seconds, &sig)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		limit, err := stopLimit(cmd, &seconds, sig)
		if err != nil {
			return err
		}
		return a.together(args, func(c *engine.Container) error {
			warnings, err := c.Restart(limit, sig)
			a.warn(warnings)
			return err
		})
	}
	return cmd
}

// addStopFlags adds the flags that say how to stop.
func addStopFlags(cmd *cobra.Command, seconds *int, sig *string) {
	f := cmd.Flags()
	f.IntVarP(seconds, "timeout", "t", 0, "seconds to wait before SIGKILL; -1 waits for ever (default: the container's, else 10)")
	f.IntVar(seconds, "time", 0, "the same as --timeout")
	f.MarkHidden("time")
	f.StringVarP(sig, "signal", "s", "", "signal to send instead")
}

// stopLimit is the time that was given, or nil.
func stopLimit(cmd *cobra.Command, seconds *int, sig string) (*int, error) {
	if sig != "" {
		if _, err := spec.ParseSignal("--signal", sig); err != nil {
			return nil, err
		}
	}
	if cmd.Flags().Changed("timeout") || cmd.Flags().Changed("time") {
		return seconds, nil
	}
	return nil, nil
}

// newRestartByPolicy is what a container's monitor becomes to start the
// container anew.
func newRestartByPolicy(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    monitor.RestartCommand + " ID LOCK",
		Short:  "Start a container anew, as its monitor",
		Hidden: true,
		Args:   exactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			fd, err := strconv.Atoi(args[1])
			if err != nil || fd < 3 {
				return fmt.Errorf("%s is for monitors", monitor.RestartCommand)
			}
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
				return fmt.Errorf("%s is for monitors", monitor.RestartCommand)
			}
			e, err := a.engine()
			if err != nil {
				return err
			}
			return e.RestartByPolicy(args[0], os.NewFile(uintptr(fd), "lock"))
		},
	}
}

// newCompressLog is the process that compresses a log file for a monitor.
func newCompressLog(*app) *cobra.Command {
	return &cobra.Command{
		Use:    monitor.CompressCommand + " FILE",
		Short:  "Compress a log file, for a monitor",
		Hidden: true,
		Args:   exactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return logs.Compress(args[0], gzip.DefaultCompression) },
	}
}
