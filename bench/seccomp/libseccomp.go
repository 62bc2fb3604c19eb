package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
)

// libseccomp starts a program that compiles with the C library, and stays.
func libseccomp(j *job, binary, kind string) (*compiler, error) {
	cmd := exec.Command(binary, kind)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &compiler{limits: "no ENOSYS for newer calls", close: func() { in.Close(); cmd.Wait() }}
	r := bufio.NewReader(out)
	if _, err := io.WriteString(in, j.libseccompText()); err != nil {
		c.close()
		return nil, fmt.Errorf("%s: %w", binary, err)
	}
	version, err := r.ReadString('\n')
	if err != nil {
		c.close()
		return nil, fmt.Errorf("%s: %w", binary, err)
	}
	c.name = "libseccomp " + strings.TrimSpace(version) + " " + kind
	c.compile = func() ([]bpf.Instruction, time.Duration, error) {
		prog, took, err := compileOnce(in, r)
		if err != nil {
			err = fmt.Errorf("%s: %w", c.name, err)
		}
		return prog, took, err
	}
	return c, nil
}

// libseccompText is the policy in the form that libseccomp.c reads.
func (j *job) libseccompText() string {
	var w strings.Builder
	fmt.Fprintf(&w, "policy %x\n", uint32(j.deny))
	names := map[seccomp.Arch]string{seccomp.I386: "x86", seccomp.X32: "x32"}
	for i := range j.policy.Archs {
		if name := names[j.policy.Archs[i].Arch]; name != "" {
			fmt.Fprintf(&w, "arch %s\n", name)
		}
	}
	for _, r := range j.rules {
		fmt.Fprintf(&w, "rule %x %s %d", uint32(r.action), r.name, len(r.args))
		for _, c := range r.args {
			fmt.Fprintf(&w, " %d %d %d %d", c.Index, c.Op+1, c.Value, c.ValueTwo)
		}
		fmt.Fprintln(&w)
	}
	fmt.Fprintln(&w, "end")
	return w.String()
}

func compileOnce(in io.Writer, r *bufio.Reader) ([]bpf.Instruction, time.Duration, error) {
	if _, err := io.WriteString(in, "\n"); err != nil {
		return nil, 0, err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, 0, err
	}
	var took time.Duration
	var size int
	if _, err := fmt.Sscan(line, &took, &size); err != nil {
		return nil, 0, err
	}
	if size%8 != 0 || size > 8*bpf.MaxLen {
		return nil, 0, errors.New("no program")
	}
	prog := make([]bpf.Instruction, size/8)
	return prog, took, binary.Read(r, binary.LittleEndian, prog)
}
