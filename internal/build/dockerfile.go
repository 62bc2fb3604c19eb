package build

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

func cut(s string) (name, value string, ok bool) { return strings.Cut(s, "=") }

// Images finds the names of images in a Dockerfile: in FROM, COPY --from and RUN
// --mount=from=, with the variables of the ARGs before the first FROM, for which
// arg may know other values. Names of the file's own stages and numbers are none.
// It may find too much (in a here-document), which does no harm: a name that the
// store does not have means nothing.
func Images(r io.Reader, arg func(name string) (string, bool)) ([]string, error) {
	d := &dockerfile{arg: arg, vars: map[string]string{}, escape: '\\'}
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		d.line(in.Text())
	}
	d.end()
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	return d.names, nil
}

type dockerfile struct {
	arg     func(string) (string, bool)
	vars    map[string]string
	escape  byte
	began   bool // past the parser directives
	pending string
	stages  []string // in lower case
	names   []string
}

// line takes one line of the file; an instruction may have several.
func (d *dockerfile) line(s string) {
	s = strings.TrimSpace(s)
	if comment, ok := strings.CutPrefix(s, "#"); ok {
		if key, value, ok := strings.Cut(comment, "="); ok && !d.began && strings.EqualFold(strings.TrimSpace(key), "escape") && strings.TrimSpace(value) == "`" {
			d.escape = '`'
		}
		return
	}
	d.began = true
	if s == "" {
		return
	}
	if s[len(s)-1] == d.escape {
		d.pending += s[:len(s)-1] + " "
		return
	}
	d.pending += s
	d.end()
}

func (d *dockerfile) end() {
	words := strings.Fields(d.pending)
	d.pending = ""
	if len(words) < 2 {
		return
	}
	switch strings.ToUpper(words[0]) {
	case "ARG":
		d.args(words[1:])
	case "FROM":
		d.from(words[1:])
	case "COPY", "ADD", "RUN":
		for _, w := range words[1:] {
			if !strings.HasPrefix(w, "--") {
				break
			}
			d.flag(w)
		}
	}
}

// args takes the variables for FROM: those of before the first stage.
func (d *dockerfile) args(words []string) {
	if len(d.stages) > 0 {
		return
	}
	for _, w := range words {
		name, value, _ := cut(w)
		if v, ok := d.arg(name); ok {
			d.vars[name] = v
		} else {
			d.vars[name] = d.expand(strings.Trim(value, `"'`))
		}
	}
}

func (d *dockerfile) from(words []string) {
	for len(words) > 0 && strings.HasPrefix(words[0], "--") {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	d.add(words[0])
	stage := ""
	if len(words) == 3 && strings.EqualFold(words[1], "AS") {
		stage = strings.ToLower(words[2])
	}
	d.stages = append(d.stages, stage)
}

func (d *dockerfile) flag(w string) {
	if name, ok := strings.CutPrefix(w, "--from="); ok {
		d.add(name)
	}
	if fields, ok := strings.CutPrefix(w, "--mount="); ok {
		for f := range strings.SplitSeq(fields, ",") {
			if name, ok := strings.CutPrefix(f, "from="); ok {
				d.add(name)
			}
		}
	}
}

func (d *dockerfile) add(name string) {
	name = d.expand(strings.Trim(name, `"'`))
	switch {
	case name == "" || name == "scratch" || strings.Trim(name, "0123456789") == "":
	case slices.Contains(d.stages, strings.ToLower(name)) || slices.Contains(d.names, name):
	default:
		d.names = append(d.names, name)
	}
}

// expand replaces $NAME, ${NAME}, ${NAME:-default} and ${NAME:+other}.
func (d *dockerfile) expand(s string) string {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "$")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		if inner, ok := strings.CutPrefix(rest, "{"); ok {
			body, more, closed := strings.Cut(inner, "}")
			if !closed {
				return out.String()
			}
			out.WriteString(d.braces(body))
			s = more
			continue
		}
		n := 0
		for n < len(rest) && (rest[n] == '_' || '0' <= rest[n] && rest[n] <= '9' || 'a' <= rest[n]|0x20 && rest[n]|0x20 <= 'z') {
			n++
		}
		out.WriteString(d.vars[rest[:n]])
		s = rest[n:]
	}
}

func (d *dockerfile) braces(body string) string {
	name, word, ok := strings.Cut(body, ":")
	value := d.vars[name]
	switch {
	case !ok:
	case strings.HasPrefix(word, "-") && value == "":
		return word[1:]
	case strings.HasPrefix(word, "+") && value != "":
		return word[1:]
	case strings.HasPrefix(word, "+"):
		return ""
	}
	return value
}
