// Package ocicmd is the command line of the OCI runtime, as engines call it:
// runc's commands, flags, output and words. It parses, calls package oci, and
// prints; it decides nothing.
//
// It stands apart from package cli because each start of a container under
// another engine runs it two or three times: it needs flags and no more.
package ocicmd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/brig-run/brig/internal/annotation"
	"github.com/brig-run/brig/internal/oci"
	"github.com/brig-run/brig/internal/version"
)

// Link is the name of a link to the binary that makes it an OCI runtime, for
// engines that take a path and no arguments.
const Link = "brig-runtime"

// app is what all commands share.
type app struct {
	name    string // of the program, for help
	version string
	out     io.Writer
	err     io.Writer
	log     logger
	rt      oci.Runtime
}

// command is one command: flags declares its flags and returns what runs it.
type command struct {
	name  string
	args  string // for the usage
	short string
	flags func(a *app, f *pflag.FlagSet) func(args []string) (int, error)
}

func commands() []command {
	return []command{
		{"create", "ID", "create a container of a bundle", createCommand},
		{"start", "ID", "execute the user's program in a created container", startCommand},
		{"run", "ID", "create and start a container", runCommand},
		{"exec", "ID COMMAND [ARG...]", "run a further process in a container", execCommand},
		{"kill", "ID [SIGNAL]", "send a signal (default SIGTERM) to a container's first process", killCommand},
		{"delete", "ID", "delete a container that has stopped", deleteCommand},
		{"state", "ID", "print the state of a container as JSON", stateCommand},
		{"list", "", "list the containers below the root", listCommand},
		{"ps", "ID [PS OPTION...]", "list the processes of a container", psCommand},
		{"pause", "ID", "freeze all processes of a container", pauseCommand},
		{"resume", "ID", "let the processes of a paused container go on", resumeCommand},
		{"update", "ID", "change the limits of a container", updateCommand},
		{"events", "ID", "print figures and out-of-memory events of a container", eventsCommand},
		{"spec", "", "write a new configuration into a bundle", specCommand},
		{"features", "", "print what this runtime supports as JSON", featuresCommand},
	}
}

// Main runs the command line and gives the exit code. name is what the user
// called.
func Main(name string, args []string) int {
	a := &app{name: name, version: version.Version(), out: os.Stdout, err: os.Stderr}
	a.log.out = os.Stderr
	a.rt.Warn = func(msg string) { a.log.write("warning", msg) }
	code, err := a.run(args)
	if err == nil {
		return code
	}
	if code == 0 {
		code = 1
	}
	a.log.write("error", err.Error())
	if a.log.file {
		fmt.Fprintf(a.err, "%s: %s\n", Link, err)
	}
	return code
}

func (a *app) run(args []string) (int, error) {
	f := a.globalFlags()
	if err := f.Parse(args); err != nil {
		return a.usage(err)
	}
	if v, _ := f.GetBool("version"); v {
		a.printVersion()
		return 0, nil
	}
	if err := a.log.open(f); err != nil {
		return 1, err
	}
	rest := f.Args()
	if len(rest) == 0 || rest[0] == "help" {
		a.help(f)
		return 0, nil
	}
	if rest[0] == annotation.Command { // not for users: see annotation.Spawn
		return 0, recorder(rest[1:])
	}
	for _, c := range commands() {
		if c.name == rest[0] {
			return a.command(c, rest[1:])
		}
	}
	return 1, fmt.Errorf("unknown command %q; see '%s --help'", rest[0], a.name)
}

// recorder is the process that records a container whose annotations ask for it.
func recorder(args []string) error {
	f := newFlags(annotation.Command)
	learn := f.Bool("learn", false, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	return annotation.Main(f.Arg(0), *learn)
}

func (a *app) usage(err error) (int, error) {
	if errors.Is(err, pflag.ErrHelp) {
		return 0, nil // printed
	}
	return 1, fmt.Errorf("%w; see '%s --help'", err, a.name)
}

func newFlags(name string) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SortFlags = false
	f.SetInterspersed(false)
	return f
}

func (a *app) globalFlags() *pflag.FlagSet {
	f := newFlags(a.name)
	f.StringVar(&a.rt.Root, "root", defaultRoot(), "directory of the state of containers")
	f.String("log", "", "file for messages (default: the standard error)")
	f.String("log-format", "text", "format of messages: text or json")
	f.Bool("debug", false, "write more messages")
	f.BoolVar(&a.rt.Systemd, "systemd-cgroup", false, "let systemd make cgroups; cgroupsPath is then slice:prefix:name")
	places := annotation.PlacesBelow(brigRoot())
	a.rt.Places = places
	f.StringVar(&a.rt.Places.Policies, "learn-dir", places.Policies, "directory for the policies of containers with the annotation "+annotation.Learn)
	f.StringVar(&a.rt.Places.Explained, "explain-dir", places.Explained, "directory for what such containers and those with "+annotation.Explain+" were denied")
	f.String("rootless", "auto", "accepted for runc's sake: true, false or auto")
	f.String("criu", "", "accepted for runc's sake; checkpoints are not supported")
	f.BoolP("version", "v", false, "print the version")
	f.MarkHidden("rootless")
	f.MarkHidden("criu")
	f.Usage = func() { a.help(f) }
	return f
}

// defaultRoot is in memory, and for a user without root's rights in a directory
// of the user's own.
func defaultRoot() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); os.Geteuid() != 0 && dir != "" {
		return dir + "/brig-runtime"
	}
	return oci.DefaultRoot
}

// brigRoot is the root directory of Brig's engine.
func brigRoot() string { return cmp.Or(os.Getenv("BRIG_ROOT"), "/var/lib/brig") }

func (a *app) command(c command, args []string) (int, error) {
	f := newFlags(c.name)
	// Engines put options before the ID. People also put them behind it; only a
	// command to execute has options of its own.
	f.SetInterspersed(c.name != "exec" && c.name != "ps")
	run := c.flags(a, f)
	f.Usage = func() {
		fmt.Fprintf(a.out, "Usage: %s %s [OPTION...] %s\n\n%s\n", a.name, c.name, c.args, upper(c.short))
		if text := f.FlagUsages(); text != "" {
			fmt.Fprintf(a.out, "\nOptions:\n%s", text)
		}
	}
	if err := f.Parse(args); err != nil {
		return a.usage(fmt.Errorf("%s: %w", c.name, err))
	}
	if err := checkArgs(a, c, f.NArg()); err != nil {
		return 1, err
	}
	return run(f.Args())
}

func checkArgs(a *app, c command, n int) error {
	least, most := 0, 0
	for _, w := range strings.Fields(c.args) {
		most++
		if !strings.HasPrefix(w, "[") && !strings.HasSuffix(w, "]") {
			least++
		}
	}
	if strings.Contains(c.args, "...") {
		most = 1 << 20
	}
	if c.name == "exec" {
		least = 1 // --process has the command
	}
	if n < least || n > most {
		return fmt.Errorf("%s: wrong number of arguments; usage: %s %s [OPTION...] %s", c.name, a.name, c.name, c.args)
	}
	return nil
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

func (a *app) help(f *pflag.FlagSet) {
	fmt.Fprintf(a.out, `Usage: %[1]s [OPTION...] COMMAND [ARG...]

An OCI runtime: it runs containers that another engine has prepared as bundles.
Its command line is runc's. Engines call it by a link named %[2]s:

  ln -s "$(command -v brig)" /usr/local/bin/%[2]s
  podman --runtime /usr/local/bin/%[2]s run --rm IMAGE
  %[1]s run --bundle DIR ID

Commands:
`, a.name, Link)
	for _, c := range commands() {
		fmt.Fprintf(a.out, "  %-9s %s\n", c.name, c.short)
	}
	fmt.Fprintf(a.out, "\nOptions:\n%s", f.FlagUsages())
}

// printVersion writes the lines that engines parse.
func (a *app) printVersion() {
	fmt.Fprintf(a.out, "%s version %s\n", Link, a.version)
	if rev := version.Revision(); rev != "" {
		fmt.Fprintf(a.out, "commit: %s\n", rev)
	}
	fmt.Fprintf(a.out, "spec: %s\ngo: %s\n", specs.Version, runtime.Version())
}
