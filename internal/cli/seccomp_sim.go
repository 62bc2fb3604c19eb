package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/inspect"
)

// simOptions are the flags of brig seccomp sim.
type simOptions struct {
	target      targetFlags
	abi, format string
	trace       bool
}

func newSeccompSim(a *app) *cobra.Command {
	o := &simOptions{}
	cmd := &cobra.Command{
		Use:   "sim [flags] PROFILE|FILE SYSCALL [ARG...]",
		Short: "Run a filter for one system call and print its answer",
		Long: `Run a filter for one system call, as the kernel would, and print its answer and
how many instructions ran. A profile is compiled first, and the answer is compared
with what the profile says. FILE is a filter: an array of struct sock_filter, as
"brig seccomp compile" writes it; "-" is one on standard input.

SYSCALL is a name or a number as filters see it. Arguments are as for "explain".`,
		Example: `  brig seccomp sim default socket AF_VSOCK
  brig seccomp sim --trace --abi x32 default read
  brig seccomp sim --arch arm64 filter.bpf 221
  brig seccomp sim default 0xffffffff`,
		Args: minArgs(2),
		RunE: func(_ *cobra.Command, args []string) error { return a.seccompSim(args, o) },
	}
	cmd.SetFlagErrorFunc(negativeHint)
	o.target.register(cmd)
	addABI(cmd, &o.abi)
	f := cmd.Flags()
	f.BoolVar(&o.trace, "trace", false, "print each instruction that runs, with the registers before it")
	addFormat(cmd, &o.format, textOrJSON)
	cmd.ValidArgsFunction = completeCalls
	return cmd
}

func (a *app) seccompSim(words []string, o *simOptions) error {
	if err := checkFormat(o.format, textOrJSON); err != nil {
		return err
	}
	t, arch, err := o.target.withABI(o.abi)
	if err != nil {
		return err
	}
	nr, err := callNumber(arch, words[1])
	if err != nil {
		return err
	}
	args, err := parseCallArgs(arch, words[2:])
	if err != nil {
		return err
	}
	d := bpf.Data{Nr: nr, Arch: arch.Audit()}
	copy(d.Args[:], args)
	s, err := a.simulate(words[0], t, &d, o)
	if s == nil {
		return err
	}
	if o.format == "json" {
		return errors.Join(printIndented(a.out, s), err)
	}
	printSimulation(a.out, s)
	return err
}

// simulate runs the filter that the file is or that is made of the profile.
func (a *app) simulate(name string, t seccomp.Target, d *bpf.Data, o *simOptions) (s *inspect.Simulation, err error) {
	if name == "-" || inspect.IsFilterFile(name) {
		var prog []bpf.Instruction
		if prog, err = a.readFilter(name, t.Arch); err == nil {
			s, err = inspect.Simulate(prog, d)
		}
	} else {
		var p *seccomp.Profile
		if p, err = seccompProfile(name); err == nil {
			s, err = inspect.SimulateProfile(p, t, d)
		}
	}
	if s != nil && !o.trace {
		s.Steps = nil
	}
	return s, err
}

// readFilter reads a compiled filter from a file or standard input.
func (a *app) readFilter(name string, arch seccomp.Arch) ([]bpf.Instruction, error) {
	if name == "-" {
		return inspect.ReadFilter("standard input", a.in, arch)
	}
	return inspect.LoadFilter(name, arch)
}

// callNumber reads the name or the number of a system call.
func callNumber(arch seccomp.Arch, word string) (uint32, error) {
	if n, err := strconv.ParseUint(word, 0, 32); err == nil {
		return uint32(n), nil
	}
	return seccomp.CallNumber(arch, word)
}

func printSimulation(w io.Writer, s *inspect.Simulation) {
	for _, step := range s.Steps {
		fmt.Fprintf(w, "%4d: %-28s a=%#x x=%#x\n", step.Index, step.Text, step.A, step.X)
	}
	name := s.Call
	if name == "" {
		name = "no such call"
	}
	fmt.Fprintf(w, "%s %d (%s): %s after %d instruction%s\n", s.Arch, s.Number, name, s.Action, s.Executed, plural(s.Executed))
	if s.Cached {
		fmt.Fprintln(w, "the kernel lets the call pass without the filter (5.11 and later)")
	}
	if p := s.Policy; p != nil {
		fmt.Fprintf(w, "the profile says %s %s\n", p.Action, p.Why())
	}
}
