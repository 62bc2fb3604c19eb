package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newNetworkInspect(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [flags] NETWORK [NETWORK...]",
		Short: "Show all about networks, and who is in them",
		Example: `  brig network inspect backend
  brig network inspect --format '{{range .Containers}}{{.Name}} {{end}}' backend`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.networkInspect(args, format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `json, or a Go template such as "{{.Id}}"`)
	return cmd
}

func (a *app) networkInspect(names []string, format string) error {
	s, err := a.networks()
	if err != nil {
		return err
	}
	found, failed := []any{}, false
	for _, name := range names {
		n, err := s.Find(name)
		if err == nil {
			var v any
			if v, err = s.Inspect(n); err == nil {
				found = append(found, v)
				continue
			}
		}
		failed = true
		fmt.Fprintf(a.err, "brig: %s\n", err)
	}
	if err := a.printInspected(found, format); err != nil {
		return err
	}
	if failed {
		return &exitError{code: 1}
	}
	return nil
}
