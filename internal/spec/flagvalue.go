package spec

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/brig-run/brig/internal/nearest"
)

// badValue is the error of every parser: the flag, the value, and what to write
// instead.
func badValue(flag, value, fix string, args ...any) error {
	return fmt.Errorf("%s %q: %s", flag, value, oneLine(fmt.Sprintf(fix, args...)))
}

// oneLine keeps what a user wrote from breaking an error's line or colouring
// the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

func containerOf(mode string) string {
	id, ok := strings.CutPrefix(mode, "container:")
	if !ok {
		return ""
	}
	return id
}

// hostPath makes a path of the host absolute and clean. Only an absolute
// working directory can serve.
func hostPath(p, cwd string) string {
	if !filepath.IsAbs(p) {
		p = filepath.Join(cwd, p)
	}
	return filepath.Clean(p)
}

// containerPath checks a path in the container: absolute, without NUL, clean.
func containerPath(flag, value, p string) (string, error) {
	switch {
	case p == "":
		return "", badValue(flag, value, "the path in the container is missing")
	case strings.ContainsRune(p, 0):
		return "", badValue(flag, value, "a path cannot hold a NUL byte")
	case p[0] != '/':
		return "", badValue(flag, value, "the path in the container must be absolute: write /%s", strings.TrimPrefix(p, "./"))
	}
	return filepath.Clean(p), nil
}

// oneOf lists words for an error: "a, b or c".
func oneOf(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
}

// unknown words the refusal of a word that is not in known, with the nearest
// known one if there is any near enough.
func unknown(what, word string, known []string) string {
	if near := nearest.Name(strings.ToLower(word), slices.Values(known)); near != "" {
		return fmt.Sprintf("unknown %s %q; did you mean %s?", what, word, near)
	}
	return fmt.Sprintf("unknown %s %q; use %s", what, word, oneOf(known))
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
