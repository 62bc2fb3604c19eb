// Command brig runs Docker-format images with the privileges that they need
// and no others.
package main

import (
	"os"

	_ "github.com/brig-run/brig/internal/boot" // first: a monitor never gets past it
	"github.com/brig-run/brig/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
