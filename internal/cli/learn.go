package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/learn"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/policy/export"
	"github.com/brig-run/brig/internal/spec"
)

// learnFlags are those of brig learn, beside those of brig run.
type learnFlags struct {
	*createFlags
	a *app

	probe, until, shrink, output    string
	noProve, args, unconfined       bool
	runs, parallel, exitCode        int
	timeout, probeTimeout, duration time.Duration
}

func newLearn(a *app) *cobra.Command {
	l := &learnFlags{createFlags: &createFlags{}, a: a}
	cmd := &cobra.Command{
		Use:   "learn [flags] IMAGE [COMMAND] [ARG...]",
		Short: "Find out the least that a container needs, and prove it",
		Long: `Run a container, record in the kernel what it uses, and write a policy file with
the smallest set of capabilities, the system calls, and the evidence for each.

With --probe the policy is proved: the container runs again under it, and then
without each of its capabilities, one at a time. The probe is a shell command
that must fail when the container does not do its work. It runs with the host's
programs in the container's network namespace, with BRIG_CONTAINER and BRIG_PID
set. It should use all that matters: what it does not use is not learned.

The recording ends with --until: "healthy", when the probe has passed three times
(the default with a probe); a duration after the container is ready, such as 30s;
or "exit", when the container ends by itself (the default without a probe). The
container is stopped as brig stop does it, which is part of the recording.

Without root, the system calls are recorded from within the container, where brig
runs as its first process, and the capabilities are found by trials alone: that
needs --probe, or a container that ends by itself. Commands that are executed in
the container meanwhile are not recorded, and no program gains privileges by
set-user-ID.

The file is IMAGE.policy.json, or that of -o. The exit code is 1 if the policy
could not be proved.`,
		Example: `  brig learn --probe 'curl -sf http://127.0.0.1/' nginx
  brig learn --probe 'redis-cli ping | grep PONG' --runs 3 --shrink -o redis.json redis
  brig learn --until exit debian apt-get --version
  brig run -d --policy nginx.policy.json nginx`,
		Args: imageArgs,
	}
	l.add(cmd)
	l.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return engineError(l.run(cmd, args))
	}
	return cmd
}

func (l *learnFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.probe, "probe", "", "shell command that fails when the container does not do its work")
	f.StringVar(&l.until, "until", "", "healthy, exit, or a duration such as 30s")
	f.IntVar(&l.runs, "runs", 1, "runs to learn from")
	f.BoolVar(&l.noProve, "no-prove", false, "only record")
	f.StringVar(&l.shrink, "shrink", "", "also run without each suspicious system call, with --args without each suspicious value of an argument; =all: without each")
	f.Lookup("shrink").NoOptDefVal = "suspicious"
	f.BoolVar(&l.args, "args", false, "allow system calls only with the arguments that were seen, where they say what a call does")
	f.BoolVar(&l.unconfined, "unconfined", false, "learn with all capabilities and no seccomp filter")
	f.IntVar(&l.parallel, "parallel", 0, "containers at a time (default: as many as processors)")
	f.IntVar(&l.exitCode, "exit-code", 0, "exit code that means success, with --until exit and no probe")
	f.DurationVar(&l.timeout, "timeout", time.Minute, "time until the container must be ready, or have ended")
	f.DurationVar(&l.probeTimeout, "probe-timeout", 5*time.Second, "time that one probe may take")
	f.StringVarP(&l.output, "output", "o", "", `policy file to write; "-" for standard output`)
	cmd.RegisterFlagCompletionFunc("until", cobra.FixedCompletions([]string{"healthy", "exit"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("shrink", cobra.FixedCompletions([]string{"suspicious", "all"}, cobra.ShellCompDirectiveNoFileComp))
}

func (l *learnFlags) run(cmd *cobra.Command, args []string) error {
	learner, err := l.learner(cmd)
	if err != nil {
		return err
	}
	learner.Within = !isRoot()
	if l.output == "" {
		l.output = policyName(args[0])
		if _, err := os.Stat(l.output); err == nil {
			return fmt.Errorf("%s is there already: name it with -o to replace it, or name another file", l.output)
		}
	}
	if err := writable(l.output); err != nil {
		return err
	}
	e, o, err := l.a.prepare(l.createFlags, cmd, args)
	if err != nil {
		return err
	}
	learner.Engine, learner.Create, learner.Root = e, o, l.a.root
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
	defer stop()
	result, err := learner.Learn(ctx)
	if err != nil {
		return l.failed(err)
	}
	return l.finish(result, args)
}

// writable refuses a file that could not be written at the end of a long work.
func writable(name string) error {
	if name == "-" {
		return nil
	}
	if fi, err := os.Stat(name); err == nil && fi.IsDir() {
		return fmt.Errorf("-o %s: it is a directory; name a file in it", name)
	}
	if err := unix.Access(filepath.Dir(name), unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("-o %s: the directory %s: %w", name, filepath.Dir(name), err)
	}
	return nil
}

// learner makes a learner of the flags.
func (l *learnFlags) learner(cmd *cobra.Command) (*learn.Learner, error) {
	if l.o.TTY || l.o.OpenStdin {
		return nil, errors.New("learn runs the container many times, with nobody at a terminal: leave out -t and -i")
	}
	learner := &learn.Learner{
		Probe: l.probe, ExitCode: l.exitCode, Runs: l.runs, Timeout: l.timeout, ProbeTimeout: l.probeTimeout,
		Prove: !l.noProve, Args: l.args, Parallel: l.parallel, Progress: l.a.learning,
	}
	var err error
	if learner.Until, learner.For, err = l.parseUntil(); err != nil {
		return nil, err
	}
	switch l.shrink {
	case "":
	case "suspicious":
		learner.Shrink = learn.ShrinkSuspicious
	case "all":
		learner.Shrink = learn.ShrinkAll
	default:
		return nil, fmt.Errorf("--shrink %q: use suspicious or all", l.shrink)
	}
	if l.runs < 1 || l.parallel < 0 || l.timeout <= 0 || l.probeTimeout <= 0 {
		return nil, errors.New("--runs, --timeout and --probe-timeout must be more than 0, and --parallel not less")
	}
	learner.Under, err = l.under(cmd)
	return learner, err
}

func (l *learnFlags) parseUntil() (learn.Until, time.Duration, error) {
	switch l.until {
	case "exit":
		return learn.UntilExit, 0, nil
	case "":
		if l.probe == "" {
			return learn.UntilExit, 0, nil
		}
		return learn.UntilHealthy, 0, nil
	case "healthy":
		if l.probe == "" {
			return 0, 0, errors.New("--until healthy needs a probe: add --probe 'COMMAND'")
		}
		return learn.UntilHealthy, 0, nil
	}
	d, err := time.ParseDuration(l.until)
	if err != nil || d <= 0 {
		return 0, 0, fmt.Errorf("--until %q: use healthy, exit, or a duration such as 30s", l.until)
	}
	return learn.UntilTime, d, nil
}

// under says what holds the container while it is learned from.
func (l *learnFlags) under(cmd *cobra.Command) (string, error) {
	given := l.policy != "" || l.o.Security.Seccomp.Mode != spec.SeccompDefault
	for _, name := range []string{"cap-add", "cap-drop", "privileged"} {
		given = given || cmd.Flags().Changed(name)
	}
	switch {
	case l.unconfined && given:
		return "", errors.New("--unconfined excludes the flags that confine: --cap-add, --cap-drop, --privileged, --policy and --security-opt seccomp")
	case l.unconfined:
		l.o.CapAdd = []string{"ALL"}
		l.o.Security.Seccomp = spec.Seccomp{Mode: spec.SeccompUnconfined}
		return "unconfined", nil
	case given:
		return "flags", nil
	}
	return "default", nil
}

// policyName is the file for an image: docker.io/library/nginx:1 becomes
// nginx.policy.json.
func policyName(image string) string {
	name, _, _ := strings.Cut(path.Base(image), "@")
	name, _, _ = strings.Cut(name, ":")
	return name + ".policy.json"
}

// learning shows a step.
func (a *app) learning(e learn.Event) {
	outcome := "ok"
	switch {
	case e.Err != nil && e.Step == "drop":
		outcome = "needed: " + e.Err.Error()
	case e.Err != nil:
		outcome = "failed: " + e.Err.Error()
	case e.Step == "drop":
		outcome = "not needed"
	}
	what := map[string]string{
		"learn": "learning under " + e.What, "prove": "proving " + e.What,
		"drop": "without " + e.What, "heal": "adding " + e.What,
	}[e.Step]
	if e.Of > 1 || e.Step == "drop" {
		what = fmt.Sprintf("[%d/%d] %s", e.N, e.Of, what)
	}
	if e.Step == "heal" {
		fmt.Fprintln(a.err, what)
		return
	}
	fmt.Fprintf(a.err, "%s (%s): %s\n", what, e.Took.Round(time.Millisecond), explain.Printable(outcome))
}

// failed adds what the container was denied to why nothing could be learned, or
// what it wrote last if it was denied nothing.
func (l *learnFlags) failed(err error) error {
	if errors.Is(err, context.Canceled) {
		return &exitError{130, errors.New("interrupted; no policy was written")}
	}
	var u *learn.UnlearnableError
	if !errors.As(err, &u) {
		return err
	}
	if !isRoot() {
		return fmt.Errorf("%w; what it was denied is not seen without root: learn with sudo, or with --unconfined", err)
	}
	denied := false
	for _, d := range explained(u.Recording, u.Held) {
		if !d.Harmless {
			fmt.Fprintln(l.a.err, "  "+d.String())
			denied = true
		}
	}
	switch {
	case denied && l.unconfined:
		return fmt.Errorf("%w; the above was denied by the program's own measures, or by its user's lack of rights", err)
	case denied:
		return fmt.Errorf("%w; give it what it lacks, or learn with --unconfined", err)
	case u.Output != "" && !strings.Contains(err.Error(), u.Output):
		return fmt.Errorf("%w; nothing was denied, and the container wrote last: %s", err, explain.Printable(u.Output))
	}
	if l.probe == "" {
		return fmt.Errorf("%w; nothing was denied. --until exit is for containers that end by themselves", err)
	}
	return fmt.Errorf("%w; nothing was denied: try the probe and the container by hand", err)
}

func (l *learnFlags) finish(r *learn.Result, args []string) error {
	data, err := r.Policy.Encode()
	if err != nil {
		return err
	}
	if err := l.a.writeResult(l.output, false, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}); err != nil {
		return err
	}
	if err := printPolicy(l.a.err, r.Policy); err != nil {
		return err
	}
	fmt.Fprintf(l.a.err, "%d containers in %s\n", r.Trials, r.Took.Round(10*time.Millisecond))
	if l.output != "-" {
		fmt.Fprintf(l.a.err, "written: %s; use it: brig run --policy %s %s\n", l.output, export.ShellWords([]string{l.output}), export.ShellWords(args))
	}
	if !l.noProve && !r.Proved {
		return &exitError{1, errors.New("the policy could not be proved: under it the container does not work")}
	}
	return nil
}

// printPolicy prints a policy for people.
func printPolicy(w io.Writer, p *policy.Policy) error {
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	fmt.Fprintln(tw, "CAPABILITY\tSTATUS\tWHY")
	for i := range p.Capabilities {
		c := &p.Capabilities[i]
		why := cmp.Or(c.Why, c.Comment)
		if c.Breaks != "" {
			why = "without it: " + c.Breaks
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", c.Name, c.Status, explain.Printable(why))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	granted, err := p.Granted()
	if err != nil {
		return err
	}
	counts := map[string]int{}
	for i := range p.Syscalls {
		counts[p.Syscalls[i].Status]++
	}
	allowed := len(p.Syscalls) - counts[policy.Unneeded]
	fmt.Fprintf(w, "%d capabilities granted; %d system calls allowed, %d of them verified\n", granted.Len(), allowed, counts[policy.Verified])
	if s := p.Saturation(); s != "" {
		fmt.Fprintln(w, s)
	}
	for _, r := range p.Runs {
		if !r.Complete {
			fmt.Fprintf(w, "WARNING: the recording %s is not complete; lost: %v\n", r.ID, r.Lost)
		}
	}
	if p.IOUring {
		fmt.Fprintln(w, "WARNING: io_uring was used, whose operations no seccomp filter sees")
	}
	for _, n := range p.Notes {
		fmt.Fprintln(w, "NOTE: "+explain.Printable(n))
	}
	return nil
}
