package spec

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/brig-run/brig/internal/volume"
)

// minMemory is the least that Docker lets a container have.
const minMemory = 6 << 20

// Validate checks options against each other, by the rules of Docker. Build
// does it too; a caller that stores options does it first, so that nothing is
// stored that could not start.
func (o *Options) Validate() error {
	for _, check := range [...]func() error{
		o.checkModes, o.checkUserns, o.checkNetwork, o.checkMounts, o.checkMemory, o.checkCPU, o.checkSysctls, o.checkValues, o.checkLifecycle,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkModes reads the modes once more, because Options may come from a file,
// and refuses combinations that cannot mean anything.
func (o *Options) checkModes() error {
	if _, err := ParsePID(string(o.PID)); err != nil {
		return err
	}
	if _, err := ParseIPC(string(o.IPC)); err != nil {
		return err
	}
	if _, err := ParseUTS(string(o.UTS)); err != nil {
		return err
	}
	if _, err := ParseCgroupns(string(o.Cgroupns)); err != nil {
		return err
	}
	switch {
	case o.UTS.Host() && o.Hostname != "":
		return fmt.Errorf("conflicting options: --hostname and --uts host; drop one of them")
	case o.UTS.Host() && o.Domainname != "":
		return fmt.Errorf("conflicting options: --domainname and --uts host; drop one of them")
	case o.ShmSize != 0 && o.IPC.Host():
		return fmt.Errorf("conflicting options: --shm-size and --ipc host; drop one of them")
	case o.ShmSize < 0:
		return fmt.Errorf("--shm-size %d: must be above 0", o.ShmSize)
	case o.CapAmbient && len(o.CapAdd) == 0:
		return fmt.Errorf("--cap-ambient gives a user what --cap-add names; add --cap-add NAME")
	}
	return nil
}

// checkMounts refuses two mounts at one place.
func (o *Options) checkMounts() error {
	for i, m := range o.Mounts {
		switch {
		case m.Type != MountBind && m.Type != MountTmpfs && m.Type != MountVolume:
			return fmt.Errorf("mount at %q: type %q is not supported; use volume, bind or tmpfs", m.Target, m.Type)
		case len(m.Target) < 2 || m.Target[0] != '/':
			return fmt.Errorf("mount at %q: the target must be an absolute path below /", m.Target)
		case m.Type == MountBind && !strings.HasPrefix(m.Source, "/"):
			return fmt.Errorf("mount at %q: the source %q must be an absolute path", m.Target, m.Source)
		case m.Type == MountVolume && m.Source == "" && !m.Volume.Anonymous:
			return fmt.Errorf("mount at %q: the volume has no name", m.Target)
		case m.Type == MountVolume && m.Source != "" && volume.CheckName(m.Source) != nil:
			return fmt.Errorf("mount at %q: %w", m.Target, volume.CheckName(m.Source))
		case m.Volume.Subpath != "" && !filepath.IsLocal(m.Volume.Subpath):
			return fmt.Errorf("mount at %q: volume-subpath %q leads out of the volume", m.Target, m.Volume.Subpath)
		case m.Propagation != "" && !isPropagation(m.Propagation):
			return fmt.Errorf("mount at %q: %s", m.Target, unknown("propagation", m.Propagation, []string{"rprivate", "rslave", "rshared"}))
		case slices.ContainsFunc(o.Mounts[:i], func(p Mount) bool { return p.Target == m.Target }):
			return fmt.Errorf("duplicate mount point: %s; name each target once", m.Target)
		}
	}
	return nil
}

func (o *Options) checkMemory() error {
	switch {
	case o.Memory < 0 || o.MemoryReservation < 0 || o.MemorySwap < -1:
		return fmt.Errorf("memory limits must be 0 or above")
	case o.Memory > 0 && o.Memory < minMemory:
		return fmt.Errorf("--memory %d: the minimum memory limit allowed is 6MB", o.Memory)
	case o.MemorySwap != 0 && o.MemorySwap != -1 && o.Memory == 0:
		return fmt.Errorf("--memory-swap needs --memory, because it counts memory and swap together")
	case o.MemorySwap > 0 && o.MemorySwap < o.Memory:
		return fmt.Errorf("--memory-swap %d: counts memory and swap together, so it cannot be below --memory %d", o.MemorySwap, o.Memory)
	case o.MemoryReservation > 0 && o.MemoryReservation < minMemory:
		return fmt.Errorf("--memory-reservation %d: the minimum memory reservation allowed is 6MB", o.MemoryReservation)
	case o.MemorySwappiness != nil && (*o.MemorySwappiness < 0 || *o.MemorySwappiness > 100):
		return fmt.Errorf("--memory-swappiness %d: must be from 0 to 100", *o.MemorySwappiness)
	case o.BlkioWeight != 0 && (o.BlkioWeight < 10 || o.BlkioWeight > 1000):
		return fmt.Errorf("--blkio-weight %d: must be from 10 to 1000", o.BlkioWeight)
	case o.Memory > 0 && o.MemoryReservation > o.Memory:
		return fmt.Errorf("--memory-reservation %d: cannot be above --memory %d", o.MemoryReservation, o.Memory)
	}
	return nil
}

func (o *Options) checkCPU() error {
	if o.NanoCPUs < 0 || o.NanoCPUs > 0 && o.NanoCPUs < 1e7 {
		return fmt.Errorf("--cpus %g: the least is 0.01", float64(o.NanoCPUs)/1e9)
	}
	if o.NanoCPUs > 0 && (o.CPUPeriod != 0 || o.CPUQuota != 0) {
		return fmt.Errorf("conflicting options: --cpus and --cpu-period or --cpu-quota say the same; drop one of them")
	}
	if p := o.CPUPeriod; p != 0 && (p < 1000 || p > 1000000) {
		return fmt.Errorf("--cpu-period %d: CPU CFS period must be from 1000 (1ms) to 1000000 (1s)", p)
	}
	if q := o.CPUQuota; q > 0 && q < 1000 {
		return fmt.Errorf("--cpu-quota %d: CPU CFS quota cannot be less than 1000 (1ms)", q)
	}
	if o.CPUShares < 0 {
		return fmt.Errorf("--cpu-shares %d: must be 0 or above", o.CPUShares)
	}
	if _, err := ParseCPUSet("--cpuset-cpus", o.CPUSetCPUs); err != nil {
		return err
	}
	_, err := ParseCPUSet("--cpuset-mems", o.CPUSetMems)
	return err
}

// checkSysctls refuses a sysctl of a namespace that the container does not
// have: it would change the host, or another container.
func (o *Options) checkSysctls() error {
	for name, val := range o.Sysctls {
		if _, _, err := ParseSysctl(name + "=" + val); err != nil {
			return err
		}
		switch ns := sysctlNamespace(name); {
		case ns == "net" && !o.Network.Own():
			return badValue("--sysctl", name, "would change the host, because of --network host; drop one of them")
		case ns == "net" && o.Network.Container() != "":
			return badValue("--sysctl", name, "would change another container, because of --network %s; give it to that one", o.Network)
		case ns == "ipc" && o.IPC.Host():
			return badValue("--sysctl", name, "would change the host, because of --ipc host; drop one of them")
		}
	}
	return nil
}

func (o *Options) checkValues() error {
	if o.Hostname != "" {
		if _, err := ParseHostname(o.Hostname); err != nil {
			return err
		}
	}
	if o.StopSignal != "" {
		if _, err := ParseStopSignal(o.StopSignal); err != nil {
			return err
		}
	}
	if _, err := ParseOOMScoreAdj(strconv.Itoa(o.OOMScoreAdj)); err != nil {
		return err
	}
	for i, u := range o.Ulimits {
		if slices.ContainsFunc(o.Ulimits[:i], func(p Ulimit) bool { return p.Name == u.Name }) {
			return fmt.Errorf("--ulimit %s: given twice; keep one", u.Name)
		}
	}
	return nil
}
