package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// The forms in which profiles are written.
const (
	FormDocker  = "docker"  // Docker's JSON
	FormOCI     = "oci"     // OCI's "linux.seccomp", or a whole config.json that has it
	FormText    = "text"    // Brig's text form; see [ParseText]
	FormSystemd = "systemd" // the settings of a systemd unit; see [ParseSystemd]
)

// Forms lists the forms.
func Forms() []string { return []string{FormDocker, FormOCI, FormText, FormSystemd} }

// LoadAny reads the profile file at path, or standard input for "-", in
// whichever form it is, and returns that form; see [ParseAny].
func LoadAny(path string) (p *Profile, form string, err error) {
	file, data, err := readProfile(path)
	if err == nil {
		p, form, err = ParseAny(file, data)
	}
	if err != nil {
		return nil, "", fmt.Errorf("load seccomp profile: %w", err)
	}
	return p, form, nil
}

// LoadForm is like [LoadAny] for a file that is in the given form.
func LoadForm(form, path string) (*Profile, error) {
	file, data, err := readProfile(path)
	if err != nil {
		return nil, fmt.Errorf("load seccomp profile: %w", err)
	}
	p, err := ParseForm(form, file, data)
	if err != nil {
		return nil, fmt.Errorf("load seccomp profile: %w", err)
	}
	return p, nil
}

// readProfile reads a file, and returns its name for messages.
func readProfile(path string) (file string, data []byte, err error) {
	file, r := path, io.Reader(os.Stdin)
	if path == "-" {
		file = "standard input"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return "", nil, err
		}
		defer f.Close()
		r = f
	}
	data, err = io.ReadAll(io.LimitReader(r, maxProfile+1))
	return file, data, err
}

// ParseAny reads a profile in whichever form it is, and returns that form:
// [DetectForm] says which.
func ParseAny(file string, data []byte) (*Profile, string, error) {
	form := DetectForm(data)
	p, err := ParseForm(form, file, data)
	return p, form, err
}

// ParseForm reads a profile in the given form. An empty form means the one that
// the profile has.
func ParseForm(form, file string, data []byte) (*Profile, error) {
	switch form {
	case "":
		p, _, err := ParseAny(file, data)
		return p, err
	case FormDocker:
		return ParseProfile(file, data)
	case FormOCI:
		return parseOCI(file, data)
	case FormText:
		return ParseText(file, data)
	case FormSystemd:
		return ParseSystemd(file, data)
	}
	return nil, unknownWord("form", form, Forms())
}

// Format returns the profile in the given form. T matters for the forms "oci"
// and "systemd", which hold for one target.
func (p *Profile) Format(form string, t Target) ([]byte, error) {
	switch form {
	case FormDocker:
		return p.DockerJSON()
	case FormOCI:
		return p.OCIJSON(t)
	case FormText:
		return p.Text()
	case FormSystemd:
		return p.Systemd(t)
	}
	return nil, unknownWord("form", form, Forms())
}

// DetectForm returns the form of a profile: JSON begins with "{", and is OCI's
// if it is a config.json or has what only that form has, a list of
// architectures; the first line of a unit is a section or an assignment.
// Anything else is taken for text.
func DetectForm(data []byte) string {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] == '{' || trimmed[0] == '[' && !isUnitSection(trimmed) {
		var has struct {
			OCIVersion    json.RawMessage `json:"ociVersion"`
			Architectures json.RawMessage `json:"architectures"`
		}
		if json.Unmarshal(data, &has) == nil && (has.OCIVersion != nil || has.Architectures != nil) {
			return FormOCI
		}
		return FormDocker
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, isAssignment := strings.Cut(line, "=")
		if line[0] == ';' || isUnitSection([]byte(line)) || isAssignment && isUnitKey(strings.TrimSpace(key)) {
			return FormSystemd
		}
		break
	}
	return FormText
}

// isUnitSection reports whether text begins with a section, such as
// "[Service]".
func isUnitSection(text []byte) bool {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSpace(line)
	return len(line) > 2 && line[0] == '[' && line[len(line)-1] == ']' && isUnitKey(string(line[1:len(line)-1]))
}

// isUnitKey reports whether text is one word of letters, of which some are
// capitals, as the keys of units are.
func isUnitKey(text string) bool {
	letter := func(r rune) bool { return 'a' <= r|0x20 && r|0x20 <= 'z' || '0' <= r && r <= '9' || r == '-' }
	return text != "" && strings.ToLower(text) != text && !strings.ContainsFunc(text, func(r rune) bool { return !letter(r) })
}

// parseOCI reads "linux.seccomp", also out of a whole config.json, whose lines
// are kept for messages.
func parseOCI(file string, data []byte) (*Profile, error) {
	d := decoder{file: file}
	root, err := d.parse(data)
	if err != nil {
		return nil, err
	}
	at := func(n node, key string) (node, bool) {
		i := slices.IndexFunc(n.members, func(m member) bool { return m.key == key })
		if i < 0 {
			return node{}, false
		}
		return n.members[i].value, true
	}
	if _, ok := at(root, "ociVersion"); ok {
		linux, _ := at(root, "linux")
		if root, ok = at(linux, "seccomp"); !ok {
			return nil, &Error{File: file, Path: "linux.seccomp", Err: errors.New("the configuration has no seccomp profile")}
		}
	}
	p := &Profile{File: file}
	if err := d.profile(root, p); err != nil {
		return nil, err
	}
	return p, nil
}
