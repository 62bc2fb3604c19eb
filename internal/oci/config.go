package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// config is the text of a bundle's configuration.
type config struct {
	name string
	text []byte
	// brief is the text without the rules of the seccomp profile, which are most
	// of it, and profile is the text of linux.seccomp. Without rules brief is the
	// text, and profile nil.
	brief, profile []byte
}

// readConfig reads a bundle's configuration.
func readConfig(bundle string) (*config, error) {
	c := &config{name: filepath.Join(bundle, configFile)}
	var err error
	c.text, err = os.ReadFile(c.name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("JSON specification file %s not found: is %s a bundle?", c.name, bundle)
	}
	if err != nil {
		return nil, err
	}
	c.brief, c.profile = cutRules(c.text)
	return c, nil
}

// decode gives the configuration; brief, without the rules. (To learn all that
// the rules say takes as long as all the rest.)
func (c *config) decode(brief bool) (*specs.Spec, error) {
	var spec *specs.Spec
	var err error
	if brief {
		spec, err = decodeSpec(c.brief)
	}
	if !brief || err != nil { // whose lines are other than those of the file
		if spec, err = decodeSpec(c.text); err != nil {
			return nil, jsonError(c.name, c.text, err)
		}
	}
	if spec.Process == nil {
		return nil, fmt.Errorf("%s: process: is missing", c.name)
	}
	if spec.Root == nil {
		return nil, fmt.Errorf("%s: root: is missing", c.name)
	}
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	return spec, nil
}

// decodeRules adds the rules to what decode gave without them.
func (c *config) decodeRules(spec *specs.Spec) error {
	spec.Linux.Seccomp = &specs.LinuxSeccomp{}
	if err := json.Unmarshal(c.profile, spec.Linux.Seccomp); err != nil {
		return fmt.Errorf("%s: linux.seccomp: %w", c.name, err)
	}
	return nil
}

// decodeSpec reads a configuration. Of the parts for other platforms it keeps no
// more than that they are there: the JSON library would take a quarter of a
// millisecond to learn what they have.
func decodeSpec(text []byte) (*specs.Spec, error) {
	var s struct {
		Version     string            `json:"ociVersion"`
		Process     *specs.Process    `json:"process"`
		Root        *specs.Root       `json:"root"`
		Hostname    string            `json:"hostname"`
		Domainname  string            `json:"domainname"`
		Mounts      []specs.Mount     `json:"mounts"`
		Hooks       *specs.Hooks      `json:"hooks"`
		Annotations map[string]string `json:"annotations"`
		Linux       *specs.Linux      `json:"linux"`
		Solaris     *struct{}         `json:"solaris"`
		Windows     *struct{}         `json:"windows"`
		VM          *struct{}         `json:"vm"`
		ZOS         *struct{}         `json:"zos"`
		FreeBSD     *struct{}         `json:"freebsd"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	return &specs.Spec{Version: s.Version, Process: s.Process, Root: s.Root, Hostname: s.Hostname, Domainname: s.Domainname,
		Mounts: s.Mounts, Hooks: s.Hooks, Annotations: s.Annotations, Linux: s.Linux,
		Solaris: empty[specs.Solaris](s.Solaris), Windows: empty[specs.Windows](s.Windows), VM: empty[specs.VM](s.VM),
		ZOS: empty[specs.ZOS](s.ZOS), FreeBSD: empty[specs.FreeBSD](s.FreeBSD)}, nil
}

// empty is an empty T if there is anything.
func empty[T any](there *struct{}) *T {
	if there == nil {
		return nil
	}
	return new(T)
}

// jsonError adds the line to an error of the JSON library.
func jsonError(name string, b []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset := int64(-1)
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	if offset < 0 || offset > int64(len(b)) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s:%d: %w", name, 1+bytes.Count(b[:offset], []byte("\n")), err)
}
