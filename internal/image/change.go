package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Change applies an instruction of a Dockerfile, as docker import --change
// takes it, to a configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL,
// STOPSIGNAL, USER, VOLUME or WORKDIR.
func Change(c *v1.ImageConfig, instruction string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(instruction), " ")
	rest = strings.TrimSpace(rest)
	if err := change(c, strings.ToUpper(word), rest); err != nil {
		return fmt.Errorf("change %q: %w", instruction, err)
	}
	return nil
}

func change(c *v1.ImageConfig, word, rest string) (err error) {
	if rest == "" && word != "CMD" && word != "ENTRYPOINT" {
		return fmt.Errorf("%s needs a value", word)
	}
	switch word {
	case "CMD":
		c.Cmd, err = commandLine(rest)
	case "ENTRYPOINT":
		c.Entrypoint, err = commandLine(rest)
	case "ENV":
		err = pairs(rest, func(k, v string) { setEnv(c, k, v) })
	case "LABEL":
		err = pairs(rest, func(k, v string) {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[k] = v
		})
	case "EXPOSE":
		err = expose(c, rest)
	case "VOLUME":
		err = volumes(c, rest)
	case "USER":
		c.User = rest
	case "WORKDIR":
		if !strings.HasPrefix(rest, "/") {
			rest = strings.TrimSuffix(c.WorkingDir, "/") + "/" + rest
		}
		c.WorkingDir = rest
	case "STOPSIGNAL":
		c.StopSignal = rest
	default:
		return errors.New("unknown instruction; use CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR")
	}
	return err
}

// commandLine reads a JSON array, or a line for the shell.
func commandLine(s string) ([]string, error) {
	if !strings.HasPrefix(s, "[") {
		if s == "" {
			return nil, nil
		}
		return []string{"/bin/sh", "-c", s}, nil
	}
	var words []string
	if err := json.Unmarshal([]byte(s), &words); err != nil {
		return nil, fmt.Errorf("not a JSON array of strings: %w", err)
	}
	return words, nil
}

// list reads a JSON array or words.
func list(s string) ([]string, error) {
	if strings.HasPrefix(s, "[") {
		return commandLine(s)
	}
	return words(s)
}

// pairs reads KEY=VALUE pairs, or the old form "KEY VALUE" of a single one.
func pairs(s string, set func(k, v string)) error {
	if first, value, ok := strings.Cut(s, " "); ok && !strings.Contains(first, "=") {
		set(first, strings.TrimSpace(value))
		return nil
	}
	list, err := words(s)
	if err != nil {
		return err
	}
	for _, w := range list {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return fmt.Errorf("%q: want KEY=VALUE", w)
		}
		set(k, v)
	}
	return nil
}

// words splits at space, except where it is quoted or escaped.
func words(s string) ([]string, error) {
	var list []string
	var word strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			if i++; i == len(s) {
				return nil, errors.New("it ends in a backslash")
			}
			word.WriteByte(s[i])
			in = true
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, in = c, true
		case c == ' ' || c == '\t':
			if in {
				list = append(list, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if in {
		list = append(list, word.String())
	}
	return list, nil
}

func setEnv(c *v1.ImageConfig, k, v string) {
	for i, e := range c.Env {
		if name, _, _ := strings.Cut(e, "="); name == k {
			c.Env[i] = k + "=" + v
			return
		}
	}
	c.Env = append(c.Env, k+"="+v)
}

func expose(c *v1.ImageConfig, s string) error {
	for _, p := range strings.Fields(s) {
		port, proto, ok := strings.Cut(p, "/")
		if !ok {
			proto = "tcp"
		}
		proto = strings.ToLower(proto)
		if !validPorts(port) || proto != "tcp" && proto != "udp" && proto != "sctp" {
			return fmt.Errorf("port %q: want a number from 1 to 65535, with /tcp, /udp, /sctp or nothing", p)
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		c.ExposedPorts[port+"/"+proto] = struct{}{}
	}
	return nil
}

// validPorts accepts a port or a range of them.
func validPorts(s string) bool {
	from, to, isRange := strings.Cut(s, "-")
	a, ok := portNumber(from)
	if !ok || !isRange {
		return ok
	}
	b, ok := portNumber(to)
	return ok && a <= b
}

func portNumber(s string) (int, bool) {
	if s == "" || len(s) > 5 || !digits(s) {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		n = 10*n + int(c-'0')
	}
	return n, n > 0 && n < 65536
}

func volumes(c *v1.ImageConfig, s string) error {
	paths, err := list(s)
	if err != nil {
		return err
	}
	for _, p := range paths {
		if p == "" {
			return errors.New("a volume's path is empty")
		}
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[p] = struct{}{}
	}
	return nil
}
