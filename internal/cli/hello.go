package cli

import (
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/hello"
)

// newHello is the program of the starter image, which is this binary itself.
func newHello(a *app) *cobra.Command {
	return &cobra.Command{
		Use:                "hello",
		Short:              "Print what this process may do (the program of the image brig/hello)",
		Example:            "  brig hello\n  brig run --rm brig/hello",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := hello.Main(args, a.out); code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}
