package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// seccompCommands is the table of the commands under brig seccomp, in the order
// of the help.
func seccompCommands() []func(*app) *cobra.Command {
	return []func(*app) *cobra.Command{
		newSeccompCompile,
		newSeccompDisasm,
		newSeccompExplain,
		newSeccompSim,
		newSeccompShow,
		newSeccompCheck,
		newSeccompDiff,
		newSeccompMerge, newSeccompFromJSON, newSeccompToJSON,
	}
}

func newSeccomp(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "seccomp COMMAND",
		Short: "Compile, read, explain and compare seccomp profiles and filters",
		Long: `Compile seccomp profiles to filters and look into both. A profile is a file in
Docker's or OCI's JSON, in the text form, or a unit of systemd; "default" is the
one that containers get. No root is needed, but to read the filters of running
processes.`,
		Example: `  brig seccomp explain default mount
  brig seccomp compile -o filter.bpf profile.json
  brig seccomp disasm filter.bpf`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownSubcommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, make := range seccompCommands() {
		sub := make(a)
		sub.DisableFlagsInUseLine = true
		cmd.AddCommand(sub)
	}
	return cmd
}

// unknownSubcommand is the error for a command that c does not have.
func unknownSubcommand(c *cobra.Command, name string) error {
	hint := ""
	c.SuggestionsMinimumDistance = 2 // letters; cobra's own default is set elsewhere
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = "; did you mean " + near[0] + "?"
	}
	return fmt.Errorf("unknown command %q for %q%s", name, c.CommandPath(), hint)
}

// targetFlags are the flags that say what a profile is resolved for. The zero
// value is this machine with a container's default capabilities.
type targetFlags struct {
	arch, kernel  string
	cap, add, del []string
}

// register adds the flags, and their completions.
func (t *targetFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	t.registerArch(cmd)
	f.StringSliceVar(&t.cap, "cap", []string{"default"}, "capabilities of the container: names, comma-separated, ALL, none, or default")
	f.StringSliceVar(&t.add, "cap-add", nil, "add capabilities to those of --cap")
	f.StringSliceVar(&t.del, "cap-drop", nil, "drop capabilities from those of --cap")
	f.StringVar(&t.kernel, "kernel", "", `kernel version, as "5.14" (default: the running kernel's)`)
	for _, name := range []string{"cap", "cap-add", "cap-drop"} {
		cmd.RegisterFlagCompletionFunc(name, completeCapabilities)
	}
}

// registerArch adds --arch alone.
func (t *targetFlags) registerArch(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.arch, "arch", "", "architecture, as amd64, arm64 or SCMP_ARCH_S390X (default: this machine's)")
	cmd.RegisterFlagCompletionFunc("arch", completeArchs)
}

// target reads the flags.
func (t *targetFlags) target() (seccomp.Target, error) {
	caps, err := t.caps()
	if err != nil {
		return seccomp.Target{}, err
	}
	target, err := seccomp.Here(caps)
	if err != nil && (t.arch == "" || t.kernel == "") {
		return seccomp.Target{}, err
	}
	if t.arch != "" {
		if target.Arch, err = seccomp.ParseArchName(t.arch); err != nil {
			return seccomp.Target{}, fmt.Errorf("--arch: %w", err)
		}
	}
	if t.kernel != "" {
		if target.Kernel, err = seccomp.ParseKernelVersion(t.kernel); err != nil {
			return seccomp.Target{}, fmt.Errorf("--kernel: %w", err)
		}
	}
	return target, nil
}

// withABI reads the flags and --abi, which defaults to the native one.
func (t *targetFlags) withABI(abi string) (seccomp.Target, seccomp.Arch, error) {
	target, err := t.target()
	if err != nil || abi == "" {
		return target, target.Arch, err
	}
	arch, err := seccomp.ParseArchName(abi)
	if err != nil {
		return target, 0, fmt.Errorf("--abi: %w", err)
	}
	return target, arch, nil
}

// addABI adds --abi.
func addABI(cmd *cobra.Command, abi *string) {
	cmd.Flags().StringVar(abi, "abi", "", "ABI that the call is made through, as x86 on amd64 (default: that of --arch)")
	cmd.RegisterFlagCompletionFunc("abi", completeArchs)
}

func (t *targetFlags) caps() (capability.Set, error) {
	var sets [3]capability.Set
	for i, f := range []struct {
		name   string
		values []string
	}{{"--cap", t.cap}, {"--cap-add", t.add}, {"--cap-drop", t.del}} {
		if len(f.values) == 0 {
			continue
		}
		var err error
		if sets[i], err = seccomp.ParseCaps(f.values); err != nil {
			return 0, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return sets[0].Union(sets[1]).Minus(sets[2]), nil
}

func completeArchs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for name := range seccomp.ArchNames() {
		names = append(names, name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// defaultProfile is the name of the built-in profile on the command line.
const defaultProfile = "default"

// seccompProfile reads the profile that an argument names, in any form.
func seccompProfile(name string) (*seccomp.Profile, error) {
	if name == defaultProfile {
		return seccomp.Default(), nil
	}
	p, _, err := seccomp.LoadAny(name)
	return p, err
}

// completeProfiles completes the name of a profile.
func completeProfiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{defaultProfile + "\tthe profile that containers get"}, cobra.ShellCompDirectiveDefault
}

// completeCalls completes a profile and then a system call.
func completeCalls(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return completeProfiles(c, args, prefix)
	case 1:
		native, _ := syscalls.Native()
		var names []string
		for _, name := range syscalls.All(native) {
			names = append(names, name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// addFormat adds --format, which takes the given values; the first is the
// default.
func addFormat(cmd *cobra.Command, format *string, values []string) {
	cmd.Flags().StringVar(format, "format", values[0], orList(values))
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// checkFormat refuses a value that --format does not take.
func checkFormat(format string, values []string) error {
	if slices.Contains(values, format) {
		return nil
	}
	return fmt.Errorf("--format %q: use %s", format, orList(values))
}

// orList returns names as in "a, b or c".
func orList(names []string) string {
	last := len(names) - 1
	if last <= 0 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// printNotes prints what the author of a profile may not expect. The names
// that only other architectures have make one line.
func (a *app) printNotes(name string, notes []seccomp.Note) {
	var elsewhere []string
	for _, n := range notes {
		if n.Kind == seccomp.NoteElsewhere {
			elsewhere = append(elsewhere, n.Name)
			continue
		}
		fmt.Fprintf(a.err, "brig: %s: %s\n", name, n)
	}
	if len(elsewhere) > 0 {
		fmt.Fprintf(a.err, "brig: %s: skipped, since only other architectures have them: %s\n", name, strings.Join(elsewhere, ", "))
	}
}

// writeResult writes to a file, which is there as a whole or not at all, or to
// standard output, which must be no terminal if the result is binary.
func (a *app) writeResult(name string, binary bool, write func(io.Writer) error) error {
	if name == "" || name == "-" {
		if binary && isTerminal(a.out) {
			return errors.New("the result is binary and standard output is a terminal: name a file with -o, or send it on with > or |")
		}
		return write(a.out)
	}
	if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() { // such as /dev/null or a pipe
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	temp := fmt.Sprintf("%s.%d.tmp", name, os.Getpid())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	var fault *os.PathError
	if errors.As(err, &fault) {
		return fmt.Errorf("write %s: %w", name, fault.Err) // not the other name
	}
	defer os.Remove(temp)
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, name)
}
