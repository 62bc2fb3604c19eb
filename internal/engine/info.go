package engine

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/seccomp"
)

// Info is what a machine and its store have, with Docker's field names where
// Docker has the field.
type Info struct {
	Containers            int
	ContainersRunning     int
	ContainersPaused      int
	ContainersStopped     int
	Images                int
	Networks              int // that users have made
	ServerVersion         string
	Driver                string
	LoggingDriver         string
	CgroupMode            string
	SecurityOptions       []string
	CapabilitiesKnown     int
	CapabilitiesGrantable int
	CapabilitiesDefault   int
	SeccompActions        []string
	KernelVersion         string
	OperatingSystem       string
	OSType                string
	Architecture          string
	NCPU                  int
	MemTotal              int64 // bytes
	Name                  string
	BrigRootDir           string
	Warnings              []string
}

// Info tells about this machine and store.
func (e *Engine) Info() (*Info, error) {
	i := &Info{
		ServerVersion: Version(), Driver: "overlay", LoggingDriver: "json-file", CgroupMode: cgroup.Mode(),
		SecurityOptions: []string{"capabilities", "seccomp,profile=builtin"}, CapabilitiesKnown: capability.Kernel().Len(),
		CapabilitiesGrantable: e.host().Capabilities.Len(), CapabilitiesDefault: capability.Default().Len(),
		OSType: runtime.GOOS, OperatingSystem: osName(), NCPU: runtime.NumCPU(), BrigRootDir: e.Root,
	}
	list, err := e.List()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		s, err := c.State()
		if err != nil {
			continue
		}
		i.Containers++
		switch {
		case s.Status == StatusPaused:
			i.ContainersPaused++
		case s.Up() || s.Status == StatusRestarting:
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	images, err := e.Images()
	if err != nil {
		return nil, err
	}
	all, err := images.List()
	if err != nil {
		return nil, err
	}
	i.Images = len(all)
	if err := e.networkInfo(i); err != nil {
		return nil, err
	}
	i.machine()
	if s, err := seccomp.Supported(); err == nil {
		for _, a := range s.Actions {
			i.SeccompActions = append(i.SeccompActions, strings.TrimSuffix(a.String(), "(0)"))
		}
	}
	if missing := capability.Kernel().Minus(e.host().Capabilities); !missing.Empty() {
		i.Warnings = append(i.Warnings, "this machine cannot grant "+strings.Join(missing.Names(), ", "))
	}
	return i, nil
}

func (i *Info) machine() {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		i.KernelVersion, i.Architecture = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	}
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		i.MemTotal = int64(si.Totalram) * int64(si.Unit)
	}
	i.Name, _ = os.Hostname()
}

// osName is PRETTY_NAME of os-release(5).
func osName() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return runtime.GOOS
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return runtime.GOOS
}
