package cli

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/brig-run/brig/internal/engine"
)

func newInfo(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "info [flags]",
		Short: "Show what this machine and its store have",
		Example: `  brig info
  brig info --format '{{.KernelVersion}}'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			e, err := a.engine()
			if err != nil {
				return err
			}
			i, err := e.Info()
			if err != nil {
				return err
			}
			if format == "" {
				return printInfo(a.out, i)
			}
			return a.printOne(i, format)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return cmd
}

// printOne prints one value as JSON or by a template.
func (a *app) printOne(v any, format string) error {
	if format == "json" {
		return printJSONLines(a.out, []any{v})
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	if err := t.Execute(a.out, v); err != nil {
		return templateError(err)
	}
	_, err = fmt.Fprintln(a.out)
	return err
}

func printInfo(w io.Writer, i *engine.Info) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, " %s: %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(w, "Server: none (Brig has no daemon)")
	line("Containers", "%d", i.Containers)
	line(" Running", "%d", i.ContainersRunning)
	line(" Paused", "%d", i.ContainersPaused)
	line(" Stopped", "%d", i.ContainersStopped)
	line("Images", "%d", i.Images)
	line("Version", "%s", i.ServerVersion)
	line("Storage driver", "%s", i.Driver)
	line("Logging driver", "%s", i.LoggingDriver)
	line("Cgroups", "%s", i.CgroupMode)
	line("Security options", "%s", strings.Join(i.SecurityOptions, ", "))
	line("Capabilities", "%d known to the kernel, %d can be granted here, %d by default", i.CapabilitiesKnown, i.CapabilitiesGrantable, i.CapabilitiesDefault)
	line("Seccomp actions", "%s", strings.Join(i.SeccompActions, " "))
	line("Networks", "bridge (the default), none, private, host; %d of users'", i.Networks)
	line("Kernel version", "%s", i.KernelVersion)
	line("Operating system", "%s", i.OperatingSystem)
	line("Architecture", "%s", i.Architecture)
	line("CPUs", "%d", i.NCPU)
	line("Total memory", "%.2fGiB", float64(i.MemTotal)/(1<<30))
	line("Name", "%s", i.Name)
	line("Root directory", "%s", i.BrigRootDir)
	for _, warning := range i.Warnings {
		fmt.Fprintln(w, "WARNING: "+warning)
	}
	return nil
}

// versionInfo is Docker's shape of the client's version.
type versionInfo struct {
	Client versionClient
}

type versionClient struct {
	Version   string
	GitCommit string
	GoVersion string
	Os        string
	Arch      string
}

func newVersion(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Show the version",
		Example: `  brig version
  brig version --format '{{.Client.Version}}'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{versionClient{engine.Version(), engine.Revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH}}
			if format != "" {
				return a.printOne(v, format)
			}
			fmt.Fprintf(a.out, "Client: Brig\n Version:    %s\n Git commit: %s\n Go version: %s\n OS/Arch:    %s/%s\n",
				v.Client.Version, v.Client.GitCommit, v.Client.GoVersion, v.Client.Os, v.Client.Arch)
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return cmd
}

// isTerminal says whether a writer is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && xterm.IsTerminal(int(f.Fd()))
}

// terminalWidth is the number of columns to write, 100 where there is no
// terminal.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := xterm.GetSize(int(f.Fd())); err == nil && n > 0 {
			return n
		}
	}
	return 100
}
