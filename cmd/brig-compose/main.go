// Brig-compose runs the services of compose files. "brig compose" runs it; it is
// a program of its own because what reads compose files would make each start of
// brig slower by a third.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/brig-run/brig/internal/compose"
)

func main() {
	exe, err := brig()
	if err == nil {
		cmd := compose.Command(&compose.Brig{Exe: exe, Out: os.Stdout, Err: os.Stderr})
		err = cmd.ExecuteContext(context.Background())
	}
	var exit *compose.ExitError
	switch {
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintln(os.Stderr, "brig compose: "+exit.Err.Error())
		}
		os.Exit(exit.Code)
	case err != nil:
		fmt.Fprintln(os.Stderr, "brig compose: "+err.Error())
		os.Exit(1)
	}
}

// brig finds the program whose commands are run: the one that ran this, the one
// beside this, or the one in the path.
func brig() (string, error) {
	if exe := os.Getenv("BRIG_EXECUTABLE"); exe != "" {
		return exe, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "brig")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	exe, err := exec.LookPath("brig")
	if err != nil {
		return "", errors.New("brig is neither beside this program nor in the path")
	}
	return exe, nil
}
