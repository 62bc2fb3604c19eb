package export

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// maxName bounds a name, as an object of Kubernetes and a file bound it.
const maxName = 63

// nameOf returns the name of files and objects. Kubernetes is the strictest:
// a label of DNS (RFC 1123).
func nameOf(in *Input) (string, error) {
	name := in.Name
	if name == "" {
		name = CleanName(defaultName(in))
	}
	if name != CleanName(name) {
		return "", fmt.Errorf("name %q: use at most %d lower-case letters, digits and \"-\", such as %q", name, maxName, CleanName(name))
	}
	return name, nil
}

func defaultName(in *Input) string {
	if in.Policy.Name != "" {
		return in.Policy.Name
	}
	if in.Policy.Image == nil {
		return ""
	}
	ref, _, _ := strings.Cut(in.Policy.Image.Reference, "@")
	ref = ref[strings.LastIndexByte(ref, '/')+1:]
	ref, _, _ = strings.Cut(ref, ":")
	return ref
}

// CleanName makes a name for files and objects of any text: lower-case letters,
// digits and "-", at most 63 of them (RFC 1123).
func CleanName(text string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, text)
	name = strings.Trim(name, "-")
	if len(name) > maxName {
		name = strings.TrimRight(name[:maxName], "-")
	}
	if name == "" {
		return "policy"
	}
	return name
}

// user is what of a policy's user other engines understand.
type user struct {
	text     string
	numeric  bool // uid and, if there is one, gid are numbers
	uid, gid string
}

// user returns the user that the policy was learned for, if it was noted.
func (x *exporter) user() (u user, known bool) {
	u.text = x.in.Policy.User
	var group bool
	u.uid, u.gid, group = strings.Cut(u.text, ":")
	u.numeric = number(u.uid) && (!group || number(u.gid))
	return u, u.text != ""
}

func number(text string) bool {
	_, err := strconv.ParseUint(text, 10, 31)
	return err == nil && text[0] != '+'
}

// root reports whether the user is known to be root.
func (u user) root() bool { return u.uid == "root" || u.uid == "0" }

// shellWord quotes a word for sh(1).
func shellWord(word string) string {
	safe := func(r rune) bool {
		return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:=@,+%", r))
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !safe(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// ShellWords writes a command as one types it into sh(1).
func ShellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

// yamlString quotes text as a YAML string in double quotes, in which JSON's
// escapes hold (YAML 1.2, section 7.3.1). What YAML does not take as it is
// (section 5.1, c-printable) is escaped.
func yamlString(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// yamlList writes a list of strings on one line.
func yamlList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = yamlString(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// printable makes text fit for one line of comment.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}
