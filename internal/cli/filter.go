package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/internal/nearest"
)

// filters are the values of --filter by key.
type filters map[string][]string

// add takes one KEY=VALUE apart, and keeps it.
func (fs filters) add(f string) (key, value string, err error) {
	key, value, err = cutFilter(f)
	if err == nil {
		fs[key] = append(fs[key], value)
	}
	return key, value, err
}

// hold says whether all keys hold: of one key one value must, but all labels.
func (fs filters) hold(match func(key, value string) bool) bool {
	for k, values := range fs {
		hit := func(v string) bool { return match(k, v) }
		if k == "label" && slices.ContainsFunc(values, func(v string) bool { return !hit(v) }) {
			return false
		}
		if k != "label" && !slices.ContainsFunc(values, hit) {
			return false
		}
	}
	return true
}

func cutFilter(f string) (key, value string, err error) {
	key, value, ok := strings.Cut(f, "=")
	if !ok {
		return "", "", fmt.Errorf("--filter %q: write KEY=VALUE", f)
	}
	return key, value, nil
}

// unknownFilter names the nearest filter that there is.
func unknownFilter(key string, known ...string) error {
	hint := ""
	if n := nearest.Name(key, slices.Values(known)); n != "" {
		hint = fmt.Sprintf("; did you mean %s?", n)
	}
	return fmt.Errorf("--filter: unknown filter %q%s; there are %s", key, hint, strings.Join(known, ", "))
}

// labelFilter is what prune's filters say of labels: those that must be there, and
// those that must not.
type labelFilter struct{ with, without []string }

// add keeps a filter, and says whether it is one of labels.
func (f *labelFilter) add(key, value string) bool {
	switch key {
	case "label":
		f.with = append(f.with, value)
	case "label!":
		f.without = append(f.without, value)
	default:
		return false
	}
	return true
}

func (f *labelFilter) match(labels map[string]string) bool {
	has := func(l string) bool { return hasLabel(labels, l) }
	return !slices.ContainsFunc(f.with, func(l string) bool { return !has(l) }) && !slices.ContainsFunc(f.without, has)
}

// hasLabel says whether there is a label KEY, or KEY=VALUE.
func hasLabel(labels map[string]string, want string) bool {
	k, value, valued := strings.Cut(want, "=")
	have, ok := labels[k]
	return ok && (!valued || have == value)
}

// labelText is all labels, as Docker's lists have them.
func labelText(labels map[string]string) string {
	var list []string
	for k, v := range labels {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}
