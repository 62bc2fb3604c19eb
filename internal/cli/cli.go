// Package cli is the command line: flags in, one call of the engine, output
// out. It holds no logic of its own: what a flag's value means is package
// spec's, what a command does is package engine's.
//
// One file holds one command. To add one, write newNAME(a *app) *cobra.Command
// in NAME.go, with Use, Short, Example, Args and RunE, and list it in the table
// commands. RunE returns errors; Main prints them and chooses the exit code: 1,
// or what an *exitError says (125 for run and create, as under Docker).
// Results go to a.out, everything else to a.err.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/brig-run/brig/internal/annotation"
	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/ocicmd"
	"github.com/brig-run/brig/internal/rootless"
)

// app is what all commands share.
type app struct {
	root string
	in   *os.File
	out  io.Writer
	err  io.Writer
	eng  *engine.Engine
}

// engine opens the store. It needs root's rights.
func (a *app) engine() (*engine.Engine, error) {
	if a.eng != nil {
		return a.eng, nil
	}
	if os.Geteuid() != 0 {
		return nil, rootlessly(a.root)
	}
	var err error
	a.eng, err = engine.Open(a.root)
	return a.eng, err
}

// rootlessly runs this command again in the user's own namespace, where the user
// is root, and ends with it. It returns only if that is not possible.
func rootlessly(root string) error {
	code, err := rootless.Enter([]string{"BRIG_ROOT=" + root})
	if err != nil {
		return &exitError{engineFailed, err}
	}
	os.Exit(code)
	return nil
}

// defaultRoot is the directory of images and containers: for an ordinary user
// one of the user's own (XDG Base Directory Specification).
func defaultRoot() string {
	if v := os.Getenv("BRIG_ROOT"); v != "" {
		return v
	}
	if os.Geteuid() == 0 {
		return engine.DefaultRoot
	}
	dir := os.Getenv("XDG_DATA_HOME")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".local/share")
	}
	return filepath.Join(dir, "brig")
}

// exitError carries the exit code of a command that failed, or of the
// container that it ran; err may be nil for the latter.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// engineFailed is the exit code of run, create and exec when not the container
// but Brig fails.
const engineFailed = 125

// command is one entry of the table of commands.
type command struct {
	name  string
	group string
	make  func(*app) *cobra.Command
}

// Groups of the help.
const (
	groupRun    = "run"
	groupImages = "images"
	groupOther  = "other"
)

// find gives the command that the arguments name, to build that one alone: to
// build all takes longer than to start a container's first process.
func find(args []string) []command {
	for i := 0; i < len(args); i++ {
		if args[i] == "--root" {
			i++
			continue
		}
		if strings.HasPrefix(args[i], "-") {
			continue
		}
		for _, c := range commands() {
			if c.name == args[i] {
				return []command{c}
			}
		}
		break
	}
	return commands()
}

// Main runs the command line and gives the exit code.
func Main(args []string) int {
	if len(args) > 0 && args[0] == annotation.Command {
		return ocicmd.Main("brig runtime", args)
	}
	if len(args) > 0 && args[0] == "runtime" {
		return ocicmd.Main("brig runtime", args[1:])
	}
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	root := newRoot(a, find(args))
	root.SetArgs(args)
	if completing(args) {
		addCompletions(a, root)
	}
	err := root.Execute()
	if err == nil {
		return 0
	}
	var ee *exitError
	code := 1
	if errors.As(err, &ee) {
		if code = ee.code; ee.err == nil {
			return code
		}
	}
	fmt.Fprintf(a.err, "brig: %s\n", strings.TrimSuffix(err.Error(), "\n"))
	return code
}

func newRoot(a *app, list []command) *cobra.Command {
	root := &cobra.Command{
		Use:   "brig",
		Short: "Containers that hold only the privileges they need",
		Long: `Brig runs Docker-format images on Linux. Its commands and flags are Docker's;
there is no daemon. Linux capabilities and seccomp are easy, exact and provable.`,
		Example: `  brig run brig/hello
  brig run --rm --cap-drop ALL --cap-add NET_BIND_SERVICE nginx
  brig capabilities`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       engine.Version(),
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("Brig version {{.Version}}\n")
	root.PersistentFlags().StringVar(&a.root, "root", defaultRoot(), "directory of images and containers (also BRIG_ROOT)")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		var bad *pflag.InvalidValueError
		if errors.As(err, &bad) {
			if _, ours := bad.GetFlag().Value.(*parsedValue); ours {
				err = bad.Unwrap() // names the flag and the value itself
			}
		}
		return &exitError{engineFailed, fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())}
	})
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Containers:"}, &cobra.Group{ID: groupImages, Title: "Images:"},
		&cobra.Group{ID: groupOther, Title: "Other:"})
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	for _, c := range list {
		cmd := c.make(a)
		cmd.GroupID = c.group
		cmd.DisableFlagsInUseLine = true
		root.AddCommand(cmd)
	}
	return root
}

// exactArgs is cobra.ExactArgs with an error that shows the usage.
func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return argsError(c, fmt.Sprintf("exactly %d argument%s", n, plural(n)))
		}
		return nil
	}
}

// minArgs asks for n arguments or more.
func minArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return argsError(c, fmt.Sprintf("at least %d argument%s", n, plural(n)))
		}
		return nil
	}
}

// noArgs refuses arguments.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return argsError(c, "no arguments")
	}
	return nil
}

func argsError(c *cobra.Command, want string) error {
	return fmt.Errorf("%q requires %s; usage: %s; see '%s --help'", c.CommandPath(), want, c.UseLine(), c.CommandPath())
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// forEach applies f to each name, prints the name where it worked, and reports
// every failure.
func (a *app) forEach(names []string, f func(name string) error) error {
	failed := 0
	for _, n := range names {
		if err := f(n); err != nil {
			failed++
			fmt.Fprintf(a.err, "brig: %s\n", err)
			continue
		}
		fmt.Fprintln(a.out, n)
	}
	if failed > 0 {
		return &exitError{code: 1}
	}
	return nil
}

// container finds a container by name or ID.
func (a *app) container(name string) (*engine.Container, error) {
	if strings.Contains(name, "://") { // containerd://ID, as Kubernetes has it
		return nil, &engine.NotFoundError{Name: name}
	}
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	return e.Find(name)
}
