package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/reach"
	"github.com/brig-run/brig/internal/report"
)

// scanned is what the programs of an image can reach.
type scanned struct {
	Program string // or several, by commas; "" for all of the image
	Notes   []string
	calls   []report.ReachableCall
}

func (s *scanned) names() (list []string) {
	for _, c := range s.calls {
		list = append(list, c.Name)
	}
	return list
}

// checked is the result of brig policy check.
type checked struct {
	Program   string                 `json:"program,omitempty"`
	Reachable int                    `json:"reachable"`
	Denied    []report.ReachableCall `json:"denied"`
	Unreached []string               `json:"unreached"`
	Notes     []string               `json:"notes"`
}

func newPolicyCheck(a *app) *cobra.Command {
	var format string
	var all bool
	var programs []string
	cmd := &cobra.Command{
		Use:   "check [flags] IMAGE POLICY",
		Short: "Show which system calls an image's code can reach that a policy does not allow",
		Long: `Read the machine code of the program that the policy is for, with its libraries,
and show the system calls that it can reach and the policy does not allow: no run
has made them, and they fail if one does. Calls that the policy allows and the
program does not reach itself come from other programs, or from nowhere.

The program is that of the policy's command, or of the image's. If that is a
shell or a script, all programs of the image are read, as with --all; --program
names those that the script runs. Code for x86-64 is read; nothing is run.`,
		Example: `  brig policy check nginx nginx.policy.json
  brig policy check --program nginx --program sh nginx nginx.policy.json
  brig policy check --format json nginx nginx.policy.json`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format, textOrJSON); err != nil {
				return err
			}
			p, err := policy.Load(args[1])
			if err != nil {
				return err
			}
			s, err := a.scan(cmd, args[0], p, all, programs)
			if err != nil {
				return err
			}
			c := s.check(p)
			if format == "json" {
				return printIndented(a.out, c)
			}
			a.printChecked(c)
			return nil
		},
	}
	addFormat(cmd, &format, textOrJSON)
	cmd.Flags().BoolVar(&all, "all", false, "read all programs of the image")
	cmd.Flags().StringSliceVar(&programs, "program", nil, "read this program, and not that of the command; repeatable")
	cmd.MarkFlagsMutuallyExclusive("all", "program")
	cmd.ValidArgsFunction = a.completeImages
	return cmd
}

func (s *scanned) check(p *policy.Policy) *checked {
	denied, unreached := p.Unseen(s.names())
	c := &checked{Program: s.Program, Reachable: len(s.calls), Denied: []report.ReachableCall{}, Unreached: append([]string{}, unreached...), Notes: append([]string{}, s.Notes...)}
	for _, call := range s.calls {
		if slices.Contains(denied, call.Name) {
			c.Denied = append(c.Denied, call)
		}
	}
	return c
}

func (a *app) printChecked(c *checked) {
	what := c.Program
	if what == "" {
		what = "all programs of the image"
	}
	fmt.Fprintf(a.out, "%s: %d system calls can be reached, %d of them not allowed\n", explain.Printable(what), c.Reachable, len(c.Denied))
	for _, d := range c.Denied {
		fmt.Fprintf(a.out, "  %s: %s\n", d.Name, explain.Printable(d.How))
	}
	if len(c.Unreached) > 0 {
		fmt.Fprintf(a.out, "allowed, and not reached by this code: %s\n", strings.Join(c.Unreached, " "))
	}
	for _, n := range c.Notes {
		fmt.Fprintln(a.err, "NOTE: "+explain.Printable(n))
	}
}

// scan reads the code of the program that a policy is for, or of those that are
// named.
func (a *app) scan(cmd *cobra.Command, name string, p *policy.Policy, all bool, programs []string) (*scanned, error) {
	img, err := a.resolve(cmd.Context(), name, &createFlags{pull: "missing"})
	if err != nil {
		return nil, err
	}
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	root, err := e.OpenImage(img)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	commands := [][]string{slices.Concat(img.Config.Entrypoint, img.Config.Cmd)}
	if len(p.Command) > 0 {
		commands[0] = slices.Concat(img.Config.Entrypoint, p.Command)
	}
	if len(programs) > 0 {
		commands = nil
		for _, program := range programs {
			commands = append(commands, []string{program})
		}
	}
	s := &scanned{}
	var files []string
	for _, command := range commands {
		if all {
			break
		}
		file, err := reach.Command(root.FS(), command, pathOf(img.Config.Env))
		switch {
		case errors.Is(err, reach.ErrRunsOthers) && programs == nil:
			s.Notes = append(s.Notes, fmt.Sprintf("%v, so all programs of the image are read; --program names some", err))
			all = true
		case err != nil && !errors.Is(err, reach.ErrRunsOthers):
			return nil, fmt.Errorf("the program of the image %s: %w", name, err)
		}
		files = append(files, file)
	}
	if err := s.read(root.FS(), all, files); err != nil {
		return nil, fmt.Errorf("read the code of the image %s: %w", name, err)
	}
	return s, nil
}

// read reads the code of all programs, or of some.
func (s *scanned) read(fsys fs.FS, all bool, files []string) error {
	if all {
		r, err := reach.Tree(fsys)
		if err == nil {
			s.take(r)
		}
		return err
	}
	s.Program = strings.Join(files, ", ")
	for _, file := range files {
		r, err := reach.Program(fsys, file)
		if err != nil {
			return err
		}
		s.take(r)
	}
	return nil
}

// take keeps the calls by name, with one example of how each is reached.
func (s *scanned) take(r *reach.Reach) {
	for _, c := range r.Calls {
		if c.Name == "" || slices.Contains(s.names(), c.Name) {
			continue
		}
		s.calls = append(s.calls, report.ReachableCall{Name: c.Name, How: fmt.Sprintf("%s in %s", c.Site.Function, c.Site.File)})
	}
	slices.SortFunc(s.calls, func(a, b report.ReachableCall) int { return strings.Compare(a.Name, b.Name) })
	if n := len(r.Unknown); n > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("at %d places the number of the call could not be found, as at %s in %s: any call may be made there", n, r.Unknown[0].Function, r.Unknown[0].File))
	}
	for _, n := range r.Notes {
		if !slices.Contains(s.Notes, n) {
			s.Notes = append(s.Notes, n)
		}
	}
}

// defaultPath is where programs are looked for if the image does not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func pathOf(env []string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			return value
		}
	}
	return defaultPath
}
