package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/inspect"
)

// compileOptions are the flags of brig seccomp compile.
type compileOptions struct {
	target         targetFlags
	output, format string
	resolve        seccomp.Options
}

func newSeccompCompile(a *app) *cobra.Command {
	o := &compileOptions{}
	cmd := &cobra.Command{
		Use:   "compile [flags] PROFILE",
		Short: "Compile a profile to a filter for the kernel",
		Long: `Compile a profile to a filter: an array of struct sock_filter in the byte order
of the target, as bubblewrap's --seccomp and other programs read it. PROFILE is a
file, or "default" for the profile that containers get.

The filter has been checked as the kernel checks it. Whoever loads it brings the
flags of seccomp(2); the summary names those that the profile asks for. It also
tells, for each ABI, how many instructions a call can reach, how many run at most
before an argument counts, how many calls the kernel lets pass without running
the filter (5.11 and later), and how many depend on arguments or are blocked.`,
		Example: `  brig seccomp compile -o filter.bpf profile.json
  brig seccomp compile default | bwrap --ro-bind / / --seccomp 0 ls
  brig seccomp compile --arch s390x --cap-add SYS_TIME -o s390x.bpf default
  brig seccomp compile --format summary default`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.seccompCompile(args[0], o) },
	}
	f := cmd.Flags()
	o.target.register(cmd)
	f.BoolVar(&o.resolve.WideArgs, "wide-args", false, "compare all 64 bits of arguments, as libseccomp does, also where the kernel looks at fewer")
	f.StringVarP(&o.output, "output", "o", "", "write to this file, not to standard output")
	addFormat(cmd, &o.format, compileFormats)
	cmd.ValidArgsFunction = completeProfiles
	return cmd
}

var compileFormats = []string{"raw", "text", "summary", "json"}

func (a *app) seccompCompile(name string, o *compileOptions) error {
	if err := checkFormat(o.format, compileFormats); err != nil {
		return err
	}
	t, err := o.target.target()
	if err != nil {
		return err
	}
	p, err := seccompProfile(name)
	if err != nil {
		return err
	}
	policy, notes, err := p.ResolveWith(t, o.resolve)
	if err != nil {
		return err
	}
	filter, err := seccomp.Compile(policy)
	if err != nil {
		return err
	}
	if name != defaultProfile {
		a.printNotes(name, notes)
	}
	return a.writeResult(o.output, o.format == "raw", func(w io.Writer) error {
		return writeFilter(w, o.format, t.Arch, policy, filter)
	})
}

// writeFilter writes a filter in one of compileFormats.
func writeFilter(w io.Writer, format string, arch seccomp.Arch, policy *seccomp.Policy, f *seccomp.Filter) (err error) {
	switch format {
	case "text":
		_, err = io.WriteString(w, inspect.Disassemble(f.Program, arch).Format(f.Program))
	case "summary":
		err = printFilterSummary(w, inspect.Summarize(policy, f))
	case "json":
		err = printIndented(w, compiled{inspect.Summarize(policy, f), rawInstructions(f.Program)})
	default:
		_, err = w.Write(bpf.Encode(f.Program, seccomp.ByteOrder(arch)))
	}
	return err
}

// compiled is the JSON of a compiled filter.
type compiled struct {
	inspect.Summary
	Program []rawInstruction `json:"program"`
}

// rawInstruction is an instruction by its fields.
type rawInstruction struct {
	Code uint16 `json:"code"`
	JT   uint8  `json:"jt"`
	JF   uint8  `json:"jf"`
	K    uint32 `json:"k"`
}

func rawInstructions(prog []bpf.Instruction) []rawInstruction {
	list := make([]rawInstruction, len(prog))
	for i, in := range prog {
		list[i] = rawInstruction{in.Op, in.JT, in.JF, in.K}
	}
	return list
}

func printFilterSummary(w io.Writer, s inspect.Summary) error {
	flags := "none"
	if len(s.Flags) > 0 {
		flags = strings.Join(s.Flags, " ")
	}
	fmt.Fprintf(w, "%d instructions of at most %d, %d bytes; flags: %s\n", s.Instructions, bpf.MaxLen, s.Bytes, flags)
	if s.Listener {
		fmt.Fprintln(w, "needs a listener for the calls that it hands on (SCMP_ACT_NOTIFY)")
	}
	tw := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	fmt.Fprintln(tw, "ABI\tINSTRUCTIONS\tDEPTH\tCACHED\tCONDITIONAL\tBLOCKED")
	for _, a := range s.Archs {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\n", a.Arch, a.Instructions, a.Depth, a.Cached, a.Conditional, a.Blocked)
	}
	return tw.Flush()
}
