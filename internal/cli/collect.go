package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/collect"
	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/internal/policy/export"
)

// collectFlags are those of brig collect.
type collectFlags struct {
	a           *app
	dir, output string
	forms       []string
	every       time.Duration
	format      string
}

func newCollect(a *app) *cobra.Command {
	c := &collectFlags{a: a}
	cmd := &cobra.Command{
		Use:   "collect --dir DIR [flags]",
		Short: "Join the policies of all containers of an image on this machine",
		Long: `Join the policies that the containers of a machine left below a directory into one
for each image, which allows what any of its replicas needed, and say whether the
last ones brought anything new. Files are read if their name ends in ` + collect.Suffix + `.

With -o each policy is written to that directory, and with --to also in the forms of
other engines, as brig policy export has them. A file is replaced only if it changes.
With --every it goes on until it is interrupted. The exit code is 1 if a file could
not be read, or a policy not be exported.`,
		Example: `  brig collect --dir /var/lib/brig/policies
  brig collect --dir /var/lib/brig/policies -o merged --to spo
  brig collect --dir /var/lib/brig/policies -o merged --to kubernetes --every 30s`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.check(); err != nil {
				return err
			}
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.dir, "dir", "", "directory with policies")
	f.StringVarP(&c.output, "output", "o", "", "directory to write the joined policies to")
	f.StringSliceVar(&c.forms, "to", nil, "also write them for "+orList(export.Names()))
	f.DurationVar(&c.every, "every", 0, "do it again and again, with this pause")
	addFormat(cmd, &c.format, textOrJSON)
	cmd.MarkFlagRequired("dir")
	cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(export.Names(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *collectFlags) check() error {
	for _, form := range c.forms {
		if !slices.Contains(export.Names(), form) {
			return errors.New(unknownForm(form))
		}
	}
	switch {
	case len(c.forms) > 0 && c.output == "":
		return errors.New("--to needs a directory to write to: add -o DIR")
	case c.every < 0:
		return errors.New("--every must be more than 0")
	case c.every > 0 && c.output == "":
		return errors.New("--every needs a directory to write to: add -o DIR")
	}
	if c.output != "" {
		if inside, err := within(c.output, c.dir); err != nil || inside {
			return cmp.Or(err, fmt.Errorf("-o %s is inside of --dir %s, where the results would be collected again: name another directory", c.output, c.dir))
		}
	}
	return checkFormat(c.format, textOrJSON)
}

func unknownForm(form string) string {
	text := fmt.Sprintf("--to %q is not known; use %s", form, orList(export.Names()))
	if near := nearest.Name(form, slices.Values(export.Names())); near != "" {
		text = fmt.Sprintf("--to %q is not known; did you mean %s?", form, near)
	}
	return text
}

// within reports whether a directory, which need not exist, is dir or below it.
func within(name, dir string) (bool, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, fmt.Errorf("--dir: %w", err)
	}
	if real, err = filepath.Abs(real); err != nil {
		return false, err
	}
	if name, err = filepath.Abs(name); err != nil {
		return false, err
	}
	for at := name; ; at = filepath.Dir(at) {
		if found, err := filepath.EvalSymlinks(at); err == nil {
			name = filepath.Join(found, strings.TrimPrefix(name, at))
			break
		}
		if at == "/" {
			break
		}
	}
	rel, err := filepath.Rel(real, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../"), nil
}

func (c *collectFlags) run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer stop()
	told := map[string]bool{}
	before := ""
	for {
		// Nothing is read again of what has not changed.
		now, err := collect.State(c.dir)
		if err == nil && (now != before || c.every == 0) {
			err = c.round(told)
		}
		if c.every == 0 {
			return err
		}
		before = now
		var faulty *exitError
		if err != nil && !errors.As(err, &faulty) {
			before = "" // such as a full disk: the next round tries again
			c.warn(told, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.every):
		}
	}
}

// round joins and writes everything once. What is wrong with one file or one image
// does not keep others from it.
func (c *collectFlags) round(told map[string]bool) error {
	groups, faults, err := collect.Collect(c.dir)
	if err != nil {
		return err
	}
	if c.output != "" {
		if err := os.MkdirAll(c.output, 0o755); err != nil {
			return err
		}
		for i := range groups {
			more, err := c.write(&groups[i])
			faults = append(faults, more...)
			if err != nil {
				return err
			}
		}
	}
	for _, f := range faults {
		c.warn(told, f)
	}
	if c.every == 0 {
		if err := c.print(groups); err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return &exitError{code: 1}
	}
	return nil
}

// warn says the same only once.
func (c *collectFlags) warn(told map[string]bool, err error) {
	if !told[err.Error()] {
		fmt.Fprintln(c.a.err, "WARNING:", err)
		told[err.Error()] = true
	}
}

// write writes a policy and its exports, as far as they changed. The faults are of
// the policy, the error is of the disk.
func (c *collectFlags) write(g *collect.Group) (faults []error, err error) {
	data, err := g.Policy.Encode()
	if err != nil {
		return []error{fmt.Errorf("%s: %w", g.Name, err)}, nil
	}
	changed, err := c.replace(g.Name+collect.Suffix, data)
	if err != nil {
		return nil, err
	}
	for _, form := range c.forms {
		r, err := exported(form, g.Policy, export.Input{Name: g.Name})
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", g.Name, err))
			continue
		}
		if err := c.export(form, g.Name, r, changed); err != nil {
			return faults, err
		}
	}
	return faults, nil
}

// export writes one form of a policy into a directory of that form's name,
// since two forms have files of the same name.
func (c *collectFlags) export(form, name string, r *export.Result, tell bool) error {
	if err := os.MkdirAll(filepath.Join(c.output, form), 0o755); err != nil {
		return err
	}
	for _, f := range r.Files {
		if _, err := c.replace(filepath.Join(form, f.Name), f.Data); err != nil {
			return err
		}
	}
	for _, n := range r.Notes {
		if tell {
			fmt.Fprintln(c.a.err, "NOTE: "+name+": "+n)
		}
	}
	return nil
}

// replace writes a file unless it has that content already.
func (c *collectFlags) replace(name string, data []byte) (changed bool, err error) {
	name = filepath.Join(c.output, name)
	if have, err := os.ReadFile(name); err == nil && bytes.Equal(have, data) {
		return false, nil
	}
	err = c.a.writeResult(name, false, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err == nil {
		fmt.Fprintln(c.a.err, "written: "+name)
	}
	return true, err
}

// collected is a group as --format json has it.
type collected struct {
	Image        string   `json:"image,omitempty"`
	Name         string   `json:"name"`
	From         []string `json:"from"`
	Capabilities []string `json:"capabilities"`
	Syscalls     int      `json:"syscalls"`
	Saturation   string   `json:"saturation,omitempty"`
}

func (c *collectFlags) print(groups []collect.Group) error {
	list := make([]collected, 0, len(groups))
	for _, g := range groups {
		granted, err := g.Policy.Granted()
		if err != nil {
			return err
		}
		one := collected{Image: g.Image, Name: g.Name, From: g.From, Capabilities: []string{}, Saturation: g.Policy.Saturation()}
		for _, name := range granted.List() {
			one.Capabilities = append(one.Capabilities, name.Short())
		}
		for i := range g.Policy.Syscalls {
			if g.Policy.Syscalls[i].Allowed() {
				one.Syscalls++
			}
		}
		list = append(list, one)
	}
	if c.format == "json" {
		return printIndented(c.a.out, list)
	}
	w := tabwriter.NewWriter(c.a.out, 10, 1, 3, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tCONTAINERS\tCAPABILITIES\tSYSCALLS\tMORE TO COME")
	for _, g := range list {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\n", explain.Printable(cmp.Or(g.Image, g.From[0])), len(g.From), cmp.Or(strings.Join(g.Capabilities, " "), "none"), g.Syscalls, g.Saturation)
	}
	return w.Flush()
}
