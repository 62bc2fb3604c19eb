// Command brig runs Docker-format images with the privileges that they need
// and no others.
package main

import (
	"os"
	"path/filepath"

	_ "github.com/brig-run/brig/internal/boot" // first: a monitor never gets past it
	"github.com/brig-run/brig/internal/cli"
	"github.com/brig-run/brig/internal/ocicmd"
)

func main() {
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == ocicmd.Link {
		args = append([]string{"runtime"}, args...)
	}
	os.Exit(cli.Main(args))
}
