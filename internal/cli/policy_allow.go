package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
)

func newPolicyAllow(a *app) *cobra.Command {
	var caps []string
	var output, comment string
	cmd := &cobra.Command{
		Use:   "allow [flags] POLICY [SYSCALL...]",
		Short: "Add to what a policy allows",
		Long: `Add system calls, with all their arguments, and capabilities to a policy, in its
file or, with -o, in another. brig run --explain and brig why say what a container
lacked. Containers that exist keep the policy that they were made with.`,
		Example: `  brig policy allow nginx.policy.json mkdir rename
  brig policy allow --cap-add CHOWN --comment 'the log is rotated' nginx.policy.json fchown`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && len(caps) == 0 {
				return errors.New("nothing to allow: name system calls after the policy, or capabilities with --cap-add")
			}
			if output == "" {
				output = args[0]
			}
			return a.policyAllow(args[0], output, caps, args[1:], comment)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&caps, "cap-add", nil, "capability to grant; repeatable")
	f.StringVar(&comment, "comment", "added by hand", "why, for the policy's readers")
	f.StringVarP(&output, "output", "o", "", `file to write, "-" for standard output (default: the policy's own)`)
	return cmd
}

// newPolicyApply is for who looks for it here: the flag of run does it.
func newPolicyApply(*app) *cobra.Command {
	return &cobra.Command{
		Use: "apply", Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			words := append([]string{"brig run --policy"}, args...)
			if len(args) < 2 {
				words = []string{"brig run --policy FILE IMAGE"}
			}
			return fmt.Errorf("a policy is applied to the container that is run under it: %s", strings.Join(words, " "))
		},
	}
}

func (a *app) policyAllow(file, output string, caps, calls []string, comment string) error {
	set, err := capability.ParseSet(caps)
	if err != nil {
		return fmt.Errorf("--cap-add: %w", err)
	}
	p, err := policy.Load(file)
	if err != nil {
		return err
	}
	added, err := p.Allow(set, calls, comment)
	if err != nil {
		return err
	}
	if len(added) == 0 {
		fmt.Fprintln(a.err, "the policy allows that already")
	} else {
		fmt.Fprintln(a.err, "allowed: "+strings.Join(added, " "))
	}
	data, err := p.Encode()
	if err != nil {
		return err
	}
	return a.writeResult(output, false, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
