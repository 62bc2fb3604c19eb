package report

import (
	"slices"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
)

// notableCall is a call that the default profile lets through, or may, and that
// a reader should know about when a policy keeps or loses it.
type notableCall struct{ name, reason string }

// notables are in the order of the names.
var notables = [...]notableCall{
	{"adjtimex", "Reads the clock's discipline; with SYS_TIME it steers the clock of the host."},
	{"chroot", "Changes the root directory; with SYS_CHROOT it is the classic way out of a badly built jail."},
	{"clone", "Starts processes; with namespace flags it would open kernel code that is otherwise for root only."},
	{"execveat", "Runs a file by descriptor, also one that has no path, such as code that lives in memory only."},
	{"fanotify_mark", "Marks file systems for watching; its partner fanotify_init decides who may."},
	{"fork", "Starts processes; without it, clone and vfork, an intruder must do all in one process."},
	{"get_robust_list", "Reads an address from another process, which helps to defeat randomization."},
	{"io_setup", "Opens the old asynchronous I/O, which few programs use and which has had its share of kernel bugs."},
	{"io_submit", "Hands work to the old asynchronous I/O; see io_setup."},
	{"map_shadow_stack", "Makes pages for shadow stacks, which only runtimes with hardware control-flow checks need."},
	{"memfd_create", "Makes a file in memory, from which code can run without ever touching a disk."},
	{"memfd_secret", "Makes memory that not even the kernel maps, so that nobody can inspect it."},
	{"mknod", "Makes device files, which reach hardware if the device cgroup has a gap."},
	{"mknodat", "Makes device files, which reach hardware if the device cgroup has a gap."},
	{"modify_ldt", "Writes segment descriptors for 16- and 32-bit code, the cause of several escalations to root."},
	{"mq_open", "Opens message queues of the kernel, which few programs use."},
	{"name_to_handle_at", "Names files without their path: half of the shocker escape of 2014."},
	{"pidfd_open", "Gets a lasting handle on another process."},
	{"pkey_mprotect", "Changes the protection of memory, so that data can become code."},
	{"process_mrelease", "Frees the memory of a process that is dying."},
	{"process_vm_readv", "Reads another process's memory: keys, tokens, passwords."},
	{"process_vm_writev", "Writes into another process's memory, which is running code as that process."},
	{"ptrace", "Controls another process wholly: its memory, registers and system calls."},
	{"remap_file_pages", "Rearranges mapped pages; replaced long ago, with a history of bugs."},
	{"renameat2", "Renames files; with a flag it makes the whiteouts of overlay file systems."},
	{"rt_sigqueueinfo", "Sends signals with forged details."},
	{"rt_tgsigqueueinfo", "Sends signals with forged details to one thread."},
	{"seccomp", "Loads filters; notification filters let a process answer the calls of others."},
	{"setfsgid", "Changes the group for file access alone, which nothing modern needs."},
	{"setfsuid", "Changes the user for file access alone, which nothing modern needs."},
	{"shmat", "Attaches System V shared memory, which outlives its processes."},
	{"shmget", "Makes System V shared memory, which outlives its processes."},
	{"splice", "Moves pages between files and pipes: the way of Dirty Pipe (2022)."},
	{"tee", "Duplicates pages of pipes, next of kin to splice."},
	{"vmsplice", "Puts pages of a process into a pipe, where they can still be changed."},
}

// reasonFor returns in a sentence why a call is worth a reader's attention, or
// "". The default profile lets some arguments of socket and personality through,
// and every program needs those.
func reasonFor(name string) string {
	i, ok := slices.BinarySearchFunc(notables[:], name, func(n notableCall, name string) int { return strings.Compare(n.name, name) })
	if ok {
		return notables[i].reason
	}
	return seccomp.BlockReason(name)
}

// everyday reports whether a call with a reason is in nearly every program, so
// that keeping it says nothing.
func everyday(name string) bool {
	switch name {
	case "clone", "clone3", "fork", "socket", "arch_prctl", "renameat2", "get_robust_list":
		return true
	}
	return false
}

// powerful has capabilities with which a container can take over its host, in
// the order of their numbers.
func powerful() capability.Set {
	return capability.Of(capability.DAC_READ_SEARCH, capability.SYS_MODULE, capability.SYS_RAWIO, capability.SYS_PTRACE,
		capability.SYS_ADMIN, capability.SYS_BOOT, capability.MAC_ADMIN, capability.BPF)
}
