// Package export writes a policy in the forms that other engines take: Docker,
// podman, OCI runtimes, Kubernetes, the Security Profiles Operator, systemd and
// docker-compose.
//
// It runs nothing and writes no files: it returns their contents. What a form
// cannot say is never left out silently: it is a note, or, where that would
// leave nothing of use, an error.
package export

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/seccomp"
)

// Input is what is exported.
type Input struct {
	Policy       *policy.Policy
	Capabilities capability.Set   // that the policy grants
	Profile      *seccomp.Profile // that the policy makes
	// Name is the name of the files and objects: lower-case letters, digits and
	// "-". If it is empty, one is made from the policy's name or its image.
	Name string
	// Target is what the forms that hold for one machine are written for. If it
	// is nil, that is the architecture of the policy's runs.
	Target *seccomp.Target
	// Runtimes names the programs that will start the container and need system
	// calls of their own to do so: see [NeedsOf]. If it is nil, all are meant; if
	// it is only "brig", none.
	Runtimes []string
	// NoNewPrivileges says that no program of the container gains privileges by
	// being executed (setuid, setgid, file capabilities). A recording cannot
	// tell, so it is never assumed.
	NoNewPrivileges bool
}

// File is one file of an export.
type File struct {
	Name string // without a directory
	Data []byte
}

// Result is an export.
type Result struct {
	Files []File // the first is the main one
	// Notes say where the form means more or less than the policy, and what is
	// left to do; each is a sentence without a full stop. Files that can have
	// comments repeat them.
	Notes []string
}

// format is one form of export.
type format struct {
	name  string
	write func(*exporter) error
}

func formats() []format {
	return []format{
		{"docker", (*exporter).docker},
		{"podman", (*exporter).podman},
		{"oci", (*exporter).oci},
		{"kubernetes", (*exporter).kubernetes},
		{"spo", (*exporter).spo},
		{"systemd", (*exporter).systemd},
		{"compose", (*exporter).compose},
	}
}

// Names lists the formats.
func Names() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// Export writes in for the engine that format names.
//
//   - docker, podman: the seccomp profile, NAME.json, and a command line that
//     uses it, NAME.sh.
//   - oci: NAME.json, the parts "process" and "linux" of a config.json.
//   - kubernetes: NAME.yaml, the securityContext of a container, and NAME.json,
//     its Localhost profile.
//   - spo: NAME.yaml, a SeccompProfile of the Security Profiles Operator
//     (v1beta1), and NAME-container.yaml, the securityContext that uses it.
//   - systemd: NAME.conf, a drop-in of a service.
//   - compose: NAME.yaml, a service of docker-compose, and NAME.json, its
//     profile.
//
// An unknown format or runtime is an error that suggests the nearest one.
func Export(format string, in Input) (*Result, error) {
	x, err := newExporter(in)
	if err != nil {
		return nil, fmt.Errorf("export policy: %w", err)
	}
	for _, f := range formats() {
		if f.name != format {
			continue
		}
		if err := f.write(x); err != nil {
			return nil, fmt.Errorf("export policy for %s: %w", format, err)
		}
		return &x.out, nil
	}
	return nil, fmt.Errorf("export policy: %w", unknown("format", format, Names()))
}

// unknown is the error for a name that is not in a list.
func unknown(what, name string, known []string) error {
	if near := nearest.Name(name, slices.Values(known)); near != "" {
		return fmt.Errorf("unknown %s %q; did you mean %s?", what, name, near)
	}
	return fmt.Errorf("unknown %s %q; known are %s", what, name, strings.Join(known, ", "))
}

// exporter makes one export.
type exporter struct {
	in     Input
	name   string
	target seccomp.Target
	caps   []string // short names
	out    Result
}

func newExporter(in Input) (*exporter, error) {
	if in.Policy == nil || in.Profile == nil {
		return nil, errors.New("a policy and its seccomp profile are needed")
	}
	x := &exporter{in: in}
	var err error
	if x.name, err = nameOf(&in); err != nil {
		return nil, err
	}
	if x.target, err = targetOf(&in); err != nil {
		return nil, err
	}
	for _, c := range in.Capabilities.List() {
		if !capability.Known().Has(c) {
			return nil, fmt.Errorf("capability %s has no name that other engines know", c.Short())
		}
		x.caps = append(x.caps, c.Short())
	}
	if in.Runtimes == nil {
		x.in.Runtimes = Runtimes()
	}
	for _, name := range x.in.Runtimes {
		if _, err := NeedsOf(name); err != nil {
			return nil, err
		}
	}
	if in.Policy.IOUring {
		x.note("the container used io_uring, whose operations no seccomp profile sees")
	}
	return x, nil
}

// targetOf returns the target that was asked for, or the machine that the
// policy was learned on.
func targetOf(in *Input) (seccomp.Target, error) {
	if in.Target != nil {
		return *in.Target, nil
	}
	machine := ""
	for _, r := range in.Policy.Runs {
		switch {
		case r.Machine == "" || r.Machine == machine:
		case machine != "":
			return seccomp.Target{}, fmt.Errorf("the policy was learned on %s and %s; say for which one to export", machine, r.Machine)
		default:
			machine = r.Machine
		}
	}
	if machine == "" {
		machine = runtime.GOARCH
	}
	arch, err := seccomp.ParseArchName(machine)
	if err != nil {
		return seccomp.Target{}, fmt.Errorf("machine of the policy's runs: %w", err)
	}
	kernel, err := seccomp.RunningKernel()
	return seccomp.Target{Arch: arch, Caps: in.Capabilities, Kernel: kernel}, err
}

// note adds a note once.
func (x *exporter) note(text string, args ...any) {
	if text = fmt.Sprintf(text, args...); !slices.Contains(x.out.Notes, text) {
		x.out.Notes = append(x.out.Notes, text)
	}
}

func (x *exporter) file(name string, data []byte) {
	x.out.Files = append(x.out.Files, File{Name: x.name + name, Data: data})
}

// head returns the lines of comment at the top of a file: what it is, what it
// was made from, the text more, and the notes.
func (x *exporter) head(what string, more ...string) string {
	var b strings.Builder
	line := func(text string) { b.WriteString("# " + printable(text) + "\n") }
	if image := x.in.Policy.Image; image != nil {
		what += ", learned by Brig from " + image.Reference
	}
	line(what + ".")
	for _, text := range more {
		line(text + ".")
	}
	for _, n := range x.out.Notes {
		line("Note: " + n + ".")
	}
	return b.String()
}
