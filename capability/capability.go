// Package capability names the Linux capabilities, does arithmetic on sets of
// them, applies Docker's rules for adding and dropping, and reads the five
// sets of a process.
//
// It knows no container and changes no process: callers that apply sets do so
// with their own system calls. See capabilities(7) for the rules of the kernel
// and include/uapi/linux/capability.h for the numbers.
package capability

import (
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/brig-run/brig/internal/nearest"
)

// Cap is a capability by its kernel number, 0 to 63.
type Cap uint8

// The capabilities of Linux 5.9 and later, by kernel number.
const (
	CHOWN Cap = iota
	DAC_OVERRIDE
	DAC_READ_SEARCH
	FOWNER
	FSETID
	KILL
	SETGID
	SETUID
	SETPCAP
	LINUX_IMMUTABLE
	NET_BIND_SERVICE
	NET_BROADCAST
	NET_ADMIN
	NET_RAW
	IPC_LOCK
	IPC_OWNER
	SYS_MODULE
	SYS_RAWIO
	SYS_CHROOT
	SYS_PTRACE
	SYS_PACCT
	SYS_ADMIN
	SYS_BOOT
	SYS_NICE
	SYS_RESOURCE
	SYS_TIME
	SYS_TTY_CONFIG
	MKNOD
	LEASE
	AUDIT_WRITE
	AUDIT_CONTROL
	SETFCAP
	MAC_OVERRIDE
	MAC_ADMIN
	SYSLOG
	WAKE_ALARM
	BLOCK_SUSPEND
	AUDIT_READ
	PERFMON
	BPF
	CHECKPOINT_RESTORE

	known = iota // how many the table names
)

// table names and describes each capability; the index is the kernel number.
var table = [known]struct{ short, allows string }{
	CHOWN:              {"CHOWN", "Give any file to any user and group."},
	DAC_OVERRIDE:       {"DAC_OVERRIDE", "Read, write and execute files whatever their permission bits say."},
	DAC_READ_SEARCH:    {"DAC_READ_SEARCH", "Read every file and search every directory whatever the permission bits say, and open files by handle."},
	FOWNER:             {"FOWNER", "Do to any file what only its owner may: change its mode, times, flags and ACLs, and delete from sticky directories."},
	FSETID:             {"FSETID", "Keep the set-user-ID and set-group-ID bits when a file changes, and set the latter for a group one is not in."},
	KILL:               {"KILL", "Send a signal to a process of any user."},
	SETGID:             {"SETGID", "Become any group, choose the supplementary groups, and map groups into a user namespace."},
	SETUID:             {"SETUID", "Become any user, and map users into a user namespace."},
	SETPCAP:            {"SETPCAP", "Drop from the bounding set, add bounded capabilities to the inheritable set, and change the secure bits."},
	LINUX_IMMUTABLE:    {"LINUX_IMMUTABLE", "Set and clear the immutable and append-only flags of files."},
	NET_BIND_SERVICE:   {"NET_BIND_SERVICE", "Listen on the reserved network ports, those below 1024."},
	NET_BROADCAST:      {"NET_BROADCAST", "Nothing today: the kernel reserves it for broadcasts and never checks it."},
	NET_ADMIN:          {"NET_ADMIN", "Configure the network: interfaces, addresses, routes, firewall, traffic control and network settings."},
	NET_RAW:            {"NET_RAW", "Open raw and packet sockets, and bind to addresses that are not one's own."},
	IPC_LOCK:           {"IPC_LOCK", "Lock any amount of memory so that it is never swapped out, and use huge pages."},
	IPC_OWNER:          {"IPC_OWNER", "Use System V message queues, semaphores and shared memory whatever their permissions say."},
	SYS_MODULE:         {"SYS_MODULE", "Load and unload kernel modules, and so become the kernel."},
	SYS_RAWIO:          {"SYS_RAWIO", "Reach hardware directly: I/O ports, physical memory and raw device commands."},
	SYS_CHROOT:         {"SYS_CHROOT", "Change the root directory, and enter another mount namespace."},
	SYS_PTRACE:         {"SYS_PTRACE", "Trace any process, and read and write its memory."},
	SYS_PACCT:          {"SYS_PACCT", "Turn the accounting of processes on and off."},
	SYS_ADMIN:          {"SYS_ADMIN", "Administer nearly everything: mounts, namespaces, quotas, host names, swap and much more; close to full root."},
	SYS_BOOT:           {"SYS_BOOT", "Reboot the machine and load another kernel."},
	SYS_NICE:           {"SYS_NICE", "Raise priorities, choose real-time scheduling, and set CPU and memory placement of any process."},
	SYS_RESOURCE:       {"SYS_RESOURCE", "Exceed resource limits, quotas and the reserved space of file systems."},
	SYS_TIME:           {"SYS_TIME", "Set the system clock and the hardware clock."},
	SYS_TTY_CONFIG:     {"SYS_TTY_CONFIG", "Configure virtual terminals, and hang up a terminal."},
	MKNOD:              {"MKNOD", "Create device files."},
	LEASE:              {"LEASE", "Take a lease on any file, to be told before others open it."},
	AUDIT_WRITE:        {"AUDIT_WRITE", "Write records to the kernel's audit log."},
	AUDIT_CONTROL:      {"AUDIT_CONTROL", "Turn auditing on and off, and change its rules."},
	SETFCAP:            {"SETFCAP", "Attach capabilities to any file, and map user 0 into a user namespace."},
	MAC_OVERRIDE:       {"MAC_OVERRIDE", "Bypass mandatory access control where the security module (Smack) asks for it."},
	MAC_ADMIN:          {"MAC_ADMIN", "Change the mandatory access control configuration of a security module."},
	SYSLOG:             {"SYSLOG", "Read and clear the kernel log, and see kernel addresses."},
	WAKE_ALARM:         {"WAKE_ALARM", "Set timers that wake the machine from sleep."},
	BLOCK_SUSPEND:      {"BLOCK_SUSPEND", "Keep the machine from going to sleep."},
	AUDIT_READ:         {"AUDIT_READ", "Read the audit log over netlink multicast."},
	PERFMON:            {"PERFMON", "Observe the whole system with performance counters and tracing programs."},
	BPF:                {"BPF", "Load BPF programs and create BPF maps."},
	CHECKPOINT_RESTORE: {"CHECKPOINT_RESTORE", "Checkpoint and restore processes: choose PIDs and read other processes' map files."},
}

// maxCap is the highest number that the kernel's 64-bit sets can hold.
const maxCap = 63

// Short returns the name without its prefix, such as "CHOWN". A capability
// newer than the table is named by its number, such as "41".
func (c Cap) Short() string {
	if c < known {
		return table[c].short
	}
	return strconv.Itoa(int(c))
}

// String returns the full name, such as "CAP_CHOWN". A capability newer than
// the table is named by its number, such as "CAP_41".
func (c Cap) String() string { return "CAP_" + c.Short() }

// Allows returns one sentence that says what the capability permits, or "" for
// a capability newer than the table.
func (c Cap) Allows() string {
	if c < known {
		return table[c].allows
	}
	return ""
}

// MarshalText writes the full name.
func (c Cap) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a name as [Parse] does.
func (c *Cap) UnmarshalText(text []byte) (err error) {
	*c, err = Parse(string(text))
	return err
}

// Parse returns the capability that name names, in any case and with or
// without the prefix CAP_. The form CAP_n that String gives capabilities newer
// than the table is understood too. Any other name is an error that suggests
// the nearest known one.
func Parse(name string) (Cap, error) {
	short := strings.ToUpper(name)
	short = strings.TrimPrefix(short, "CAP_")
	if short == "" {
		return 0, fmt.Errorf("empty capability name")
	}
	for i := range table {
		if table[i].short == short {
			return Cap(i), nil
		}
	}
	if c, ok := newer(name); ok {
		return c, nil
	}
	if near := nearest.Name(short, shortNames()); near != "" {
		return 0, fmt.Errorf("unknown capability %q; did you mean %s?", name, near)
	}
	return 0, fmt.Errorf("unknown capability %q", name)
}

// newer reads the exact form CAP_n for a number above the table.
func newer(name string) (Cap, bool) {
	if len(name) != len("CAP_41") || !strings.EqualFold(name[:4], "CAP_") {
		return 0, false
	}
	n, err := strconv.ParseUint(name[4:], 10, 8)
	return Cap(n), err == nil && n >= known && n <= maxCap
}

func shortNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range table {
			if !yield(table[i].short) {
				return
			}
		}
	}
}
