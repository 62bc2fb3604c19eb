package export

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/brig-run/brig/internal/policy"
)

// readYAML reads the little of YAML that the exports may use, and nothing
// else: block mappings and lists indented by two spaces, lists on one line,
// strings in double quotes with JSON's escapes, plain words, numbers, booleans and
// lines of comment.
func readYAML(t *testing.T, data []byte) any {
	t.Helper()
	y := &yamlReader{}
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		text := strings.TrimLeft(line, " ")
		if strings.HasPrefix(text, "#") {
			continue
		}
		if text == "" || strings.TrimSpace(text) != text {
			t.Fatalf("line %d is empty or has blanks at its end: %q", i+1, line)
		}
		y.lines = append(y.lines, yamlLine{len(line) - len(text), text})
	}
	v, err := y.block(0)
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	if y.at < len(y.lines) {
		t.Fatalf("%q is not part of the document", y.lines[y.at].text)
	}
	return v
}

type yamlLine struct {
	indent int
	text   string
}

type yamlReader struct {
	lines []yamlLine
	at    int
}

func (y *yamlReader) block(indent int) (any, error) {
	if y.at == len(y.lines) || y.lines[y.at].indent != indent {
		return nil, fmt.Errorf("nothing of indentation %d", indent)
	}
	if strings.HasPrefix(y.lines[y.at].text, "- ") {
		return y.list(indent)
	}
	m := map[string]any{}
	for y.at < len(y.lines) && y.lines[y.at].indent == indent && !strings.HasPrefix(y.lines[y.at].text, "- ") {
		key, rest, ok := strings.Cut(y.lines[y.at].text, ":")
		name, err := yamlScalar(key)
		if !ok || err != nil || m[fmt.Sprint(name)] != nil {
			return nil, fmt.Errorf("no key of a mapping, or one that was there before: %q", y.lines[y.at].text)
		}
		y.at++
		var v any
		switch {
		case rest != "" && rest[0] != ' ':
			return nil, fmt.Errorf("no blank after %q", key)
		case rest != "":
			v, err = yamlValue(rest[1:])
		case y.at < len(y.lines) && y.lines[y.at].indent == indent && strings.HasPrefix(y.lines[y.at].text, "- "):
			v, err = y.list(indent)
		default:
			v, err = y.block(indent + 2)
		}
		if err != nil {
			return nil, err
		}
		m[fmt.Sprint(name)] = v
	}
	return m, nil
}

func (y *yamlReader) list(indent int) (any, error) {
	var list []any
	for y.at < len(y.lines) && y.lines[y.at].indent == indent && strings.HasPrefix(y.lines[y.at].text, "- ") {
		item := strings.TrimPrefix(y.lines[y.at].text, "- ")
		var v any
		var err error
		if key, _, ok := strings.Cut(item, ":"); ok && !strings.HasPrefix(item, `"`) && !strings.Contains(key, " ") {
			y.lines[y.at] = yamlLine{indent + 2, item}
			v, err = y.block(indent + 2)
		} else {
			y.at++
			v, err = yamlValue(item)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func yamlValue(text string) (any, error) {
	if !strings.HasPrefix(text, "[") {
		return yamlScalar(text)
	}
	var list []string // strings in quotes on one line are JSON
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	out := []any{}
	for _, s := range list {
		out = append(out, s)
	}
	return out, nil
}

func yamlScalar(text string) (any, error) {
	if strings.HasPrefix(text, `"`) {
		var s string
		err := json.Unmarshal([]byte(text), &s)
		return s, err
	}
	for _, r := range text {
		if !(r == '_' || r == '-' || r == '.' || r == '/' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return nil, fmt.Errorf("plain word %q has %q", text, r)
		}
	}
	switch strings.ToLower(text) {
	case "", "-", "~", "null", "yes", "no", "on", "off", "y", "n":
		return nil, fmt.Errorf("plain word %q means something else in YAML", text)
	case "true", "false":
		return text == "true", nil
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n, nil
	}
	if text[0] >= '0' && text[0] <= '9' || text[0] == '-' || text[0] == '.' {
		return nil, fmt.Errorf("plain word %q may be a number", text)
	}
	return text, nil
}

// at follows keys and indexes.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok || m[p] == nil {
				t.Fatalf("no %q of %v in %v", p, path, v)
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				t.Fatalf("no [%d] of %v in %v", p, path, v)
			}
			v = l[p]
		}
	}
	return v
}

// Texts that a policy may bring along come through YAML as they are, whatever
// they have.
func TestYAMLText(t *testing.T) {
	hostile := []string{`a"b`, `a\b`, "a: b", "- a", "#no", "line\nbreak", "tab\t", "\x7f\u0085", "$HOME ${X}", "é☃", "\U0001F600", "", "yes", "007", "*a", "{{.}}", "a'b", "\u2028"}
	in := nginx()
	in.Policy.Image = &policy.Image{Reference: "x/y:1\ninjected: true"}
	in.Policy.Command = hostile
	in.Policy.User = "o\"dd\nservices:"
	res := export(t, "compose", in)
	service := at(t, readYAML(t, res.Files[0].Data), "services", "nginx")
	list, _ := at(t, service, "command").([]any)
	if len(list) != len(hostile) {
		t.Fatalf("%d words, want %d", len(list), len(hostile))
	}
	for i, w := range hostile {
		if got := strings.ReplaceAll(list[i].(string), "$$", "$"); got != w {
			t.Errorf("%q, want %q", got, w)
		}
	}
	if got := at(t, service, "user"); got != in.Policy.User {
		t.Errorf("user %q, want %q", got, in.Policy.User)
	}
	for _, format := range []string{"kubernetes", "spo"} {
		readYAML(t, export(t, format, in).Files[0].Data)
	}
}

func TestKubernetes(t *testing.T) {
	in := nginx()
	in.Policy.User = "101:102"
	res := export(t, "kubernetes", in)
	context := at(t, readYAML(t, res.Files[0].Data), "securityContext")
	for _, c := range []struct {
		path []any
		want string
	}{
		{[]any{"runAsUser"}, "101"},
		{[]any{"runAsGroup"}, "102"},
		{[]any{"capabilities", "drop"}, "[ALL]"},
		{[]any{"capabilities", "add"}, "[CHOWN SETGID SETUID NET_BIND_SERVICE]"},
		{[]any{"seccompProfile", "type"}, "Localhost"},
		{[]any{"seccompProfile", "localhostProfile"}, "profiles/" + res.Files[1].Name},
	} {
		if got := fmt.Sprint(at(t, context, c.path...)); got != c.want {
			t.Errorf("%v is %s, want %s", c.path, got, c.want)
		}
	}
	if context.(map[string]any)["allowPrivilegeEscalation"] != nil {
		t.Error("allowPrivilegeEscalation is set, though nobody knows")
	}
	in.NoNewPrivileges = true
	if at(t, readYAML(t, export(t, "kubernetes", in).Files[0].Data), "securityContext", "allowPrivilegeEscalation") != false {
		t.Error("allowPrivilegeEscalation is not false")
	}
	in.Policy.User = "www-data"
	if notes := strings.Join(export(t, "kubernetes", in).Notes, "\n"); !strings.Contains(notes, "set runAsUser to that of www-data") {
		t.Errorf("no note on the user in\n%s", notes)
	}
}

// The standards of Kubernetes that admit a pod.
func TestPodSecurityStandards(t *testing.T) {
	for _, c := range []struct{ caps, want string }{
		{"NET_BIND_SERVICE", ""},
		{"CHOWN,NET_BIND_SERVICE", `"baseline" admits the pod, and "restricted" does not, because of CAP_CHOWN`},
		{"CHOWN,NET_RAW,SYS_TIME", `"privileged" admit the pod, because of CAP_NET_RAW,CAP_SYS_TIME`},
	} {
		in := nginx()
		in.Capabilities = parseCaps(t, c.caps)
		notes := strings.Join(export(t, "kubernetes", in).Notes, "\n")
		if c.want == "" && strings.Contains(notes, "Standard") || !strings.Contains(notes, c.want) {
			t.Errorf("%s: want %q in\n%s", c.caps, c.want, notes)
		}
	}
}
