package capability

import (
	"errors"
	"fmt"
	"strings"
)

// all is the word that stands for every capability of the running kernel.
const all = "ALL"

// Resolve applies the values of --cap-add and --cap-drop to base with Docker's
// rules. Each value is a name as [Parse] understands it, the word ALL in any
// case, or several of these separated by commas; spaces around a name do not
// count.
//
//   - Add ALL gives the kernel's capabilities less those that drop names. It
//     wins over drop ALL.
//   - Drop ALL gives what add names and nothing of base.
//   - Otherwise drop is taken from base and add is joined after it, so a name
//     on both sides is in the result.
//
// It is an error to add a capability that the running kernel does not know;
// dropping one does nothing.
func Resolve(base Set, add, drop []string) (Set, error) {
	added, addAll, err := parseValues(add)
	if err != nil {
		return 0, fmt.Errorf("add capabilities: %w", err)
	}
	dropped, dropAll, err := parseValues(drop)
	if err != nil {
		return 0, fmt.Errorf("drop capabilities: %w", err)
	}
	if missing := added.Minus(Kernel()); missing != 0 {
		return 0, fmt.Errorf("add capabilities: this kernel does not know %s", missing)
	}
	switch {
	case addAll:
		return Kernel().Minus(dropped), nil
	case dropAll:
		return added, nil
	default:
		return base.Minus(dropped).Union(added), nil
	}
}

// parseValues splits the values of one option at commas and returns the
// capabilities that they name, and whether ALL is among them.
func parseValues(values []string) (set Set, hasAll bool, err error) {
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimSpace(name)
			if name == "" {
				return 0, false, emptyName(value)
			}
			if strings.EqualFold(name, all) {
				hasAll = true
				continue
			}
			c, err := Parse(name)
			if err != nil {
				return 0, false, err
			}
			set = set.Add(c)
		}
	}
	return set, hasAll, nil
}

func emptyName(value string) error {
	if strings.TrimSpace(value) == "" {
		return errors.New("empty capability name")
	}
	return fmt.Errorf("empty capability name in %q", value)
}
