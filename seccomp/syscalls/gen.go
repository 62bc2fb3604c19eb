//go:build ignore

// Gen writes tables.go: the names of all system calls that Linux has on any
// architecture, and the numbers of those of x86-64, i386, x32, arm and arm64.
// With an argument it writes to that file.
//
// Numbers come from the zsysnum files of golang.org/x/sys/unix, which are made
// from the kernel's headers. That package has no x32, so its numbers are
// derived here from the rules of arch/x86/entry/syscalls/syscall_64.tbl. The
// private calls of arm are from arch/arm/include/uapi/asm/unistd.h.
// Names come from all zsysnum files and from moby's default profile.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	moby "github.com/moby/profiles/seccomp"
)

// x32Own are the calls that have an entry of their own on x32, because their
// arguments hold pointers or longs of 32 bits. The kernel gave them the
// numbers 512 to 547, in this order, and gives no further ones: every call
// that came later is common to both ABIs.
var x32Own = strings.Fields(`
	rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg
	execve ptrace rt_sigpending rt_sigtimedwait rt_sigqueueinfo sigaltstack
	timer_create mq_notify kexec_load waitid set_robust_list get_robust_list
	vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg
	process_vm_readv process_vm_writev setsockopt getsockopt io_setup io_submit
	execveat preadv2 pwritev2`)

// x32None are the calls of x86-64 that x32 does not have at all.
var x32None = strings.Fields(`
	uselib _sysctl create_module get_kernel_syms query_module nfsservctl
	set_thread_area get_thread_area epoll_ctl_old epoll_wait_old vserver
	uretprobe uprobe map_shadow_stack`)

// noCalls are names of the zsysnum files that are no system calls: the start
// of a range of numbers, and a mask.
var noCalls = strings.Fields(`arch_specific_syscall syscall_mask`)

// more are names of system calls that exist or existed somewhere and that
// neither source has. Profiles in the field name them.
var more = strings.Fields(`
	arm_sync_file_range multiplexer oldwait4
	pciconfig_iobase pciconfig_read pciconfig_write spu_create spu_run
	sys_debug_setcontext subpage_prot rtas switch_endian swapcontext
	s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write
	s390_runtime_instr s390_sthyi sysmips riscv_flush_icache riscv_hwprobe
	arm_fadvise64_64 sync_file_range2 cachectl timerfd setup bdflush idle
	memory_ordering kern_features utrap_install perfctr getpagesize
	uprobe uretprobe afs_syscall security tuxcall putpmsg getpmsg`)

// armOwn are arm's private calls, whose numbers start at 0x0f0001. They stand
// in its table from armSlot on.
var armOwn = strings.Fields(`breakpoint cacheflush usr26 usr32 set_tls get_tls`)

const armSlot = 512

// arches names the tables, in the order of type Arch.
var arches = [...]string{"x86_64", "i386", "x32", "arm", "aarch64"}

const tables = len(arches)

func main() {
	log.SetFlags(0)
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		log.Fatalf("find golang.org/x/sys: %v", err)
	}
	unix := filepath.Join(strings.TrimSpace(string(dir)), "unix")
	amd64 := read(filepath.Join(unix, "zsysnum_linux_amd64.go"))
	numbers := [tables]map[string]int{
		amd64, read(filepath.Join(unix, "zsysnum_linux_386.go")), x32(amd64),
		arm(read(filepath.Join(unix, "zsysnum_linux_arm.go"))), read(filepath.Join(unix, "zsysnum_linux_arm64.go")),
	}
	out := "tables.go"
	if len(os.Args) > 1 {
		out = os.Args[1]
	}
	write(out, names(unix), numbers)
}

var line = regexp.MustCompile(`(?m)^\tSYS_([A-Z0-9_]+)\s*=\s*(\d+)$`)

// read returns the numbers in one zsysnum file by their names.
func read(path string) map[string]int {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	numbers := map[string]int{}
	for _, m := range line.FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(m[2]))
		if err != nil {
			log.Fatalf("%s: %v", path, err)
		}
		if name := strings.ToLower(string(m[1])); !slices.Contains(noCalls, name) {
			numbers[name] = n
		}
	}
	if len(numbers) < 250 {
		log.Fatalf("%s: only %d system calls", path, len(numbers))
	}
	return numbers
}

// x32 derives the x32 table, without the bit that marks its numbers.
func x32(amd64 map[string]int) map[string]int {
	numbers := map[string]int{}
	for name, n := range amd64 {
		if !slices.Contains(x32None, name) {
			numbers[name] = n
		}
	}
	for i, name := range x32Own {
		if _, ok := amd64[name]; !ok {
			log.Fatalf("x32: %s is not in the table of x86-64", name)
		}
		numbers[name] = 512 + i
	}
	return numbers
}

// arm adds the private calls to the table of arm.
func arm(numbers map[string]int) map[string]int {
	for name, n := range numbers {
		if n >= armSlot {
			log.Fatalf("arm: %s has number %d; raise armSlot", name, n)
		}
	}
	for i, name := range armOwn {
		numbers[name] = armSlot + i
	}
	return numbers
}

// names returns the sorted names of the system calls of all architectures.
func names(unix string) []string {
	files, err := filepath.Glob(filepath.Join(unix, "zsysnum_linux_*.go"))
	if err != nil || len(files) < 10 {
		log.Fatalf("found only %d zsysnum files: %v", len(files), err)
	}
	all := slices.Concat(more, armOwn)
	for _, f := range files {
		for name := range read(f) {
			all = append(all, name)
		}
	}
	for _, call := range moby.DefaultProfile().Syscalls {
		all = append(all, call.Names...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func write(out string, names []string, numbers [tables]map[string]int) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code generated by gen.go from golang.org/x/sys/unix; DO NOT EDIT.\n\npackage syscalls\n\n")
	fmt.Fprintf(&b, "// names are the system calls of all Linux architectures, sorted.\nvar names = [...]string{\n")
	for _, name := range names {
		fmt.Fprintf(&b, "%q,\n", name)
	}
	fmt.Fprintf(&b, "}\n\n// numbers has, for each of names, its place in the table of each\n// architecture, or -1.\nvar numbers = [len(names)][tables]int16{\n")
	var high [tables]int
	for _, name := range names {
		var row [tables]string
		for t := range tables {
			row[t] = "-1"
			if n, ok := numbers[t][name]; ok {
				row[t] = strconv.Itoa(n)
				high[t] = max(high[t], n)
			}
		}
		fmt.Fprintf(&b, "{%s}, // %s\n", strings.Join(row[:], ", "), name)
	}
	fmt.Fprintf(&b, "}\n")
	for t, table := range arches {
		byNumber := make([]int, high[t]+1)
		for i, name := range names {
			if n, ok := numbers[t][name]; ok {
				byNumber[n] = i + 1
			}
		}
		fmt.Fprintf(&b, "\n// %s has, for each place, one more than the index in names, or 0.\nvar %s = [...]uint16{", table, table)
		for i, n := range byNumber {
			if i%16 == 0 {
				fmt.Fprintf(&b, "\n")
			}
			fmt.Fprintf(&b, "%d, ", n)
		}
		fmt.Fprintf(&b, "\n}\n")
	}
	text, err := format.Source(b.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(out, text, 0o644); err != nil {
		log.Fatal(err)
	}
}
