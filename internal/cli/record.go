package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/record/notified"
	"github.com/brig-run/brig/internal/userns"
)

// recordFlags are those of brig record.
type recordFlags struct {
	a *app

	container, cgroup, output, format string
	recording                         string // file for what brig learn reads
	pid                               int
	duration                          time.Duration
}

func newRecord(a *app) *cobra.Command {
	f := &recordFlags{a: a}
	cmd := &cobra.Command{
		Use:   "record [flags] (--container ID | --pid N | --cgroup DIR | COMMAND [ARG...])",
		Short: "Record what a running container or a command uses",
		Long: `Record in the kernel what runs already: its system calls, the capabilities that
it asks for, and what it is denied. The container may be one of Brig's, by name or
ID, or one of podman, Docker, containerd or Kubernetes, by ID. With --pid, a process
and its descendants are recorded; with --cgroup, all that is in it.

The recording ends with Ctrl-C, with --for, or with the container. What came
before it, such as the container's start, is not in it: see brig learn.

A COMMAND is run on this machine and recorded, which needs no privileges: each of
its system calls is handed to brig by a seccomp filter (some microseconds a call).
That shows neither which capabilities it asks for nor what it is denied, and no
program of it gains privileges by set-user-ID. A signal may end a call with EINTR
that would not end otherwise. The result goes to standard error, or
with -o to a file; the exit code is the command's. This works in a container, too,
also in a rootless one, if this program is mounted there.`,
		Example: `  brig record --container web --for 1m -o web.policy.json
  brig record --container $(podman inspect -f '{{.Id}}' db) --format json > db.json
  brig record --pid $(pidof nginx)
  brig record -o ls.policy.json ls -l /
  brig run --rm -v $(command -v brig):/brig:ro -v $PWD:/out IMAGE /brig record -o /out/app.policy.json COMMAND`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd, args); err != nil {
				return err
			}
			if len(args) > 0 {
				return f.command(args)
			}
			return f.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command is its own
	flags.StringVar(&f.container, "container", "", "name of a container, or ID of any engine's")
	flags.IntVar(&f.pid, "pid", 0, "number of a process")
	flags.StringVar(&f.cgroup, "cgroup", "", "directory of a cgroup, or its path in the v2 hierarchy")
	flags.DurationVar(&f.duration, "for", 0, "time to record, such as 30s (default: until the end)")
	flags.StringVarP(&f.output, "output", "o", "", `policy file to write, of what was used; "-" for standard output`)
	flags.StringVar(&f.recording, "recording", "", "file for the recording of a command; of use to brig learn")
	flags.MarkHidden("recording")
	addFormat(cmd, &f.format, tableOrJSON)
	cmd.MarkFlagsMutuallyExclusive("container", "pid", "cgroup")
	return cmd
}

// check looks at flags that need one another, or exclude one another.
func (f *recordFlags) check(cmd *cobra.Command, args []string) error {
	if err := checkFormat(f.format, tableOrJSON); err != nil {
		return err
	}
	target := ""
	for _, name := range []string{"container", "pid", "cgroup"} {
		if cmd.Flags().Changed(name) {
			target = name
		}
	}
	switch {
	case target == "" && len(args) == 0:
		return errors.New("nothing to record: name a container with --container, a process with --pid, a cgroup with --cgroup, or a command to run")
	case target != "" && len(args) > 0:
		return fmt.Errorf("--%s and the command %q exclude each other: leave one out", target, args[0])
	case len(args) > 0 && cmd.Flags().Changed("for"):
		return errors.New("--for and a command exclude each other: a command is recorded to its end")
	case len(args) > 0 && f.output == "-":
		return errors.New("-o - and the command both write to standard output: name a file")
	}
	if cmd.Flags().Changed("for") && f.duration <= 0 {
		return fmt.Errorf("--for %s: must be more than 0", f.duration)
	}
	if f.output == "-" && cmd.Flags().Changed("format") {
		return errors.New("-o - and --format both write to standard output: leave one out")
	}
	return nil
}

// needsRoot refuses a command that records in the kernel to whom may not.
func needsRoot(command string) error {
	if isRoot() {
		return nil
	}
	return fmt.Errorf("%s records in the kernel, which takes root of this machine: use sudo; 'brig record COMMAND' needs no privileges, and records system calls alone, also in a container: see brig record --help", command)
}

// isRoot says whether this is root of the machine, not of a user namespace.
func isRoot() bool { return os.Geteuid() == 0 && !userns.Inside() }

func (f *recordFlags) run(cmd *cobra.Command) error {
	if err := needsRoot(cmd.CommandPath() + " --container, --pid or --cgroup"); err != nil {
		return err
	}
	run, err := f.find(cmd)
	if err != nil {
		return err
	}
	defer run.Close()
	rec, err := f.record(cmd.Context(), run)
	if err != nil {
		return err
	}
	return f.finish(rec, f.a.out, startMissing)
}

// command records a command without privileges.
func (f *recordFlags) command(args []string) error {
	signals := make(chan os.Signal, 8)
	c := notified.Command{Args: args, Env: os.Environ(), Signals: signals}
	end := func(rec *record.Recording) error { return f.finish(rec, f.a.err, "") }
	if f.recording != "" { // the first process of a container, whose stop signal may be any
		signal.Notify(signals, stopSignals()...)
		c.Keep, end = func(rec *record.Recording) { f.keep(rec) }, f.keep
	} else {
		// Ctrl-C and the like reach the command by the terminal.
		signal.Ignore(os.Interrupt, unix.SIGQUIT)
		signal.Notify(signals, unix.SIGTERM, unix.SIGHUP)
	}
	rec, code, err := c.Run()
	var start *notified.StartError
	switch {
	case errors.As(err, &start) && errors.Is(err, unix.ENOENT):
		return &exitError{127, err}
	case errors.As(err, &start):
		return &exitError{126, err}
	case err != nil:
		return &exitError{engineFailed, err}
	}
	if err := end(rec); err != nil {
		return &exitError{engineFailed, err}
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// keep writes a recording for brig learn: whoever reads the file sees a whole one.
func (f *recordFlags) keep(rec *record.Recording) error {
	return f.a.writeResult(f.recording, false, func(w io.Writer) error { return json.NewEncoder(w).Encode(rec) })
}

// stopSignals are those that a user may send to a container to end it.
func stopSignals() []os.Signal {
	list := []os.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGPWR}
	for s := unix.Signal(35); s <= 64; s++ { // SIGRTMIN+1 on, signal(7); systemd's begins at +3
		list = append(list, s)
	}
	return list
}

func (f *recordFlags) find(cmd *cobra.Command) (*record.Running, error) {
	switch {
	case cmd.Flags().Changed("pid"):
		return record.FindProcess(f.pid)
	case cmd.Flags().Changed("cgroup"):
		return record.FindCgroup(f.cgroup)
	}
	run, _, err := f.a.running(f.container)
	return run, err
}

// recorder opens a recorder for one recording.
func (a *app) recorder() (*record.Recorder, error) {
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	return record.Open(1, e.RecorderFile())
}

// running finds a container of Brig by name or ID, or of another engine by ID,
// for which the second result is nil.
func (a *app) running(name string) (*record.Running, *engine.Container, error) {
	if strings.Contains(name, "://") { // of Kubernetes: containerd://ID
		run, err := record.FindContainer(name)
		return run, nil, err
	}
	c, err := a.container(name)
	var missing *engine.NotFoundError
	if errors.As(err, &missing) {
		run, err := record.FindContainer(name)
		return run, nil, err
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := c.State()
	if err != nil {
		return nil, nil, err
	}
	if s.Status != engine.StatusRunning {
		return nil, nil, fmt.Errorf("container %s is not running; see 'brig learn' to record from its start", name)
	}
	run, err := record.FindContainer(c.ID)
	return run, c, err
}

// record records until the time is over, the user wants no more, or nobody is
// left.
func (f *recordFlags) record(ctx context.Context, run *record.Running) (*record.Recording, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer stop()
	recorder, err := f.a.recorder()
	if err != nil {
		return nil, err
	}
	defer recorder.Close()
	session, err := recorder.Attach(run.Targets...)
	if err != nil {
		return nil, err
	}
	if f.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	fmt.Fprintf(f.a.err, "recording %s; Ctrl-C ends it\n", run.What)
	for tick := time.Tick(100 * time.Millisecond); run.Alive(); {
		select {
		case <-ctx.Done():
			return session.Stop()
		case <-tick:
		}
	}
	return session.Stop()
}

// finish writes the policy, and what was recorded to w. missing is what the
// recording cannot have.
func (f *recordFlags) finish(rec *record.Recording, w io.Writer, missing string) error {
	f.a.notes(rec)
	if f.output != "" {
		if err := f.writePolicy(rec, missing); err != nil {
			return err
		}
	}
	switch {
	case f.output == "-" || f.output != "" && w == f.a.err:
		return nil
	case f.format == "json":
		return printIndented(w, rec)
	}
	return printRecording(w, rec)
}

const startMissing = "the container ran already when the recording began: of what its start needs, only the calls by which programs are loaded are here, which are assumed"

func (f *recordFlags) writePolicy(rec *record.Recording, missing string) error {
	if missing != "" {
		rec.Assumed = policy.StartCalls()
	}
	id := "record-" + rec.Started.UTC().Format("20060102T150405.000")
	p, err := policy.FromRecording(rec, policy.Run{ID: id, Purpose: policy.PurposeLearn})
	if err != nil {
		return err
	}
	if missing != "" {
		p.Notes = append(p.Notes, missing)
	}
	data, err := p.Encode()
	if err != nil {
		return err
	}
	return f.a.writeResult(f.output, false, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func printRecording(w io.Writer, rec *record.Recording) error {
	calls := [][]string{{"SYSCALL", "ABI", "COUNT", "BLOCKED", "FIRST PROGRAM"}}
	for i := range rec.Syscalls {
		c := &rec.Syscalls[i]
		calls = append(calls, []string{cmp.Or(c.Name, fmt.Sprint(c.Nr)), c.ABI, fmt.Sprint(c.Count), fmt.Sprint(c.Blocked), explain.InProgram(c.FirstProgram, c.FirstThread)})
	}
	caps := [][]string{{"CAPABILITY", "CLASS", "GRANTED", "REFUSED", "SYSTEM CALLS"}}
	for i := range rec.Capabilities {
		c := &rec.Capabilities[i]
		caps = append(caps, []string{c.Name, c.Class, fmt.Sprint(c.Granted), fmt.Sprint(c.Refused), strings.Join(c.Syscalls, ",")})
	}
	denials := [][]string{{"DENIED", "OUTCOME", "COUNT", "PROGRAM", "BY"}}
	for i := range rec.Denials {
		d := &rec.Denials[i]
		denials = append(denials, []string{d.Syscall, outcome(d), fmt.Sprint(d.Count), explain.InProgram(d.Program, d.Thread), deniedBy(d)})
	}
	for i, table := range [][][]string{calls, caps, denials} {
		if i > 0 && len(table) == 1 {
			continue
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
		for _, row := range table {
			fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// outcome is what the program got for its call.
func outcome(d *record.Denial) string {
	switch {
	case d.Killed:
		return "killed"
	case d.Errno == "":
		return "SIGSYS"
	}
	return d.Errno
}

func deniedBy(d *record.Denial) string {
	if len(d.Capabilities) == 0 {
		return d.By
	}
	return "CAP_" + strings.Join(d.Capabilities, " or CAP_")
}
