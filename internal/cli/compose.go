package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// composeProgram reads compose files and runs commands of this program.
const composeProgram = "brig-compose"

func newCompose(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "compose [flags] COMMAND",
		Short: "Run the services of a compose file",
		Long: `Run the services of a compose file. This is a program of its own, ` + composeProgram + `,
because what reads compose files would make each start of a container slower.`,
		Example:            "  brig compose up -d\n  brig compose --help",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			program, err := findCompose()
			if err != nil {
				return &exitError{engineFailed, err}
			}
			self, err := os.Executable()
			if err != nil {
				return &exitError{engineFailed, err}
			}
			env := append(os.Environ(), "BRIG_EXECUTABLE="+self)
			err = unix.Exec(program, append([]string{composeProgram}, args...), env)
			return &exitError{engineFailed, fmt.Errorf("run %s: %w", program, err)}
		},
	}
}

// findCompose looks beside this program first, then in the path.
func findCompose() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), composeProgram)
		if unix.Access(beside, unix.X_OK) == nil {
			return beside, nil
		}
	}
	program, err := exec.LookPath(composeProgram)
	if err != nil {
		return "", fmt.Errorf("%[1]s is not installed: in a clone of Brig, CGO_ENABLED=0 go build -o /usr/local/bin/ ./cmd/%[1]s", composeProgram)
	}
	return program, nil
}
