package engine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/cgroup"
)

// Stats is what a container has used up to a moment.
type Stats struct {
	Read        time.Time
	CPU         time.Duration // of all processors
	Memory      uint64        // bytes, without pages that can go at once
	MemoryLimit uint64        // bytes; the machine's if there is none
	NetReceived uint64        // bytes
	NetSent     uint64
	BlockRead   uint64 // bytes
	BlockWrite  uint64
	Pids        uint64
}

// Stats reads what a container that is up has used.
func (c *Container) Stats(s *State) (*Stats, error) {
	g, err := cgroup.Load(s.Cgroups, cgroup.Options{})
	if err != nil {
		return nil, err
	}
	u, err := g.Stats()
	if err != nil {
		return nil, err
	}
	out := &Stats{Read: time.Now(), CPU: time.Duration(u.CPU.Usage.Total), Pids: u.Pids.Current, Memory: u.Memory.Usage.Usage, MemoryLimit: u.Memory.Usage.Limit}
	// As Docker counts: inactive file pages are a cache that goes when memory is
	// needed (total_inactive_file on v1, inactive_file on v2).
	for _, key := range []string{"total_inactive_file", "inactive_file"} {
		if cache, ok := u.Memory.Raw[key]; ok && cache < out.Memory {
			out.Memory -= cache
			break
		}
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		if total := uint64(info.Totalram) * uint64(info.Unit); out.MemoryLimit == 0 || out.MemoryLimit > total {
			out.MemoryLimit = total
		}
	}
	for _, e := range u.Blkio.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			out.BlockRead += e.Value
		case "write":
			out.BlockWrite += e.Value
		}
	}
	if c.Options.Network.Own() {
		out.NetReceived, out.NetSent = traffic(s.PID)
	}
	return out, nil
}

// traffic is what the interfaces of a process's network namespace, but for the
// loopback, have received and sent, proc_pid_net(5).
func traffic(pid int) (received, sent uint64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, figures, ok := strings.Cut(line, ":")
		f := strings.Fields(figures)
		if !ok || len(f) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		r, _ := strconv.ParseUint(f[0], 10, 64)
		s, _ := strconv.ParseUint(f[8], 10, 64)
		received, sent = received+r, sent+s
	}
	return received, sent
}
