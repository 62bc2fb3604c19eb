package image

import (
	"fmt"
	"strings"
)

// Reference is a parsed image name such as host:5000/path/name:tag@sha256:...
//
// The grammar is that of github.com/distribution/reference, which would cost
// every start of the program 0.5 ms for its regular expressions.
type Reference struct {
	Domain string // registry, such as docker.io or host:5000
	Path   string // repository there, such as library/busybox
	Tag    string // empty with a digest alone
	Digest string // sha256:HEX, or empty
}

const (
	defaultDomain = "docker.io"
	defaultTag    = "latest"
	officialPath  = "library/"
	maxPath       = 255 // of the repository's path, as registries have it
)

// ParseReference parses a name as users write it: what is left out is Docker's
// default, docker.io, library/ and latest.
func ParseReference(s string) (Reference, error) {
	r, err := parseName(s)
	if err == nil && r.Tag == "" && r.Digest == "" {
		r.Tag = defaultTag
	}
	return r, err
}

// parseName is ParseReference without the default tag.
func parseName(s string) (Reference, error) {
	r, why := splitName(s)
	if why == "" {
		why = r.check()
	}
	if why != "" {
		return Reference{}, fmt.Errorf("invalid image reference %q: %s", s, why)
	}
	return r, nil
}

// splitName takes a name apart; the second result says what is wrong.
func splitName(s string) (r Reference, why string) {
	if s == "" {
		return r, "it is empty; use NAME[:TAG] or NAME@DIGEST"
	}
	if isHex(s) && len(s) == 64 {
		return r, "64 hexadecimal digits are an image ID, not a name"
	}
	rest, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		if !validDigest(digest) {
			return r, fmt.Sprintf("%q is not a digest; use sha256: and 64 lower-case hexadecimal digits", digest)
		}
		r.Digest = digest
	}
	first, path, slash := strings.Cut(rest, "/")
	if slash && isDomain(first) {
		r.Domain, rest = first, path
	} else {
		r.Domain = defaultDomain
	}
	path, tag, hasTag := strings.Cut(rest, ":")
	if hasTag {
		if !validTag(tag) {
			return r, fmt.Sprintf("%q is not a tag; use up to 128 letters, digits, dots, dashes and underscores, the first no dot or dash", tag)
		}
		r.Tag = tag
	}
	if r.Domain == "index.docker.io" {
		r.Domain = defaultDomain
	}
	if r.Domain == defaultDomain && !strings.Contains(path, "/") {
		path = officialPath + path
	}
	r.Path = path
	return r, ""
}

// isDomain says whether the first part of a name is a registry and not a part
// of the path.
func isDomain(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost" || strings.ToLower(s) != s
}

func (r Reference) check() string {
	if !validDomain(r.Domain) {
		return fmt.Sprintf("%q is not a registry; use HOST or HOST:PORT", r.Domain)
	}
	if lower := strings.ToLower(r.Path); lower != r.Path {
		return fmt.Sprintf("the repository must be lower case; use %q", strings.TrimPrefix(lower, officialPath))
	}
	if len(r.Path) > maxPath {
		return fmt.Sprintf("the repository is longer than %d characters", maxPath)
	}
	for part := range strings.SplitSeq(r.Path, "/") {
		if !validPart(part) {
			return fmt.Sprintf("%q cannot be part of a repository; use letters and digits, separated by a dot, one or two underscores, or dashes", part)
		}
	}
	return ""
}

// validDomain accepts host names, IPv4 and bracketed IPv6 addresses, with or
// without a port.
func validDomain(s string) bool {
	host := s
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 2 || strings.Trim(s[1:end], "0123456789abcdefABCDEF:") != "" {
			return false
		}
		if rest := s[end+1:]; rest != "" {
			return rest[0] == ':' && len(rest) > 1 && digits(rest[1:])
		}
		return true
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		host = s[:i]
		if i+1 == len(s) || !digits(s[i+1:]) {
			return false
		}
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !alnum(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// validPart is a component of a repository's path: runs of a-z and 0-9,
// separated by ".", "_", "__" or any number of "-".
func validPart(s string) bool {
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if alnum(s[i]) {
			i++
			continue
		}
		end := i
		for end < len(s) && s[end] == s[i] {
			end++
		}
		switch run := end - i; s[i] {
		case '.':
			if run > 1 {
				return false
			}
		case '_':
			if run > 2 {
				return false
			}
		case '-':
		default:
			return false
		}
		if !alnum(s[end]) { // the last byte is alphanumeric: end is in range
			return false
		}
		i = end
	}
	return true
}

func validTag(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !alnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// validDigest accepts sha256:HEX, the only algorithm that registries use.
func validDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && isHex(hex)
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }

// Repository is the full name without tag and digest.
func (r Reference) Repository() string { return r.Domain + "/" + r.Path }

// String is the full name, with nothing left out.
func (r Reference) String() string { return r.Repository() + r.suffix() }

func (r Reference) suffix() string {
	s := ""
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// FamiliarName is the repository as Docker shows it: busybox for
// docker.io/library/busybox.
func (r Reference) FamiliarName() string {
	if r.Domain != defaultDomain {
		return r.Repository()
	}
	if rest, ok := strings.CutPrefix(r.Path, officialPath); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return r.Path
}

// Familiar is the whole reference as Docker shows it.
func (r Reference) Familiar() string { return r.FamiliarName() + r.suffix() }

// file is the reference's path below refs. A digest wins over a tag, as under
// Docker: it says exactly which image is meant.
func (r Reference) file() string {
	if r.Digest != "" {
		return r.Domain + "/" + r.Path + "/@" + r.Digest
	}
	return r.Domain + "/" + r.Path + "/:" + r.Tag
}

// referenceOfFile is the inverse of file.
func referenceOfFile(path string) (Reference, bool) {
	i := strings.LastIndexByte(path, '/')
	domain, repo, ok := strings.Cut(path[:max(i, 0)], "/")
	if !ok || i+2 > len(path) {
		return Reference{}, false
	}
	r := Reference{Domain: domain, Path: repo}
	switch last := path[i+1:]; last[0] {
	case ':':
		r.Tag = last[1:]
	case '@':
		r.Digest = last[1:]
	default:
		return Reference{}, false
	}
	return r, true
}
