package engine

import "github.com/brig-run/brig/internal/version"

// Version is the version of this program.
func Version() string { return version.Version() }

// Revision is the commit that the program was built from, if it is known.
func Revision() string { return version.Revision() }
