package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Brig runs Brig's commands.
type Brig struct {
	Exe  string
	Root string // of the store; "" for the default
	Out  io.Writer
	Err  io.Writer // progress, and what commands complain of

	mu sync.Mutex // one line at a time
}

// commandError is a command of Brig that failed, with what it said.
type commandError struct {
	code int
	text string
}

func (e *commandError) Error() string { return e.text }

func (b *Brig) command(ctx context.Context, args []string) *exec.Cmd {
	if b.Root != "" {
		args = append([]string{"--root", b.Root}, args...)
	}
	return exec.CommandContext(ctx, b.Exe, args...)
}

// output runs a command and returns what it printed.
func (b *Brig) output(ctx context.Context, args ...string) (string, error) {
	cmd := b.command(ctx, args)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(errs.String()), "brig: "))
		if text == "" {
			text = fmt.Sprintf("brig %s: %v", args[0], err)
		}
		return out.String(), &commandError{exit.ExitCode(), text}
	case err != nil:
		return "", fmt.Errorf("run brig: %w", err)
	}
	return out.String(), nil
}

// told says what became of a thing, a line each.
func (b *Brig) told(kind, name, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(b.Err, " %s %s  %s\n", kind, name, what)
}

// container is what inspect says of one.
type container struct {
	ID    string `json:"Id"`
	Name  string
	State struct {
		Status   string
		Running  bool
		ExitCode int
		Health   *struct{ Status string }
	}
	Config struct {
		Image  string
		Labels map[string]string
	}
}

func (c *container) name() string    { return strings.TrimPrefix(c.Name, "/") }
func (c *container) service() string { return c.Config.Labels[labelService] }
func (c *container) number() int {
	n, _ := strconv.Atoi(c.Config.Labels[labelNumber])
	return n
}

// containers returns those of a project, by service and number.
func (b *Brig) containers(ctx context.Context, project string) ([]*container, error) {
	ids, err := b.output(ctx, "ps", "-aq", "--no-trunc", "--filter", "label="+labelProject+"="+project)
	if err != nil {
		return nil, err
	}
	list, err := b.inspect(ctx, strings.Fields(ids)...)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b *container) int {
		if c := strings.Compare(a.service(), b.service()); c != 0 {
			return c
		}
		return a.number() - b.number()
	})
	return list, nil
}

// inspect leaves out those that are gone by now.
func (b *Brig) inspect(ctx context.Context, ids ...string) (list []*container, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	out, err := b.output(ctx, append([]string{"inspect"}, ids...)...)
	var failed *commandError
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("read what brig inspect says: %w", err)
	}
	return list, nil
}

// exists says whether an object of a kind, such as network, has that name.
func (b *Brig) exists(ctx context.Context, kind, name string) bool {
	_, err := b.output(ctx, kind, "inspect", name)
	return err == nil
}
