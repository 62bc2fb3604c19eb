package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/compose-spec/compose-go/v2/graph"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"
)

// app is one run of brig compose.
type app struct {
	*Brig
	files Files
}

// ExitError asks for an exit code; what there is to say may have been said.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Command is brig compose with its commands.
func Command(b *Brig) *cobra.Command {
	a := &app{Brig: b}
	cmd := &cobra.Command{
		Use:   "compose [flags] COMMAND",
		Short: "Run the services of a compose file",
		Long: `Run the services of a compose file, as docker compose does. Files are read as
compose-spec describes them; a key that Brig does not follow is an error, never left
out in silence. Images are not built here.`,
		Example: `  brig compose up -d
  brig compose ps
  brig compose logs -f web
  brig compose exec web sh
  brig compose down -v`,
		SilenceErrors: true,
		SilenceUsage:  true,
		// These flags stand before the command: -f is another one behind it.
		TraverseChildren: true,
	}
	f := cmd.Flags()
	f.StringVar(&b.Root, "root", "", "directory of images and containers (also BRIG_ROOT)")
	f.StringArrayVarP(&a.files.Files, "file", "f", nil, "compose file (default: compose.yaml and its like, here or above)")
	f.StringVarP(&a.files.Name, "project-name", "p", "", "name of the project (default: that of the file, or of its directory)")
	f.StringVar(&a.files.Dir, "project-directory", "", "directory that paths are relative to (default: that of the first file)")
	f.StringArrayVar(&a.files.Profiles, "profile", nil, "enable the services of a profile")
	f.StringArrayVar(&a.files.EnvFiles, "env-file", nil, "file of variables for the compose file (default: .env)")
	cmd.AddCommand(a.upCommand(), a.downCommand(), a.psCommand(), a.logsCommand(), a.execCommand(), a.configCommand(), a.pullCommand(),
		a.createCommand(), a.eachCommand("start", "Start", "Started", nil), a.stopCommand(), a.restartCommand(),
		a.eachCommand("kill", "Kill", "Killed", killFlags), a.rmCommand())
	for _, c := range cmd.Commands() {
		c.DisableFlagsInUseLine = true
	}
	return cmd
}

// chosen loads the project with the services that are named and what they depend
// on; with no names all.
func (a *app) chosen(ctx context.Context, names []string, options ...types.DependencyOption) (*types.Project, error) {
	p, err := load(ctx, a.files)
	if err != nil || len(names) == 0 {
		return p, err
	}
	if p, err = p.WithServicesEnabled(names...); err != nil {
		return nil, err
	}
	return p.WithSelectedServices(names, options...)
}

// of returns a project's containers of some services, or all of its.
func (a *app) of(ctx context.Context, services []string) (*types.Project, []*container, error) {
	p, err := load(ctx, a.files)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range services {
		if _, err := p.GetService(s); err != nil {
			if _, disabled := p.DisabledServices[s]; !disabled {
				return nil, nil, err
			}
		}
	}
	list, err := a.containers(ctx, p.Name)
	if len(services) > 0 {
		list = slices.DeleteFunc(list, func(c *container) bool { return !slices.Contains(services, c.service()) })
	}
	return p, list, err
}

func (a *app) upCommand() *cobra.Command {
	o := upOptions{start: true}
	var detach, noDeps, abort bool
	var timeout int
	var exitFrom string
	var scales []string
	cmd := &cobra.Command{
		Use:   "up [flags] [SERVICE...]",
		Short: "Make and start containers",
		Long: `Make and start the containers of services and of those that they depend on, in that
order. What has not changed since is left alone. Without -d the output of all is shown,
and Ctrl-C stops them.`,
		Example: `  brig compose up -d
  brig compose up --scale web=3 --remove-orphans`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.recreate && o.keep {
				return errors.New("--force-recreate and --no-recreate exclude each other")
			}
			if cmd.Flags().Changed("timeout") {
				o.timeout = &timeout
			}
			p, err := a.chosen(cmd.Context(), args, dependencies(noDeps))
			if err != nil {
				return err
			}
			if err := setScales(p, scales); err != nil {
				return err
			}
			began := time.Now()
			if err := a.up(cmd.Context(), p, o); err != nil || detach {
				return err
			}
			return a.follow(cmd.Context(), p, attached{began, abort || exitFrom != "", exitFrom, o.timeout})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&detach, "detach", "d", false, "run in the background")
	f.BoolVar(&o.recreate, "force-recreate", false, "replace containers that have not changed, too")
	f.BoolVar(&o.keep, "no-recreate", false, "keep containers that have changed")
	f.BoolVar(&noDeps, "no-deps", false, "leave alone what the services depend on")
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "remove containers of services that the file does not have")
	f.StringVar(&o.pull, "pull", "", "when to pull images: missing, always or never")
	f.StringArrayVar(&scales, "scale", nil, "SERVICE=N: number of containers")
	f.IntVarP(&timeout, "timeout", "t", 10, "seconds to wait before containers that stop are killed")
	f.BoolVar(&abort, "abort-on-container-exit", false, "stop all when one ends")
	f.StringVar(&exitFrom, "exit-code-from", "", "end with the exit code of this service; implies --abort-on-container-exit")
	return cmd
}

func dependencies(none bool) types.DependencyOption {
	if none {
		return types.IgnoreDependencies
	}
	return types.IncludeDependencies
}

// setScales reads SERVICE=N.
func setScales(p *types.Project, scales []string) error {
	for _, text := range scales {
		name, number, ok := strings.Cut(text, "=")
		var n int
		if _, err := fmt.Sscanf(number+"\n", "%d\n", &n); !ok || err != nil || n < 0 {
			return fmt.Errorf("--scale %q: write SERVICE=N", text)
		}
		s, err := p.GetService(name)
		if err != nil {
			return fmt.Errorf("--scale: %w", err)
		}
		s.Scale = &n
		p.Services[name] = s
	}
	return nil
}

func (a *app) createCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:     "create [flags] [SERVICE...]",
		Short:   "Make containers and do not start them",
		Example: `  brig compose create`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.chosen(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.up(cmd.Context(), p, o)
		},
	}
	cmd.Flags().BoolVar(&o.recreate, "force-recreate", false, "replace containers that have not changed, too")
	cmd.Flags().BoolVar(&o.removeOrphans, "remove-orphans", false, "remove containers of services that the file does not have")
	return cmd
}

func (a *app) downCommand() *cobra.Command {
	var volumes, orphans bool
	var timeout int
	cmd := &cobra.Command{
		Use:     "down [flags] [SERVICE...]",
		Short:   "Stop and remove containers and networks",
		Example: `  brig compose down -v`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var t *int
			if cmd.Flags().Changed("timeout") {
				t = &timeout
			}
			p, list, err := a.of(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.down(cmd.Context(), p, list, downOptions{volumes, orphans, len(args) == 0, t})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&volumes, "volumes", "v", false, "remove the volumes of the file, and unnamed ones")
	f.BoolVar(&orphans, "remove-orphans", false, "remove containers of services that the file does not have")
	f.IntVarP(&timeout, "timeout", "t", 10, "seconds to wait before containers are killed")
	return cmd
}

type downOptions struct {
	volumes, orphans, all bool
	timeout               *int
}

// down removes the containers, those that depend on others first.
func (a *app) down(ctx context.Context, p *types.Project, list []*container, o downOptions) error {
	of := map[string][]*container{}
	for _, c := range list {
		of[c.service()] = append(of[c.service()], c)
	}
	remove := func(ctx context.Context, service string) error {
		for _, c := range of[service] {
			if err := a.removeAfter(ctx, c, o.timeout, o.volumes); err != nil {
				return err
			}
		}
		return nil
	}
	err := graph.InDependencyOrder(ctx, p, func(ctx context.Context, name string, _ types.ServiceConfig) error {
		return remove(ctx, name)
	}, graph.InReverseOrder)
	if err != nil || !o.all {
		return err
	}
	left := false
	for service := range of {
		if _, ok := p.Services[service]; ok {
			continue
		}
		if _, disabled := p.DisabledServices[service]; !disabled && !o.orphans {
			left = true
			continue
		}
		if err := remove(ctx, service); err != nil {
			return err
		}
	}
	if left {
		fmt.Fprintln(a.Err, "WARNING: containers of services that this file does not have are left; --remove-orphans removes them")
	}
	return a.removeObjects(ctx, p, o.volumes)
}

func (a *app) removeObjects(ctx context.Context, p *types.Project, volumes bool) error {
	remove := func(kind, title, name string, external bool) error {
		if external || !a.exists(ctx, kind, name) {
			return nil
		}
		if _, err := a.output(ctx, kind, "rm", name); err != nil {
			return err
		}
		a.told(title, name, "Removed")
		return nil
	}
	for _, n := range p.Networks {
		if err := remove("network", "Network", n.Name, bool(n.External)); err != nil {
			return err
		}
	}
	if volumes {
		for _, v := range p.Volumes {
			if err := remove("volume", "Volume", v.Name, bool(v.External)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) psCommand() *cobra.Command {
	var all, quiet, services bool
	var format string
	cmd := &cobra.Command{
		Use:     "ps [flags] [SERVICE...]",
		Short:   "List the containers",
		Example: `  brig compose ps -a`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("--format %q: use table or json", format)
			}
			_, list, err := a.of(cmd.Context(), args)
			if err != nil {
				return err
			}
			if !all {
				list = slices.DeleteFunc(list, func(c *container) bool { return !c.State.Running })
			}
			switch {
			case quiet:
				for _, c := range list {
					fmt.Fprintln(a.Out, c.ID)
				}
				return nil
			case services:
				for _, c := range list {
					if c.number() == 1 {
						fmt.Fprintln(a.Out, c.service())
					}
				}
				return nil
			}
			return printContainers(a.Out, list, format)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "also those that do not run")
	f.BoolVarP(&quiet, "quiet", "q", false, "IDs only")
	f.BoolVar(&services, "services", false, "names of services only")
	f.StringVar(&format, "format", "table", "table or json")
	return cmd
}

// row is a container as ps --format json has it, one object a line.
type row struct {
	ID, Name, Image, Service, State, Health string
	ExitCode                                int
}

func printContainers(out io.Writer, list []*container, format string) error {
	w := tabwriter.NewWriter(out, 10, 1, 3, ' ', 0)
	if format == "table" {
		fmt.Fprintln(w, "NAME\tIMAGE\tSERVICE\tSTATUS")
	}
	for _, c := range list {
		r := row{c.ID, c.name(), c.Config.Image, c.service(), c.State.Status, "", c.State.ExitCode}
		status := r.State
		if c.State.Health != nil && c.State.Running {
			r.Health = c.State.Health.Status
			status += " (" + r.Health + ")"
		} else if r.State == "exited" {
			status = fmt.Sprintf("exited (%d)", r.ExitCode)
		}
		if format == "json" {
			if err := json.NewEncoder(out).Encode(r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Name, r.Image, r.Service, status)
	}
	return w.Flush()
}

func (a *app) execCommand() *cobra.Command {
	var index int
	var detach, noTTY, privileged bool
	var user, dir string
	var env []string
	cmd := &cobra.Command{
		Use:     "exec [flags] SERVICE COMMAND [ARG...]",
		Short:   "Run a command in a container",
		Example: `  brig compose exec web sh`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, list, err := a.of(cmd.Context(), args[:1])
			if err != nil {
				return err
			}
			i := slices.IndexFunc(list, func(c *container) bool { return c.number() == index && c.State.Running })
			if i < 0 {
				return fmt.Errorf("no container %d of service %s is running: brig compose up -d %s", index, args[0], args[0])
			}
			run := []string{"exec"}
			if detach {
				run = append(run, "-d")
			} else if run = append(run, "-i"); !noTTY && isTerminal(os.Stdin) && isTerminal(os.Stdout) {
				run = append(run, "-t")
			}
			if privileged {
				run = append(run, "--privileged")
			}
			if user != "" {
				run = append(run, "-u", user)
			}
			if dir != "" {
				run = append(run, "-w", dir)
			}
			for _, e := range env {
				run = append(run, "-e", e)
			}
			return a.become(append(append(run, list[i].ID), args[1:]...))
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.IntVar(&index, "index", 1, "which container of the service")
	f.BoolVarP(&detach, "detach", "d", false, "run in the background")
	f.BoolVarP(&noTTY, "no-TTY", "T", false, "give no terminal (default: one, if this is one)")
	f.BoolVar(&privileged, "privileged", false, "give all capabilities")
	f.StringVarP(&user, "user", "u", "", "user")
	f.StringVarP(&dir, "workdir", "w", "", "working directory")
	f.StringArrayVarP(&env, "env", "e", nil, "set a variable")
	return cmd
}

// become runs a command of Brig with this process's streams, and ends as it ends.
func (a *app) become(args []string) error {
	cmd := a.command(context.Background(), args)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &ExitError{Code: exit.ExitCode()}
	}
	return err
}

func (a *app) configCommand() *cobra.Command {
	var quiet, services bool
	var format string
	cmd := &cobra.Command{
		Use:     "config [flags]",
		Short:   "Check the file and print what it means",
		Example: `  brig compose config -q`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := load(cmd.Context(), a.files)
			if err != nil {
				return err
			}
			for _, s := range p.Services {
				if _, err := createArgs(p, &s); err != nil {
					return err
				}
			}
			switch {
			case quiet:
				return nil
			case services:
				for _, name := range p.ServiceNames() {
					fmt.Fprintln(a.Out, name)
				}
				return nil
			}
			marshal := map[string]func() ([]byte, error){
				"yaml": func() ([]byte, error) { return p.MarshalYAML() },
				"json": func() ([]byte, error) { return p.MarshalJSON() },
			}[format]
			if marshal == nil {
				return fmt.Errorf("--format %q: use yaml or json", format)
			}
			data, err := marshal()
			if err == nil {
				_, err = a.Out.Write(data)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "only check")
	f.BoolVar(&services, "services", false, "names of services only")
	f.StringVar(&format, "format", "yaml", "yaml or json")
	return cmd
}

func (a *app) pullCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "pull [SERVICE...]",
		Short:   "Pull the images",
		Example: `  brig compose pull`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.chosen(cmd.Context(), args, types.IgnoreDependencies)
			if err != nil {
				return err
			}
			done := map[string]bool{}
			for _, name := range p.ServiceNames() {
				image := p.Services[name].Image
				if image == "" || done[image] {
					continue
				}
				done[image] = true
				if _, err := a.output(cmd.Context(), "pull", "-q", image); err != nil {
					return err
				}
				a.told("Image", image, "Pulled")
			}
			return nil
		},
	}
}

// isTerminal is asked before a terminal is given to exec.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
