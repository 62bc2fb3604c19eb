package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/policy/export"
	"github.com/brig-run/brig/internal/report"
)

func newReport(a *app) *cobra.Command {
	var output, image string
	var programs []string
	cmd := &cobra.Command{
		Use:   "report [flags] POLICY",
		Short: "Write a policy as a page for people",
		Long: `Write a policy as one HTML page for people: capabilities, system calls, attack
surface before and after, denials, and how to use the policy. The page needs no
network and no other file.`,
		Example: `  brig report -o nginx.html nginx.policy.json
  brig report -o nginx.html --scan nginx nginx.policy.json`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(programs) > 0 && image == "" {
				return errors.New("--program is a program of an image: name that with --scan")
			}
			p, err := policy.Load(args[0])
			if err != nil {
				return err
			}
			granted, err := p.Granted()
			if err != nil {
				return err
			}
			in := report.Input{Policy: p, Capabilities: granted, Default: capability.Default(), Commands: uses(p, args[0])}
			if image != "" {
				s, err := a.scan(cmd, image, p, false, programs)
				if err != nil {
					return err
				}
				in.Scanned, in.Reachable = true, s.calls
				for _, n := range s.Notes {
					fmt.Fprintln(a.err, "NOTE: "+n)
				}
			}
			return a.writeResult(output, false, func(w io.Writer) error { return report.Write(w, in) })
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	cmd.Flags().StringSliceVar(&programs, "program", nil, "with --scan, read this program of the image, and not that of the command; repeatable")
	cmd.Flags().StringVar(&image, "scan", "", "image whose code is read, to show calls that can be reached and were never made")
	return cmd
}

// uses are the ways to use a policy that is in a file.
func uses(p *policy.Policy, file string) []report.Command {
	image := "IMAGE"
	if p.Image != nil {
		image = p.Image.Reference
	}
	list := []report.Command{{Title: "Brig", Text: strings.Join(append([]string{"brig run --policy", file, image}, p.Command...), " ")}}
	for _, name := range export.Names() {
		list = append(list, report.Command{Title: name, Text: fmt.Sprintf("brig policy export --to %s -o . %s", name, file)})
	}
	return list
}
