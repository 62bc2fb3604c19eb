// Command brig-runtime is "brig runtime" alone: an OCI runtime for other engines.
//
// A link of this name to brig does the same. This program is smaller, has fewer
// packages to initialize, and so starts in half the time, which counts where it
// is called three times for each container.
package main

import (
	"os"

	_ "github.com/brig-run/brig/internal/boot" // first: names the sealed process
	"github.com/brig-run/brig/internal/ocicmd"
)

func main() { os.Exit(ocicmd.Main(ocicmd.Link, os.Args[1:])) }
