package main

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// floor attaches programs that do nothing to the trace points of system calls:
// what the kernel itself takes for them, below which no recording at these two
// can be. It returns what detaches them.
func floor() (detach func() error, err error) {
	var links []link.Link
	detach = func() error {
		var errs []error
		for _, l := range links {
			errs = append(errs, l.Close())
		}
		return errors.Join(errs...)
	}
	for _, name := range []string{"sys_enter", "sys_exit"} {
		l, err := attachNothing(name)
		if err != nil {
			detach()
			return nil, fmt.Errorf("attach an empty program to %s: %w", name, err)
		}
		links = append(links, l)
	}
	return detach, nil
}

func attachNothing(tracepoint string) (link.Link, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: tracepoint, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return nil, err
	}
	defer p.Close() // the link holds it
	return link.AttachTracing(link.TracingOptions{Program: p})
}

// atFloor measures while these programs are attached.
func atFloor(measure func() error) error {
	detach, err := floor()
	if err != nil {
		return err
	}
	return errors.Join(measure(), detach())
}
