package cli

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/inspect"
)

// disasmOptions are the flags of brig seccomp disasm.
type disasmOptions struct {
	target targetFlags
	format string
	raw    bool
}

func newSeccompDisasm(a *app) *cobra.Command {
	o := &disasmOptions{}
	cmd := &cobra.Command{
		Use:   "disasm [flags] FILE|PID|CONTAINER",
		Short: "Print a filter as text, from a file or from a running process",
		Long: `Print a filter as text, with the names of architectures, system calls and
actions. FILE is an array of struct sock_filter, as "brig seccomp compile" writes
it; "-" is standard input. A number is a process, a name that is no file a
container, of which the main process is shown. All filters that the process runs
under are printed, the newest first.

Filters of processes are read with ptrace(2), which stops the process for a
moment. That needs root, outside of containers and without a filter of one's own.`,
		Example: `  brig seccomp disasm filter.bpf
  brig seccomp compile default | brig seccomp disasm -
  brig seccomp disasm 1234
  brig seccomp disasm web
  brig seccomp disasm --arch s390x --raw s390x.bpf`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.seccompDisasm(args[0], o) },
	}
	o.target.registerArch(cmd)
	cmd.Flags().BoolVar(&o.raw, "raw", false, "print indexes instead of labels, and no names")
	addFormat(cmd, &o.format, textOrJSON)
	cmd.ValidArgsFunction = func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		names, _ := a.completeContainers(engine.StatusRunning)(c, args, prefix)
		return names, cobra.ShellCompDirectiveDefault // and files
	}
	return cmd
}

// textOrJSON are the values of --format of commands that print text for people.
var textOrJSON = []string{"text", "json"}

// disassembled is one filter in the JSON of brig seccomp disasm.
type disassembled struct {
	Flags        []string           `json:"flags"` // as far as the kernel tells: LOG
	Invalid      string             `json:"invalid,omitempty"`
	Instructions []disassembledLine `json:"instructions"`
}

type disassembledLine struct {
	Index   int    `json:"index"`
	Label   string `json:"label,omitempty"`
	Text    string `json:"text"`
	Comment string `json:"comment,omitempty"`
	rawInstruction
}

func (a *app) seccompDisasm(name string, o *disasmOptions) error {
	if err := checkFormat(o.format, textOrJSON); err != nil {
		return err
	}
	t, err := o.target.target()
	if err != nil {
		return err
	}
	filters, bad := a.filters(name, t.Arch)
	if bad != nil && filters == nil {
		return bad
	}
	if o.format == "json" {
		err = printIndented(a.out, disassembleAll(filters, t.Arch, o.raw, bad))
	} else {
		err = a.printFilters(filters, t.Arch, o.raw)
	}
	return errors.Join(err, bad)
}

// filters reads the filters that an argument names. A file that is no valid
// filter gives both what can be read of it and an error.
func (a *app) filters(name string, arch seccomp.Arch) ([]inspect.Live, error) {
	var prog []bpf.Instruction
	var err error
	if name == "-" {
		prog, err = a.readFilter(name, arch)
	} else if pid, e := strconv.Atoi(name); e == nil {
		return processFilters("process "+name, pid)
	} else if prog, err = inspect.LoadFilter(name, arch); errors.Is(err, os.ErrNotExist) && !strings.Contains(name, "/") && os.Geteuid() == 0 {
		return a.containerFilters(name)
	}
	if prog == nil {
		return nil, err
	}
	return []inspect.Live{{Program: prog}}, err
}

func processFilters(what string, pid int) ([]inspect.Live, error) {
	filters, err := inspect.OfThread(pid)
	if err == nil && len(filters) == 0 {
		err = fmt.Errorf("%s has no seccomp filter", what)
	}
	return filters, err
}

// containerFilters reads the filters of a container's main process.
func (a *app) containerFilters(name string) ([]inspect.Live, error) {
	c, err := a.container(name)
	var missing *engine.NotFoundError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("there is no file and no container %q", name)
	}
	if err != nil {
		return nil, err
	}
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if s.Status != engine.StatusRunning {
		return nil, fmt.Errorf("container %s is not running", name)
	}
	return processFilters("container "+name, s.PID)
}

// printFilters prints the filters one after another.
func (a *app) printFilters(filters []inspect.Live, arch seccomp.Arch, raw bool) error {
	for i, f := range filters {
		if len(filters) > 1 {
			fmt.Fprintf(a.out, "; filter %d of %d, %s; %d instructions\n", i+1, len(filters), age(i, len(filters)), len(f.Program))
		}
		for _, name := range f.Flags.All() {
			fmt.Fprintf(a.out, "; loaded with %s\n", name)
		}
		if _, err := io.WriteString(a.out, filterStyle(f.Program, arch, raw).Format(f.Program)); err != nil {
			return err
		}
	}
	return nil
}

// age says which filter of n the one with an index is.
func age(i, n int) string {
	switch i {
	case 0:
		return "the newest"
	case n - 1:
		return "the oldest"
	}
	return "older"
}

func filterStyle(prog []bpf.Instruction, arch seccomp.Arch, raw bool) bpf.Style {
	if raw {
		return bpf.Style{BigEndian: seccomp.ByteOrder(arch) == binary.BigEndian}
	}
	return inspect.Disassemble(prog, arch)
}

func disassembleAll(filters []inspect.Live, arch seccomp.Arch, raw bool, bad error) []disassembled {
	list := make([]disassembled, 0, len(filters))
	for _, f := range filters {
		d := disassembled{Flags: f.Flags.All(), Instructions: []disassembledLine{}}
		if bad != nil {
			d.Invalid = bad.Error()
		}
		raws := rawInstructions(f.Program)
		for pc, line := range filterStyle(f.Program, arch, raw).Lines(f.Program) {
			d.Instructions = append(d.Instructions, disassembledLine{pc, line.Label, line.Text, line.Comment, raws[pc]})
		}
		list = append(list, d)
	}
	return list
}
