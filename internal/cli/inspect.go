package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
)

func newInspect(a *app) *cobra.Command {
	var format, kind string
	var size bool
	cmd := &cobra.Command{
		Use:   "inspect [flags] NAME|ID [NAME|ID...]",
		Short: "Print all that is known of containers or images, as JSON",
		Example: `  brig inspect web
  brig inspect --format '{{.State.Status}} {{.State.ExitCode}}' web
  brig inspect --type image debian`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if kind != "" && kind != "container" && kind != "image" {
				return fmt.Errorf("--type %q: use container or image", kind)
			}
			return a.inspect(args, kind, format, size)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&format, "format", "f", "", "json, or a Go template such as '{{.State.Pid}}'")
	f.StringVar(&kind, "type", "", "container or image (default: whichever there is)")
	f.BoolVarP(&size, "size", "s", false, "also the sizes of containers' files")
	return cmd
}

func (a *app) inspect(names []string, kind, format string, size bool) error {
	found := []any{} // not null, as Docker has it
	failed := false
	for _, n := range names {
		v, err := a.inspectOne(n, kind, size)
		if err != nil {
			failed = true
			fmt.Fprintf(a.err, "brig: %s\n", err)
			continue
		}
		found = append(found, v)
	}
	if err := a.printInspected(found, format); err != nil {
		return err
	}
	if failed {
		return &exitError{code: 1}
	}
	return nil
}

func (a *app) inspectOne(name, kind string, size bool) (any, error) {
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	var missing *engine.NotFoundError
	// What has one of these characters can only be an image's name, but for
	// the slash that Docker puts before a container's.
	if kind == "container" || kind == "" && !strings.ContainsAny(name[min(1, len(name)):], ":/@") {
		c, err := e.Find(name)
		if err == nil {
			return inspectContainer(c, size)
		}
		if !errors.As(err, &missing) || kind == "container" {
			return nil, err
		}
	}
	images, err := e.Images()
	if err != nil {
		return nil, err
	}
	v, err := images.Inspect(name)
	if err != nil && kind == "" {
		return nil, fmt.Errorf("no such object: %s", name)
	}
	return v, err
}

func inspectContainer(c *engine.Container, size bool) (any, error) {
	i, err := c.Inspect()
	if err != nil || !size {
		return i, err
	}
	rw, err := c.Size()
	if err != nil {
		return nil, err
	}
	all := rw + c.ImageSize()
	i.SizeRw, i.SizeRootFs = &rw, &all
	return i, nil
}

func (a *app) printInspected(found []any, format string) error {
	if format == "" {
		return printIndented(a.out, found)
	}
	if format == "json" {
		b, err := json.Marshal(found)
		if err == nil {
			_, err = fmt.Fprintf(a.out, "%s\n", b)
		}
		return err
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, v := range found {
		var out bytes.Buffer
		if err := t.Execute(&out, v); err != nil {
			// Templates may use the JSON's names, too: {{.Id}} for {{.ID}}.
			out.Reset()
			if executeRaw(t, &out, v) != nil {
				return templateError(err)
			}
		}
		fmt.Fprintln(&out)
		if _, err := out.WriteTo(a.out); err != nil {
			return err
		}
	}
	return nil
}

// executeRaw executes a template on a value's JSON form.
func executeRaw(t *template.Template, w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // a large number stays as it is written
	var raw any
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	return t.Execute(w, raw)
}

func newTop(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top CONTAINER [PS OPTIONS]",
		Short: "List the processes of a container",
		Example: `  brig top web
  brig top web -o pid,user,comm`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			return c.Top(args[1:], a.out)
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}
