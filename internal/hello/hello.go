// Package hello is the program of the starter image brig/hello: it prints what
// the container that it runs in may do.
//
// It owns the reading of a process's own privileges, from /proc, and the search
// for the system calls that a seccomp filter blocks, which executes none of
// them. It knows nothing of how containers are made: it looks at the kernel's
// answers alone, so it tells the truth in any engine's container.
package hello

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/brig-run/brig/capability"
)

// HostNamespacesVar names the variable in which an engine may tell the host's
// namespaces, as "pid=4026531836,net=...": their numbers are no secret.
const HostNamespacesVar = "BRIG_HOST_NAMESPACES"

// Report is what the program found. Its JSON is the output of --format json.
type Report struct {
	UID             int             `json:"uid"`
	GID             int             `json:"gid"`
	Capabilities    capability.Sets `json:"capabilities"`
	NoNewPrivileges bool            `json:"noNewPrivileges"`
	Seccomp         Seccomp         `json:"seccomp"`
	Namespaces      []Namespace     `json:"namespaces"`
}

// Seccomp is the state of system call filtering, proc_pid_status(5).
type Seccomp struct {
	Mode    int `json:"mode"` // 0 off, 1 strict, 2 filter
	Filters int `json:"filters"`
	// Probed is how many system calls were tried; Error says why none were.
	Probed  int       `json:"probed"`
	Error   string    `json:"error,omitempty"`
	Blocked []Blocked `json:"blocked"`
}

// Blocked is a system call that the filter does not let through.
type Blocked struct {
	Name string `json:"name"`
	// Use says with which arguments, where others are let through.
	Use    string `json:"use,omitempty"`
	Answer string `json:"answer"` // EPERM, ENOSYS, ..., or "killed"
}

// Namespace compares one namespace with the host's.
type Namespace struct {
	Name string `json:"name"`
	ID   uint64 `json:"id"`
	// Host is "own", "host", or "unknown" without HostNamespacesVar.
	Host string `json:"host"`
}

// Main runs the program and gives its exit code.
func Main(args []string, out io.Writer) int {
	if len(args) > 0 && args[0] == probeArg {
		return probeMain(args[1:])
	}
	f := flag.NewFlagSet("hello", flag.ContinueOnError)
	format := f.String("format", "text", "text or json")
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // flag has said why
	case f.NArg() > 0 || *format != "text" && *format != "json":
		fmt.Fprintln(os.Stderr, "usage: brig run brig/hello [--format text|json]")
		return 2
	}
	r, err := Look()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		return 1
	}
	if *format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.print(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		return 1
	}
	return 0
}

// Look finds out what this process may do.
func Look() (*Report, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	r := &Report{UID: os.Getuid(), GID: os.Getgid()}
	if r.Capabilities, err = capability.ParseStatus(status); err != nil {
		return nil, err
	}
	r.NoNewPrivileges = number(status, "NoNewPrivs") == 1
	r.Seccomp = Seccomp{Mode: number(status, "Seccomp"), Filters: number(status, "Seccomp_filters"), Blocked: []Blocked{}}
	r.Namespaces = namespaces(os.Getenv(HostNamespacesVar))
	r.Seccomp.probe()
	return r, nil
}

// number reads a field of /proc/self/status.
func number(status []byte, field string) int {
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return 0
}

// namespaces compares this process's with those that the engine told.
func namespaces(told string) []Namespace {
	host := map[string]string{}
	for _, p := range strings.Split(told, ",") {
		if name, id, ok := strings.Cut(p, "="); ok {
			host[name] = id
		}
	}
	var list []Namespace
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		link, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			continue // a kernel without it
		}
		id := strings.TrimSuffix(link[strings.IndexByte(link, '[')+1:], "]")
		n := Namespace{Name: name, Host: "unknown"}
		n.ID, _ = strconv.ParseUint(id, 10, 64)
		switch host[name] {
		case "":
		case id:
			n.Host = "host"
		default:
			n.Host = "own"
		}
		list = append(list, n)
	}
	return list
}
