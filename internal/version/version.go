// Package version knows which version this program is.
package version

import "runtime/debug"

// version is the release; the linker may set it.
var version = "0.1.0-dev"

// Version is the version of this program.
func Version() string { return version }

// Revision is the commit that the program was built from, if it is known.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
