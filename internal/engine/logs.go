package engine

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/brig-run/brig/internal/jsonline"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// logTarget tells the monitor where the container's output goes. It refuses a
// driver that this host has no place for.
func (c *Container) logTarget() (monitor.Log, error) {
	cfg := c.Options.Log
	if len(cfg.Options) == 0 && cfg.Name() == spec.LogJSONFile { // almost always
		return monitor.Log{Path: c.LogPath()}, nil
	}
	files, err := cfg.Files()
	if err != nil {
		return monitor.Log{}, err
	}
	l := monitor.Log{Path: c.LogPath(), MaxSize: files.MaxSize, MaxFiles: files.MaxFiles, Compress: files.Compress, Buffer: files.Buffer}
	extra, err := c.logAttributes()
	if err != nil {
		return l, err
	}
	if cfg.Name() != spec.LogJournald {
		if _, ok := cfg.Options["tag"]; ok {
			tag, err := c.logTag()
			if err != nil {
				return l, err
			}
			extra = append(extra, "tag", tag)
		}
		l.Attributes = jsonline.Members(extra...)
		return l, nil
	}
	if _, err := os.Stat(monitor.JournalSocket); err != nil {
		return l, usage("--log-driver journald: there is no journald on this host (%s is missing); use --log-driver json-file", monitor.JournalSocket)
	}
	l.Journal, err = c.journalFields(extra)
	return l, err
}

// logAttributes are the labels and variables that the options name, as keys and
// values.
func (c *Container) logAttributes() ([]string, error) {
	var pairs []string
	for _, kind := range []struct {
		name   string
		values map[string]string
	}{{"labels", c.Labels()}, {"env", c.variables()}} {
		wanted, err := c.logNames(kind.name)
		if err != nil {
			return nil, err
		}
		var keys []string
		for k := range kind.values {
			if wanted(k) {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			pairs = append(pairs, k, kind.values[k])
		}
	}
	return pairs, nil
}

// logNames says which names the options KIND and KIND-regex ask for.
func (c *Container) logNames(kind string) (func(string) bool, error) {
	list := strings.Split(c.Options.Log.Options[kind], ",")
	pattern, given := c.Options.Log.Options[kind+"-regex"]
	if !given {
		return func(name string) bool { return slices.Contains(list, name) }, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, usage("--log-opt %s-regex=%s: %v", kind, pattern, err)
	}
	return func(name string) bool { return slices.Contains(list, name) || re.MatchString(name) }, nil
}

func (c *Container) variables() map[string]string {
	all := map[string]string{}
	for _, v := range append(slices.Clone(c.ImageConfig.Env), c.Options.Env...) {
		if name, value, ok := strings.Cut(v, "="); ok {
			all[name] = value
		}
	}
	return all
}

// logTag is the value of the option tag, a template of Docker's names.
func (c *Container) logTag() (string, error) {
	text, ok := c.Options.Log.Options["tag"]
	if !ok {
		return c.ID[:12], nil
	}
	full := strings.TrimPrefix(c.ImageID, "sha256:")
	t, err := template.New("tag").Parse(text)
	var out bytes.Buffer
	if err == nil {
		err = t.Execute(&out, map[string]string{
			"ID": c.ID[:12], "FullID": c.ID, "Name": c.Name, "ImageName": c.Image, "ImageID": full[:min(12, len(full))], "ImageFullID": c.ImageID, "DaemonName": "brig",
		})
	}
	if err != nil {
		return "", usage("--log-opt tag=%s: %s", text, strings.TrimPrefix(err.Error(), "template: "))
	}
	return out.String(), nil
}

// journalFields are the fields of Docker's driver that all messages have.
func (c *Container) journalFields(extra []string) (string, error) {
	tag, err := c.logTag()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	pairs := []string{
		"CONTAINER_ID", c.ID[:12], "CONTAINER_ID_FULL", c.ID, "CONTAINER_NAME", c.Name, "CONTAINER_TAG", tag, "IMAGE_NAME", c.Image,
		"SYSLOG_IDENTIFIER", tag,
	}
	for i, s := range extra {
		if i%2 == 0 {
			s = journalName(s)
		}
		pairs = append(pairs, s)
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != "" {
			fmt.Fprintf(&b, "%s=%s\n", pairs[i], strings.ReplaceAll(pairs[i+1], "\n", " "))
		}
	}
	return b.String(), nil
}

// journalName makes a field's name of a label's: capitals, digits and _, not _
// first, as journald wants them.
func journalName(s string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_':
			return r
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return '_'
	}, s)
	name = strings.TrimLeft(name, "_0123456789")
	return name[:min(len(name), 64)]
}
