package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/brig-run/brig/seccomp"
)

func newSeccompExplain(a *app) *cobra.Command {
	var target targetFlags
	var abi, format string
	cmd := &cobra.Command{
		Use:   "explain [flags] PROFILE SYSCALL [ARG...]",
		Short: "Say what a profile makes of a system call, and why",
		Long: `Say what a profile makes of a system call: the action, the rule that decides and
its line, why other rules that name the call do not, and which capabilities would
change it. PROFILE is a file, or "default" for the profile that containers get.

Arguments are numbers or names such as AF_VSOCK or CLONE_NEWUSER|CLONE_NEWNS;
those that are left out at the end are 0. Without any, all rules are listed.
Negative numbers come after "--".`,
		Example: `  brig seccomp explain default mount
  brig seccomp explain default clone CLONE_NEWUSER
  brig seccomp explain --cap-add SYS_ADMIN default clone CLONE_NEWUSER
  brig seccomp explain default personality -- -1
  brig seccomp explain --abi x86 profile.json socketcall 1
  brig seccomp explain --arch arm64 --kernel 4.4 profile.json ptrace`,
		Args: minArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkFormat(format, textOrJSON); err != nil {
				return err
			}
			t, arch, err := target.withABI(abi)
			if err != nil {
				return err
			}
			e, err := explainCall(t, arch, args)
			if err != nil {
				return err
			}
			if format == "json" {
				return printIndented(a.out, e)
			}
			return a.printWrapped(e.String())
		},
	}
	cmd.SetFlagErrorFunc(negativeHint)
	target.register(cmd)
	addABI(cmd, &abi)
	addFormat(cmd, &format, textOrJSON)
	cmd.ValidArgsFunction = completeCalls
	return cmd
}

func explainCall(t seccomp.Target, arch seccomp.Arch, words []string) (*seccomp.Explanation, error) {
	p, err := seccompProfile(words[0])
	if err != nil {
		return nil, err
	}
	args, err := parseCallArgs(arch, words[2:])
	if err != nil {
		return nil, err
	}
	return p.Explain(t, arch, words[1], args)
}

// negativeHint explains the error for a negative argument, which looks like a
// flag.
func negativeHint(c *cobra.Command, err error) error {
	var bad *pflag.NotExistError
	if errors.As(err, &bad) && len(bad.GetSpecifiedShortnames()) > 0 && bad.GetSpecifiedShortnames()[0] >= '0' && bad.GetSpecifiedShortnames()[0] <= '9' {
		err = fmt.Errorf(`%w; write "--" before negative arguments`, err)
	}
	return c.Parent().FlagErrorFunc()(c, err)
}

// parseCallArgs reads the arguments of a system call; nil is none.
func parseCallArgs(arch seccomp.Arch, words []string) ([]uint64, error) {
	var args []uint64
	for _, w := range words {
		v, err := seccomp.ParseArg(arch, w)
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	if len(args) > 6 {
		return nil, fmt.Errorf("%d arguments; a system call has at most 6", len(args))
	}
	return args, nil
}

// printWrapped prints lines of text, broken to the width of the terminal if
// there is one.
func (a *app) printWrapped(text string) error {
	if !isTerminal(a.out) {
		_, err := io.WriteString(a.out, text)
		return err
	}
	width := terminalWidth(a.out)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		indent := strings.Repeat(" ", len(line)-len(strings.TrimLeft(line, " ")))
		for i, part := range wrap(line, width-len(indent)-4) {
			if i > 0 {
				part = "    " + part
			}
			if _, err := fmt.Fprintln(a.out, indent+part); err != nil {
				return err
			}
		}
	}
	return nil
}
