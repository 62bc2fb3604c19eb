package hello

import (
	"fmt"
	"io"
	"strings"

	"github.com/brig-run/brig/capability"
)

// width is where lines are broken.
const width = 78

// print writes the report for people.
func (r *Report) print(out io.Writer) error {
	p := &printer{w: out}
	p.line("Hello from a container. This is what it may do.")
	p.line("")
	p.line("Capabilities")
	c := r.Capabilities
	for _, s := range []struct {
		name string
		set  capability.Set
	}{{"bounding", c.Bounding}, {"permitted", c.Permitted}, {"effective", c.Effective}, {"inheritable", c.Inheritable}, {"ambient", c.Ambient}} {
		names := make([]string, 0, s.set.Len())
		for _, n := range s.set.List() {
			names = append(names, n.Short())
		}
		if len(names) == 0 {
			names = []string{"none"}
		}
		p.list(fmt.Sprintf("  %-12s%3d  ", s.name, s.set.Len()), names)
	}
	p.line("")
	p.line("Process")
	p.line("  user        uid %d, gid %d", r.UID, r.GID)
	p.line("  new privileges by set-user-ID programs: %s", map[bool]string{true: "no (no_new_privs is set)", false: "possible"}[r.NoNewPrivileges])
	p.line("")
	p.line("Namespaces")
	for _, kind := range []struct{ host, title string }{{"own", "its own"}, {"host", "the host's"}, {"unknown", "unknown"}} {
		var names []string
		for _, n := range r.Namespaces {
			if n.Host == kind.host {
				names = append(names, n.Name)
			}
		}
		if len(names) > 0 {
			p.list(fmt.Sprintf("  %-12s", kind.title), names)
		}
	}
	p.line("")
	r.Seccomp.print(p)
	p.line("")
	p.line("Next: brig run --rm --cap-drop ALL brig/hello")
	p.line("      brig run --rm --security-opt seccomp=unconfined brig/hello")
	p.line("      brig capabilities")
	return p.err
}

func (s *Seccomp) print(p *printer) {
	mode := map[int]string{0: "off", 1: "strict", 2: "filter"}[s.Mode]
	p.line("Seccomp")
	p.line("  mode %d (%s), %d filter%s", s.Mode, mode, s.Filters, map[bool]string{true: "", false: "s"}[s.Filters == 1])
	if s.Error != "" {
		p.line("  the blocked system calls cannot be found: %s", s.Error)
		return
	}
	var whole, uses []string
	for _, b := range s.Blocked {
		name := b.Name
		if b.Answer != "EPERM" {
			name += " [" + b.Answer + "]"
		}
		if b.Use == "" {
			whole = append(whole, name)
		} else {
			uses = append(uses, b.Name+"("+b.Use+")")
		}
	}
	p.line("  %d of %d system calls are blocked%s", len(whole), s.Probed, map[bool]string{true: ".", false: ":"}[len(whole) == 0])
	if len(whole) > 0 {
		p.list("    ", whole)
	}
	if len(uses) > 0 {
		p.line("  and some uses of others:")
		p.list("    ", uses)
	}
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if _, err := fmt.Fprintf(p.w, format+"\n", args...); p.err == nil {
		p.err = err
	}
}

// list prints words behind a title, further lines below the first word.
func (p *printer) list(title string, words []string) {
	line := title
	for i, w := range words {
		if i > 0 && len(line)+1+len(w) > width {
			p.line("%s", line)
			line = strings.Repeat(" ", len(title))
		} else if i > 0 {
			line += " "
		}
		line += w
	}
	p.line("%s", line)
}
