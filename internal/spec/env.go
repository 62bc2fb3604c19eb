package spec

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// Limits for files that the user names: far above any real one, they keep a
// mistaken path (a disk image, /dev/zero) from filling the memory.
const (
	maxEnvLine = 1 << 20
	maxEnvFile = 16 << 20
)

// Lookup finds a variable in the caller's environment; os.LookupEnv is one.
type Lookup func(name string) (value string, ok bool)

// ParseEnv reads the value of --env: NAME=VALUE, or NAME alone for the caller's
// value. NAME alone that the caller does not have stays as it is, and removes
// the image's variable.
func ParseEnv(value string, lookup Lookup) (string, error) {
	name, _, hasVal := strings.Cut(value, "=")
	switch {
	case name == "":
		return "", badValue("--env", value, "the name is missing; write NAME=VALUE")
	case strings.ContainsRune(value, 0):
		return "", badValue("--env", value, "a variable cannot hold a NUL byte")
	}
	if !hasVal && lookup != nil {
		if v, ok := lookup(name); ok {
			return name + "=" + v, nil
		}
	}
	return value, nil
}

// ReadEnvFile reads the file of --env-file: a variable a line, empty lines and
// those that begin with "#" apart. NAME alone takes the caller's value, and
// nothing if there is none. Errors name the file and the line.
func ReadEnvFile(path string, lookup Lookup) ([]string, error) {
	return readLines("--env-file", path, lookup)
}

// ReadLabelFile reads the file of --label-file, in the form of an env-file;
// NAME alone is a label with an empty value.
func ReadLabelFile(path string) ([]string, error) {
	return readLines("--label-file", path, nil)
}

// readLines opens a file of NAME=VALUE lines. Only a regular file or a pipe
// (process substitution) can be one.
func readLines(flag, path string, lookup Lookup) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if m := st.Mode(); m.IsDir() || m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0 {
		return nil, fmt.Errorf("%s: %s is not a file of NAME=VALUE lines", flag, path)
	}
	return parseLines(f, flag, path, lookup)
}

// parseLines reads NAME=VALUE lines. With a lookup, NAME alone is a variable of
// the caller's; without, it is kept.
func parseLines(r io.Reader, flag, name string, lookup Lookup) ([]string, error) {
	bad := func(line int, msg string, args ...any) error {
		return fmt.Errorf("%s %s:%d: %s", flag, name, line, fmt.Sprintf(msg, args...))
	}
	limited := &io.LimitedReader{R: r, N: maxEnvFile + 1}
	sc := bufio.NewScanner(limited)
	sc.Buffer(nil, maxEnvLine)
	var out []string
	n := 0
	for sc.Scan() {
		n++
		line := sc.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff") // a Windows editor's byte order mark
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, hasVal := strings.Cut(line, "=")
		switch {
		case limited.N <= 0:
			return nil, bad(n, "the file is larger than %d MiB", maxEnvFile>>20)
		case !utf8.ValidString(line):
			return nil, bad(n, "the line is not UTF-8 text")
		case strings.ContainsRune(line, 0):
			return nil, bad(n, "the line holds a NUL byte")
		case key == "":
			return nil, bad(n, "no name before %q; write NAME=VALUE", "=")
		case strings.ContainsAny(key, " \t"):
			return nil, bad(n, "the name %q contains white space; write NAME=VALUE", key)
		}
		if hasVal || lookup == nil {
			out = append(out, line)
		} else if v, ok := lookup(line); ok {
			out = append(out, line+"="+v)
		}
	}
	switch err := sc.Err(); {
	case err == bufio.ErrTooLong:
		return nil, bad(n+1, "the line is longer than %d KiB", maxEnvLine>>10)
	case err != nil:
		return nil, fmt.Errorf("%s: read %s: %w", flag, name, err)
	case limited.N <= 0:
		return nil, bad(n, "the file is larger than %d MiB", maxEnvFile>>20)
	}
	return out, nil
}

// ParseLabel reads NAME[=VALUE] for --label and --annotation.
func ParseLabel(flag, value string) (name, val string, err error) {
	name, val, _ = strings.Cut(value, "=")
	switch {
	case strings.TrimSpace(name) == "":
		return "", "", badValue(flag, value, "the name is missing; write NAME=VALUE")
	case strings.ContainsRune(value, 0):
		return "", "", badValue(flag, value, "a label cannot hold a NUL byte")
	}
	return name, val, nil
}

// mergeEnv puts the variables of over on top of base. A variable keeps its
// place; NAME alone removes it. The last of several equal names wins.
func mergeEnv(base, over []string) []string {
	for _, v := range over {
		name, _, hasVal := strings.Cut(v, "=")
		i := indexEnv(base, name)
		switch {
		case i < 0 && hasVal:
			base = append(base, v)
		case i >= 0 && hasVal:
			base[i] = v
		case i >= 0:
			base = append(base[:i], base[i+1:]...)
		}
	}
	return base
}

// indexEnv finds a variable by name, or gives -1.
func indexEnv(env []string, name string) int {
	for i, v := range env {
		if len(v) > len(name) && v[len(name)] == '=' && v[:len(name)] == name {
			return i
		}
	}
	return -1
}
