package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/brig-run/brig/seccomp/bpf"
)

// kernel measures programs by kernel.c.
type kernel struct {
	binary, dir string
	files       []string
}

// add takes a program, or none, and returns its index in the results.
func (k *kernel) add(prog []bpf.Instruction) (int, error) {
	n := len(k.files)
	if prog == nil {
		k.files = append(k.files, "-")
		return n, nil
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, prog); err != nil {
		return 0, err
	}
	path := filepath.Join(k.dir, "filter-"+strconv.Itoa(n))
	k.files = append(k.files, path)
	return n, os.WriteFile(path, b.Bytes(), 0o600)
}

// loads returns the times in nanoseconds in which the kernel loaded each
// program.
func (k *kernel) loads(rounds int) ([][]float64, error) {
	all, err := k.run(1, "load", strconv.Itoa(rounds))
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// measuredCalls are those of kernel.c, in its order: allowed by its number,
// allowed by its argument, refused by its argument (AF_VSOCK).
var measuredCalls = []struct {
	name string
	arg0 uint64
}{{"getppid", 0}, {"personality", 0xffffffff}, {"socket", 40}}

// calls returns the nanoseconds per call: by the call and the program.
func (k *kernel) calls(rounds, count int) ([][][]float64, error) {
	all, err := k.run(len(measuredCalls), "call", strconv.Itoa(rounds), strconv.Itoa(count))
	for _, call := range all {
		for _, samples := range call {
			for i := range samples {
				samples[i] /= float64(count)
			}
		}
	}
	return all, err
}

// run starts kernel.c and returns what it printed: columns by programs.
func (k *kernel) run(columns int, args ...string) ([][][]float64, error) {
	cmd := exec.Command(k.binary, append(args, k.files...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.binary, err)
	}
	all := make([][][]float64, columns)
	for c := range all {
		all[c] = make([][]float64, len(k.files))
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.Fields(line)
		if len(f) != columns+1 {
			return nil, fmt.Errorf("%s printed %q", k.binary, line)
		}
		which, err := strconv.Atoi(f[0])
		if err != nil || which >= len(k.files) {
			return nil, fmt.Errorf("%s printed %q", k.binary, line)
		}
		for c, text := range f[1:] {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, err
			}
			all[c][which] = append(all[c][which], v)
		}
	}
	return all, nil
}
