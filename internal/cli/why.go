package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/annotation"
	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/witness"
	"github.com/brig-run/brig/seccomp"
)

// addExplain adds --explain, which a variable can turn on for all containers.
func addExplain(cmd *cobra.Command, v *bool) {
	on := os.Getenv("BRIG_EXPLAIN")
	cmd.Flags().BoolVar(v, "explain", on != "" && on != "0", "record what the container is denied, and explain it at the end and by 'brig why' (also BRIG_EXPLAIN=1)")
}

func newWhy(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "why [flags] CONTAINER",
		Short: "Explain what a container was denied",
		Long: `Explain what a container was denied: system calls that its seccomp profile
stopped, and calls that failed for want of a capability, with the program that
made them and the flag that would allow them. The container must have been
started with --explain; it may still run. Or it is one of another engine, by ID,
that runs under Brig's OCI runtime with the annotation dev.brig.explain=true; it
may have been removed.`,
		Example: `  brig run -d --explain --name clock ntpd
  brig why clock
  brig why --format json clock
  podman --runtime brig-runtime run -d --annotation dev.brig.explain=true IMAGE
  brig why "$(podman ps -lq)"`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.container(args[0])
			var missing *engine.NotFoundError
			if errors.As(err, &missing) {
				return a.whyAnnotated(args[0], format, err)
			}
			if err != nil {
				return err
			}
			return a.why(c, format)
		},
	}
	addFormat(cmd, &format, textOrJSON)
	cmd.ValidArgsFunction = a.completeExplained
	return cmd
}

func (a *app) why(c *engine.Container, format string) error {
	rec, err := witness.Ask(c.Dir())
	if errors.Is(err, witness.ErrNone) {
		return fmt.Errorf("%s was not started with --explain: %w; start it as brig run --explain, or see brig record", c.Name, err)
	}
	if err != nil {
		return err
	}
	held, err := c.Confinement()
	if err != nil {
		return err
	}
	return a.tellWhy(rec, explained(rec, held), format)
}

// whyAnnotated is for a container of another engine.
func (a *app) whyAnnotated(id, format string, missing error) error {
	found, err := annotation.Why(annotation.PlacesBelow(a.root), id)
	switch {
	case errors.Is(err, annotation.ErrNone):
		return fmt.Errorf("%w, and none of that ID that was recorded under brig runtime (annotation %s)", missing, annotation.Explain)
	case err != nil:
		return err
	}
	return a.tellWhy(found.Recording, found.Lines, format)
}

func (a *app) completeExplained(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	names, how := a.completeContainers()(cmd, args, begun)
	return append(names, annotation.Recorded(annotation.PlacesBelow(a.root))...), how
}

func (a *app) tellWhy(rec *record.Recording, lines []explain.Line, format string) error {
	if format == "json" {
		return printIndented(a.out, struct {
			Denials  []explain.Line `json:"denials"`
			Complete bool           `json:"complete"`
			Notes    []string       `json:"notes"`
		}{append([]explain.Line{}, lines...), rec.Complete, append([]string{}, rec.Notes...)})
	}
	for _, l := range lines {
		fmt.Fprintln(a.out, l.String())
	}
	if len(lines) == 0 {
		fmt.Fprintln(a.err, "nothing was denied")
	}
	a.notes(rec)
	return nil
}

// notes prints what the recording cannot say.
func (a *app) notes(rec *record.Recording) {
	if !rec.Complete {
		fmt.Fprintf(a.err, "WARNING: the recording is not complete; lost: %v\n", rec.Lost)
	}
	for _, n := range rec.Notes {
		fmt.Fprintln(a.err, "NOTE: "+n)
	}
}

func explained(rec *record.Recording, held *engine.Confinement) []explain.Line {
	kernel, _ := seccomp.RunningKernel()
	lines := explain.Denials(rec.Denials, explain.Context{
		Caps: held.Caps, Root: held.Root, Profile: held.Profile, ProfileName: held.ProfileName, Policy: held.Policy, Kernel: kernel,
	})
	if lines == nil {
		lines = []explain.Line{}
	}
	return lines
}

// listen notices words of the C library for a refused system call.
func (s *session) listen(b []byte) {
	if s.complained {
		return
	}
	for _, words := range []string{"not permitted", "ermission denied", "not implemented", "ad system call"} {
		if bytes.Contains(b, []byte(words)) {
			s.complained = true
			return
		}
	}
}

// badSystemCall is the exit code of a program that a filter killed: 128 and
// SIGSYS.
const badSystemCall = 128 + 31

// watched is attached to a container that was just started, and ends with what
// it was denied. Without a witness it says how to get one, where a container
// failed and said itself that something was refused.
func (s *session) watched(run *engine.Run) (int, error) {
	if run.Witness == nil {
		code, err := s.attached(run.Client, run.Container.ExitOf)
		if err == nil && code != 0 && (s.complained || code == badSystemCall) {
			fmt.Fprintln(s.a.err, "brig: to see what it was denied, and the flag that allows it: brig run --explain")
		}
		return code, err
	}
	held, herr := run.Container.Confinement() // now: with --rm it may soon be gone
	code, err := s.attached(run.Client, run.Container.ExitOf)
	if err != nil {
		run.Witness.Close()
		return code, err
	}
	rec, werr := run.Witness.Wait()
	if werr = errors.Join(herr, werr); werr != nil {
		fmt.Fprintf(s.a.err, "brig: --explain: %v\n", werr)
		return code, nil
	}
	s.denied(rec, held, code)
	return code, nil
}

func (s *session) denied(rec *record.Recording, held *engine.Confinement, code int) {
	shown := false
	for _, l := range explained(rec, held) {
		if l.Harmless && code == 0 {
			continue
		}
		if !shown {
			fmt.Fprintln(s.a.err, "brig: the container was denied:")
			shown = true
		}
		fmt.Fprintln(s.a.err, "  "+l.String())
	}
	s.a.notes(rec)
}

func newWitness(*app) *cobra.Command {
	return &cobra.Command{
		Use: witness.Command, Hidden: true, Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return witness.Main(args[0]) },
	}
}
