package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/lint"
)

// checkedProfile is what check found in one profile.
type checkedProfile struct {
	Profile  string         `json:"profile"`
	Findings []lint.Finding `json:"findings"`
}

func newSeccompCheck(a *app) *cobra.Command {
	var target targetFlags
	var format string
	var strict bool
	cmd := &cobra.Command{
		Use:   "check [flags] PROFILE...",
		Short: "Find what is wrong, weak or without effect in profiles",
		Long: `Find what is wrong, weak or without effect in profiles: rules that never decide,
conditions that other runtimes compare wrongly, calls that do what a denied one
does, errors at which libraries do not fall back, and more. Each finding is one
line with the rule, the calls and what to do. PROFILE is a file, or "default" for
the profile that containers get.

The exit status is 0 if there is nothing worse than an info (with --strict:
nothing at all), 1 if there is, and 125 if a profile cannot be read or the command line is wrong.`,
		Example: `  brig seccomp check profile.json
  brig seccomp check --strict --arch arm64 --cap none profiles/*.json
  brig seccomp check --format json default | jq -r '.[].findings[].code'`,
		Args: func(c *cobra.Command, args []string) error {
			if err := minArgs(1)(c, args); err != nil {
				return &exitError{engineFailed, err}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkFormat(format, textOrJSON); err != nil {
				return &exitError{engineFailed, err}
			}
			t, err := target.target()
			if err != nil {
				return &exitError{engineFailed, err}
			}
			list, failed := a.checkProfiles(args, t)
			if err := a.printFindings(list, t, format); err != nil {
				return err
			}
			return checkStatus(list, strict, failed)
		},
	}
	target.register(cmd)
	addFormat(cmd, &format, textOrJSON)
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 1 for infos too")
	cmd.ValidArgsFunction = completeProfiles
	return cmd
}

// checkProfiles checks all profiles that can be read. It reports the others.
func (a *app) checkProfiles(names []string, t seccomp.Target) (list []checkedProfile, failed bool) {
	list = []checkedProfile{}
	for _, name := range names {
		findings, err := checkProfile(name, t)
		if err != nil {
			failed = true
			fmt.Fprintf(a.err, "brig: %s\n", err)
			continue
		}
		list = append(list, checkedProfile{name, findings})
	}
	return list, failed
}

func checkProfile(name string, t seccomp.Target) ([]lint.Finding, error) {
	p, err := seccompProfile(name)
	if err != nil {
		return nil, err
	}
	return lint.Check(p, t)
}

// printFindings prints the findings, and on standard error how many there are.
func (a *app) printFindings(list []checkedProfile, t seccomp.Target, format string) error {
	if format == "json" {
		return printIndented(a.out, list)
	}
	for _, p := range list {
		for i := range p.Findings {
			if _, err := fmt.Fprintln(a.out, p.Findings[i].Format(p.Profile)); err != nil {
				return err
			}
		}
	}
	for _, p := range list {
		fmt.Fprintf(a.err, "brig: %s: %s, for %s with %s and kernel %v\n", p.Profile, countFindings(p.Findings),
			t.Arch.Short(), count(t.Caps.Len(), "capability", "capabilities"), t.Kernel)
	}
	return nil
}

// countFindings says how many findings there are of each severity.
func countFindings(list []lint.Finding) string {
	var n [lint.Error + 1]int
	for _, f := range list {
		n[f.Severity]++
	}
	return fmt.Sprintf("%s, %s, %s", count(n[lint.Error], "error", "errors"),
		count(n[lint.Warning], "warning", "warnings"), count(n[lint.Info], "info", "infos"))
}

func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// checkStatus is the exit status as an error.
func checkStatus(list []checkedProfile, strict, failed bool) error {
	if failed {
		return &exitError{code: engineFailed}
	}
	worst := lint.Warning
	if strict {
		worst = lint.Info
	}
	for _, p := range list {
		for _, f := range p.Findings {
			if f.Severity >= worst {
				return &exitError{code: 1}
			}
		}
	}
	return nil
}
