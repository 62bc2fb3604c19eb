package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
)

// capabilityRow is one capability in the list.
type capabilityRow struct {
	Number  int      `json:"number"`
	Name    string   `json:"name"`
	Default bool     `json:"default"`
	Allows  string   `json:"allows"`
	Unlocks []string `json:"unlocks"` // system calls of the default profile
}

func newCapabilities(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "capabilities [flags] [NAME...]",
		Aliases: []string{"caps"},
		Short:   "List the capabilities, what each allows and which system calls it unlocks",
		Long: `List the capabilities that this kernel knows: number, whether a container has it
by default, what it allows, and which system calls the default seccomp profile
allows only to a container that has it.`,
		Example: `  brig capabilities
  brig capabilities sys_time net_admin
  brig capabilities --format json | jq -r '.[] | select(.default) | .name'`,
		RunE: func(_ *cobra.Command, args []string) error {
			rows, err := capabilityRows(args)
			if err != nil {
				return err
			}
			switch format {
			case "json":
				return printIndented(a.out, rows)
			case "", "table":
				return a.printCapabilities(rows)
			}
			return fmt.Errorf("--format %q: use table or json", format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "table or json")
	return cmd
}

func capabilityRows(names []string) ([]capabilityRow, error) {
	known := capability.Kernel()
	if len(names) > 0 {
		var err error
		if known, err = capability.ParseSet(names); err != nil {
			return nil, err
		}
	}
	var rows []capabilityRow
	for _, c := range known.List() {
		calls, err := seccomp.UnlockedBy(c)
		if err != nil {
			return nil, err
		}
		if calls == nil {
			calls = []string{}
		}
		rows = append(rows, capabilityRow{int(c), c.Short(), capability.Default().Has(c), c.Allows(), calls})
	}
	return rows, nil
}

func (a *app) printCapabilities(rows []capabilityRow) error {
	width := terminalWidth(a.out)
	const indent = 35
	fmt.Fprintf(a.out, "%3s  %-20s %-8s %s\n", "NR", "NAME", "DEFAULT", "ALLOWS")
	for _, r := range rows {
		def := ""
		if r.Default {
			def = "yes"
		}
		text := wrap(r.Allows, width-indent)
		if len(r.Unlocks) > 0 {
			text = append(text, wrap("unlocks: "+strings.Join(r.Unlocks, ", "), width-indent)...)
		}
		fmt.Fprintf(a.out, "%3d  %-20s %-8s %s\n", r.Number, r.Name, def, text[0])
		for _, line := range text[1:] {
			fmt.Fprintf(a.out, "%*s%s\n", indent, "", line)
		}
	}
	return nil
}

// wrap breaks a text into lines of at most n characters, at its spaces.
func wrap(text string, n int) []string {
	n = max(n, 20)
	lines := []string{""}
	for _, w := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = w
		case len(*last)+1+len(w) <= n:
			*last += " " + w
		default:
			lines = append(lines, w)
		}
	}
	return lines
}
