package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
)

func newSeccompShow(a *app) *cobra.Command {
	var target targetFlags
	var abi, format string
	cmd := &cobra.Command{
		Use:   "show [flags] PROFILE",
		Short: "List the system calls that a profile blocks, with reasons",
		Long: `List the system calls that a profile blocks: those that no arguments let through,
and those that some do ("some"). Each has the capability that unlocks it, if
there is one, and, where the default profile blocks it as well, what it does and
why a container has no business with it.`,
		Example: `  brig seccomp show default
  brig seccomp show --cap-add SYS_ADMIN default
  brig seccomp show --arch arm64 profile.json
  brig seccomp show --format json default | jq -r '.[] | select(.unlockedBy == []) | .name'`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkFormat(format, tableOrJSON); err != nil {
				return err
			}
			t, arch, err := target.withABI(abi)
			if err != nil {
				return err
			}
			p, err := seccompProfile(args[0])
			if err != nil {
				return err
			}
			list, err := p.Blocked(t, arch)
			if err != nil {
				return err
			}
			if format == "json" {
				return printIndented(a.out, list)
			}
			return printBlocked(a.out, list)
		},
	}
	target.register(cmd)
	addABI(cmd, &abi)
	addFormat(cmd, &format, tableOrJSON)
	cmd.ValidArgsFunction = completeProfiles
	return cmd
}

// tableOrJSON are the values of --format of commands that print tables.
var tableOrJSON = []string{"table", "json"}

func printBlocked(w io.Writer, list []seccomp.BlockedCall) error {
	nameWidth := len("SYSTEM CALL")
	for _, c := range list {
		nameWidth = max(nameWidth, len(c.Name))
	}
	indent := nameWidth + 2 + 8 + 18
	width := terminalWidth(w)
	fmt.Fprintf(w, "%-*s  %-7s %-17s %s\n", nameWidth, "SYSTEM CALL", "BLOCKED", "UNLOCKED BY", "WHAT IT DOES, AND WHY NOT HERE")
	for _, c := range list {
		blocked := "all"
		if c.Conditional {
			blocked = "some"
		}
		text := wrap(c.Reason, width-indent)
		by := capsShort(c.UnlockedBy)
		for i := range max(len(text), len(by)) {
			name, blocked := c.Name, blocked
			if i > 0 {
				name, blocked = "", ""
			}
			line := fmt.Sprintf("%-*s  %-7s %-17s %s", nameWidth, name, blocked, at(by, i), at(text, i))
			if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
				return err
			}
		}
	}
	return nil
}

// capsShort returns names of capabilities without CAP_.
func capsShort(names []string) []string {
	var short []string
	for _, n := range names {
		if c, err := capability.Parse(n); err == nil {
			n = c.Short()
		}
		short = append(short, n)
	}
	return short
}

// at returns an entry of a list, or "" behind its end.
func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}
