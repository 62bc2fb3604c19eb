package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/monitor"
)

func newRun(a *app) *cobra.Command {
	c := &createFlags{}
	var detach, sigProxy, explain bool
	var keys string
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND] [ARG...]",
		Short: "Create a container from an image and run it",
		Long: `Create a container from an image, pulled if it is not here, and run a command
in it. The exit code is the command's; 125 if Brig failed, 126 if the command
cannot be executed, 127 if it was not found.`,
		Example: `  brig run brig/hello
  brig run --rm -it debian sh
  brig run -d --name web --cap-drop ALL --cap-add NET_BIND_SERVICE nginx
  brig run --cap-drop ALL --cap-add SYS_TIME ntpd /bin/sh
  brig run --security-opt seccomp=profile.json alpine
  brig run --rm -v /srv/data:/data:ro -m 512m --cpus 1.5 python:3 python /data/job.py`,
		Args: imageArgs,
	}
	c.add(cmd)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "run in the background and print the container's ID")
	cmd.Flags().BoolVar(&sigProxy, "sig-proxy", true, "forward signals to the container")
	cmd.Flags().StringVar(&keys, "detach-keys", defaultDetachKeys, "keys that leave a terminal and let the container run")
	addExplain(cmd, &explain)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := &runner{a: a, c: c, s: &session{a: a, tty: c.o.TTY, sigProxy: sigProxy}, explain: explain}
		var err error
		if r.s.detach, err = parseDetachKeys(keys); err != nil {
			return &exitError{engineFailed, err}
		}
		if detach {
			return r.detached(cmd, args)
		}
		return r.foreground(cmd, args)
	}
	return cmd
}

func newCreate(a *app) *cobra.Command {
	c := &createFlags{}
	var explain bool
	cmd := &cobra.Command{
		Use:   "create [flags] IMAGE [COMMAND] [ARG...]",
		Short: "Create a container, to be started later",
		Example: `  brig create --name db postgres
  brig start db`,
		Args: imageArgs,
	}
	c.add(cmd)
	addExplain(cmd, &explain)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, o, err := a.prepare(c, cmd, args)
		if err != nil {
			return engineError(err)
		}
		o.Explain = explain
		id, err := c.reserveCIDFile()
		if err != nil {
			return engineError(err)
		}
		ctr, err := e.Create(o)
		if err != nil {
			id("")
			return engineError(err)
		}
		fmt.Fprintln(a.out, ctr.ID)
		return engineError(id(ctr.ID))
	}
	return cmd
}

// imageArgs asks for an image.
func imageArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &exitError{engineFailed, argsError(c, "at least 1 argument: the image")}
	}
	return nil
}

// engineError gives an error the exit code of the engine's own failures, or of
// a command that could not be started.
func engineError(err error) error {
	var ee *exitError
	if err == nil || errors.As(err, &ee) {
		return err
	}
	return &exitError{engine.ExitCode(err), err}
}

// prepare turns the command line into what the engine needs, the image found or
// pulled.
func (a *app) prepare(c *createFlags, cmd *cobra.Command, args []string) (*engine.Engine, engine.CreateOptions, error) {
	o, err := c.options(cmd, args)
	if err != nil {
		return nil, o, err
	}
	e, err := a.engine()
	if err != nil {
		return nil, o, err
	}
	o.Resolved, err = a.resolve(cmd.Context(), o.Image, c)
	return e, o, err
}

// runner is one brig run.
type runner struct {
	a *app
	c *createFlags
	s *session

	explain bool
}

// start creates and starts the container, and writes the ID's file.
func (r *runner) start(cmd *cobra.Command, args []string, detached bool, attach monitor.Streams) (*engine.Run, error) {
	e, o, err := r.a.prepare(r.c, cmd, args)
	if err != nil {
		return nil, err
	}
	o.Detached, o.Explain = detached, r.explain
	id, err := r.c.reserveCIDFile()
	if err != nil {
		return nil, err
	}
	run, err := e.Run(o, attach, r.s.size())
	if err != nil {
		id("")
		return nil, err
	}
	if err := id(run.Container.ID); err != nil {
		run.Client.Close()
		return nil, fmt.Errorf("write --cidfile: %w; the container %s runs", err, run.Container.ID)
	}
	r.a.warn(run.Warnings)
	return run, nil
}

// warn prints what was asked for and could not be had, but does not matter to
// safety.
func (a *app) warn(list []string) {
	for _, w := range list {
		fmt.Fprintln(a.err, "WARNING: "+strings.TrimSuffix(w, "\n"))
	}
}

func (r *runner) detached(cmd *cobra.Command, args []string) error {
	if len(r.c.attach) > 0 {
		return &exitError{engineFailed, errors.New("-d and -a exclude each other: a detached container has nothing attached")}
	}
	run, err := r.start(cmd, args, true, 0)
	if err != nil {
		return engineError(err)
	}
	run.Client.Close()
	fmt.Fprintln(r.a.out, run.Container.ID)
	return nil
}

func (r *runner) foreground(cmd *cobra.Command, args []string) error {
	streams, err := r.c.streams()
	if err != nil {
		return &exitError{engineFailed, err}
	}
	r.s.stdin = streams&monitor.Stdin != 0
	if err := r.s.checkTTY(); err != nil {
		return err
	}
	run, err := r.start(cmd, args, false, streams)
	if err != nil {
		return engineError(err)
	}
	defer run.Client.Close()
	code, err := r.s.watched(run)
	return leave(r.a, code, err)
}
