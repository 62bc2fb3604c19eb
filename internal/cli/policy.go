package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/policy/export"
	"github.com/brig-run/brig/internal/report"
)

// newPolicy has the commands on policy files; they need no root.
func newPolicy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy COMMAND",
		Short: "Show, check, compare, merge and export policy files",
		Long: `Show, check, compare, merge, widen and export policy files: what a container needs, with
evidence. brig learn writes them, and brig run --policy holds a container to one.`,
		Example: `  brig policy show nginx.policy.json
  brig policy merge -o all.json run1.json run2.json
  brig policy export --to kubernetes nginx.policy.json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownSubcommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, make := range []func(*app) *cobra.Command{newPolicyShow, newPolicyCheck, newPolicyDiff, newPolicyMerge, newPolicyAllow, newPolicyApply, newPolicyExport} {
		sub := make(a)
		sub.DisableFlagsInUseLine = true
		cmd.AddCommand(sub)
	}
	return cmd
}

func newPolicyShow(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "show [flags] POLICY",
		Short: "Show what a policy grants and why",
		Example: `  brig policy show nginx.policy.json
  brig policy show --format json nginx.policy.json | jq .capabilities`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkFormat(format, textOrJSON); err != nil {
				return err
			}
			p, err := policy.Load(args[0])
			if err != nil {
				return err
			}
			if format == "json" {
				return printIndented(a.out, p)
			}
			if err := printPolicy(a.out, p); err != nil {
				return err
			}
			if err := printCalls(a.out, p); err != nil {
				return err
			}
			return printConditions(a.out, p)
		},
	}
	addFormat(cmd, &format, textOrJSON)
	return cmd
}

// printCalls prints the calls that are allowed, by how sure that is.
func printCalls(w io.Writer, p *policy.Policy) error {
	for _, status := range []string{policy.Verified, policy.Asked, policy.Added, policy.Base, policy.Unneeded} {
		var names []string
		for i := range p.Syscalls {
			if c := &p.Syscalls[i]; c.Status == status {
				names = append(names, c.Name)
			}
		}
		if len(names) > 0 {
			if _, err := fmt.Fprintf(w, "%s: %s\n", status, strings.Join(names, " ")); err != nil {
				return err
			}
		}
	}
	return nil
}

// printConditions prints the calls that are allowed with some arguments only.
func printConditions(w io.Writer, p *policy.Policy) error {
	heading := "only with these arguments:\n"
	for i := range p.Syscalls {
		c := &p.Syscalls[i]
		if words := report.Conditions(c); words != "" && c.Allowed() {
			if _, err := fmt.Fprintf(w, "%s  %s\n", heading, words); err != nil {
				return err
			}
			heading = ""
		}
	}
	return nil
}

func newPolicyDiff(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "diff [flags] FROM TO",
		Short: "Show what one policy allows and another does not",
		Long: `Show what one policy allows and another does not: capabilities, and all system
calls that the two seccomp profiles answer differently, with the arguments for
which they do. The exit code is 1 if the policies differ.`,
		Example: `  brig policy diff old.json new.json`,
		Args:    exactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkFormat(format, textOrJSON); err != nil {
				return &exitError{engineFailed, err}
			}
			list, err := diffPolicies(args[0], args[1])
			if err != nil {
				return &exitError{engineFailed, err}
			}
			if format == "json" {
				err = printIndented(a.out, list)
			} else {
				for _, d := range list {
					fmt.Fprintf(a.out, "%s: %s\n", d.Effect, d.Text)
				}
			}
			if err == nil && len(list) > 0 {
				return &exitError{code: 1}
			}
			return err
		},
	}
	addFormat(cmd, &format, textOrJSON)
	return cmd
}

func diffPolicies(from, to string) ([]policy.Difference, error) {
	var p [2]*policy.Policy
	for i, name := range []string{from, to} {
		var err error
		if p[i], err = policy.Load(name); err != nil {
			return nil, err
		}
	}
	target, err := (&targetFlags{}).target()
	if err != nil {
		return nil, err
	}
	list, err := policy.Diff(p[0], p[1], target.Arch)
	if list == nil {
		list = []policy.Difference{}
	}
	return list, err
}

func newPolicyMerge(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "merge [flags] POLICY...",
		Short: "Join policies of several runs or replicas into one",
		Long: `Join policies of the same program, from several runs or replicas, into one that
allows what any of them allows, and say whether the last ones brought anything
new. The result has not been run, so it is not proved.`,
		Example: `  brig policy merge -o nginx.json replica1.json replica2.json`,
		Args:    minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := policy.Load(args[0])
			for _, name := range args[1:] {
				var next *policy.Policy
				if err == nil {
					next, err = policy.Load(name)
				}
				if err == nil {
					if p, err = policy.Merge(p, next); err != nil {
						err = fmt.Errorf("%s: %w", name, err)
					}
				}
			}
			if err != nil {
				return err
			}
			data, err := p.Encode()
			if err != nil {
				return err
			}
			if s := p.Saturation(); s != "" {
				fmt.Fprintln(a.err, s)
			}
			return a.writeResult(output, false, func(w io.Writer) error {
				_, err := w.Write(data)
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

func newPolicyExport(a *app) *cobra.Command {
	var in export.Input
	var to, dir string
	cmd := &cobra.Command{
		Use:   "export --to FORM [flags] POLICY",
		Short: "Write a policy in the form of another engine",
		Long: `Write a policy in the form of another engine: ` + orList(export.Names()) + `.
A form of one file goes to standard output; with -o, and for forms of more, the
files go to a directory.

Other runtimes need some system calls of their own to start a container under a
filter, which are added; --runtime says which will be used.`,
		Example: `  brig policy export --to docker -o . nginx.policy.json
  brig policy export --to kubernetes -o k8s nginx.policy.json
  brig policy export --to systemd nginx.policy.json`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := policy.Load(args[0])
			if err != nil {
				return err
			}
			if in.Name == "" && p.Name == "" && p.Image == nil {
				in.Name = nameOf(args[0])
			}
			result, err := exported(to, p, in)
			if err != nil {
				return err
			}
			for _, n := range result.Notes {
				fmt.Fprintln(a.err, "NOTE: "+n)
			}
			return a.writeExport(result, dir)
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", orList(export.Names()))
	f.StringVarP(&dir, "output", "o", "", "directory to write the files to, made if need be")
	f.StringVar(&in.Name, "name", "", "name of files and objects (default: that of the policy, its image or its file)")
	f.StringSliceVar(&in.Runtimes, "runtime", nil, "what will start the container (default: any)")
	f.BoolVar(&in.NoNewPrivileges, "no-new-privileges", false, "no program of the container needs set-user-ID bits or file capabilities")
	cmd.MarkFlagRequired("to")
	cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(export.Names(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// nameOf makes a name for files and objects of a policy's file, "" if it cannot:
// web of web.policy.json.
func nameOf(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	name = strings.ToLower(name)
	if strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }) {
		return ""
	}
	return strings.Trim(name, "-")
}

func exported(to string, p *policy.Policy, in export.Input) (result *export.Result, err error) {
	in.Policy = p
	if in.Profile, err = p.Profile(); err != nil {
		return nil, err
	}
	if in.Capabilities, err = p.Granted(); err != nil {
		return nil, err
	}
	return export.Export(to, in)
}

func (a *app) writeExport(r *export.Result, dir string) error {
	if dir == "" {
		if len(r.Files) > 1 {
			var names []string
			for _, f := range r.Files {
				names = append(names, f.Name)
			}
			return fmt.Errorf("this form has the files %s: name a directory for them with -o", strings.Join(names, ", "))
		}
		_, err := a.out.Write(r.Files[0].Data)
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("make the directory for the files: %w", err)
	}
	for _, f := range r.Files {
		name := filepath.Join(dir, f.Name)
		if err := a.writeResult(name, false, func(w io.Writer) error {
			_, err := w.Write(f.Data)
			return err
		}); err != nil {
			return err
		}
		fmt.Fprintln(a.err, "written: "+name)
	}
	return nil
}
