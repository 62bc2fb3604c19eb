//go:build ignore

// Gen writes tables.go: the names of all system calls that Linux has on any
// architecture, and their numbers and arguments on those that have tables. With
// an argument it writes to that file. With -trace it writes argtypes.txt
// instead, from the running kernel.
//
// Numbers come from the zsysnum files of golang.org/x/sys/unix, which are made
// from the kernel's headers. That package lacks three ABIs, whose numbers are
// derived here from the rules of the kernel's tables: x32 (syscall_64.tbl of
// arch/x86/entry/syscalls), MIPS N32 (arch/mips/kernel/syscalls/
// syscall_n32.tbl) and s390 of 31 bits (arch/s390/kernel/syscalls/syscall.tbl
// before Linux 6.19). The private calls of arm are from
// arch/arm/include/uapi/asm/unistd.h. Names come from all zsysnum files and
// from moby's default profile, and arguments from argtypes.txt and entries.txt.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"maps"
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

// noCall matches names of the zsysnum files that are no system calls: the start
// of a range of numbers, a mask, and gaps in the table of MIPS.
var noCall = regexp.MustCompile(`^(arch_specific_syscall|syscall_mask|(reserved|unused)[0-9]+)$`)

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

// n32Own are the calls that MIPS N32 has and the 64-bit ABI lacks, before the
// ones for 64-bit times. getdents64 came to both, at different times.
var n32Own = map[string]int{"fcntl64": 212, "statfs64": 217, "fstatfs64": 218, "sendfile64": 219, "getdents64": 299}

// s390Own are the calls of 31-bit s390 that s390x lacks. Those for user and
// group ids of 32 bits have the numbers of s390x's calls without the "32".
var s390Own = map[string]int{
	"time": 13, "lchown": 16, "setuid": 23, "getuid": 24, "stime": 25, "setgid": 46, "getgid": 47,
	"geteuid": 49, "getegid": 50, "setreuid": 70, "setregid": 71, "getrlimit": 76, "getgroups": 80,
	"setgroups": 81, "fchown": 95, "ioperm": 101, "setfsuid": 138, "setfsgid": 139, "_llseek": 140,
	"_newselect": 142, "setresuid": 164, "getresuid": 165, "setresgid": 170, "getresgid": 171,
	"chown": 182, "ugetrlimit": 191, "mmap2": 192, "truncate64": 193, "ftruncate64": 194, "stat64": 195,
	"lstat64": 196, "fstat64": 197, "fcntl64": 221, "sendfile64": 223, "fadvise64_64": 264, "fstatat64": 293,
}

// s390None are the calls of s390x that 31-bit s390 lacks or, like the last, that
// came after its end.
var s390None = strings.Fields(`select newfstatat semtimedop rseq_slice_yield`)

// maxSlots is MaxSlots of syscalls.go.
const maxSlots = 576

// arches names the tables, in the order of type table.
var arches = [...]string{
	"x86_64", "i386", "x32", "arm", "aarch64", "loongarch64", "mips", "mips64",
	"mips64n32", "ppc", "ppc64", "riscv64", "s390", "s390x",
}

const tables = len(arches)

func main() {
	log.SetFlags(0)
	if len(os.Args) > 1 && os.Args[1] == "-trace" {
		readTracefs()
		return
	}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		log.Fatalf("find golang.org/x/sys: %v", err)
	}
	unix := filepath.Join(strings.TrimSpace(string(dir)), "unix")
	load := func(goarch string, base int) map[string]int {
		return read(filepath.Join(unix, "zsysnum_linux_"+goarch+".go"), base)
	}
	amd64, i386, mips64, s390x := load("amd64", 0), load("386", 0), load("mips64", 5000), load("s390x", 0)
	slots := [tables]map[string]int{
		amd64, i386, x32(amd64), arm(load("arm", 0)), load("arm64", 0), load("loong64", 0),
		load("mips", 4000), mips64, n32(mips64, i386), load("ppc", 0), load("ppc64", 0), load("riscv64", 0),
		s390(s390x, i386), s390x,
	}
	for _, twins := range [][2]string{{"mips", "mipsle"}, {"mips64", "mips64le"}, {"ppc64", "ppc64le"}} {
		if !maps.Equal(load(twins[0], 0), load(twins[1], 0)) {
			log.Fatalf("%s and %s differ", twins[0], twins[1])
		}
	}
	out := "tables.go"
	if len(os.Args) > 1 {
		out = os.Args[1]
	}
	write(out, names(unix), slots)
}

var line = regexp.MustCompile(`(?m)^\tSYS_([A-Z0-9_]+)\s*=\s*(\d+)$`)

// read returns the numbers in one zsysnum file, less base, by their names.
func read(path string, base int) map[string]int {
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
		if name := strings.ToLower(string(m[1])); !noCall.MatchString(name) {
			numbers[name] = n - base
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

// n32 derives the table of MIPS N32. Up to readahead it is that of the 64-bit
// ABI; then numbers are higher by the calls of its own that precede them.
func n32(mips64, i386 map[string]int) map[string]int {
	numbers := maps.Clone(n32Own)
	for name, n := range mips64 {
		if _, own := numbers[name]; own {
			continue
		}
		switch {
		case n < 212 || n >= 424:
			numbers[name] = n
		case n < 216:
			numbers[name] = n + 1 // fcntl64
		case n < 295 || n > 308:
			numbers[name] = n + 4 // statfs64, fstatfs64, sendfile64
		default:
			numbers[name] = n + 5 // getdents64
		}
	}
	addTimes(numbers, i386)
	return numbers
}

// s390 derives the table of s390 with 31 bits.
func s390(s390x, i386 map[string]int) map[string]int {
	numbers := maps.Clone(s390Own)
	for name, n := range s390x {
		if slices.Contains(s390None, name) {
			continue
		}
		if n >= 198 && n <= 216 {
			name += "32"
		}
		if _, own := numbers[name]; !own {
			numbers[name] = n
		}
	}
	addTimes(numbers, i386)
	return numbers
}

// addTimes adds the calls for 64-bit times, whose numbers are the same on all
// ABIs of 32 bits.
func addTimes(numbers, i386 map[string]int) {
	for name, n := range i386 {
		if n >= 403 && n <= 423 {
			numbers[name] = n
		}
	}
}

// names returns the sorted names of the system calls of all architectures.
func names(unix string) []string {
	files, err := filepath.Glob(filepath.Join(unix, "zsysnum_linux_*.go"))
	if err != nil || len(files) < 10 {
		log.Fatalf("found only %d zsysnum files: %v", len(files), err)
	}
	all := slices.Concat(more, armOwn)
	for _, f := range files {
		for name := range read(f, 0) {
			all = append(all, name)
		}
	}
	for _, call := range moby.DefaultProfile().Syscalls {
		all = append(all, call.Names...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func write(out string, names []string, slots [tables]map[string]int) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code generated by gen.go from golang.org/x/sys/unix; DO NOT EDIT.\n\npackage syscalls\n\n")
	fmt.Fprintf(&b, "// names are the system calls of all Linux architectures, sorted.\nvar names = [...]string{\n")
	for _, name := range names {
		fmt.Fprintf(&b, "%q,\n", name)
	}
	fmt.Fprintf(&b, "}\n\n// slots has, for each of names, its slot in each table, or -1.\nvar slots = [len(names)][tables]int16{\n")
	for _, name := range names {
		var row [tables]string
		for t := range tables {
			row[t] = "-1"
			if n, ok := slots[t][name]; ok {
				row[t] = strconv.Itoa(n)
			}
		}
		fmt.Fprintf(&b, "{%s}, // %s\n", strings.Join(row[:], ", "), name)
	}
	fmt.Fprintf(&b, "}\n\n// bySlot has the calls of each table by their slots.\nvar bySlot = [tables][]Call{\n")
	for t, name := range arches {
		writeCalls(&b, name, calls(name, names, slots[t], slots[0]))
	}
	fmt.Fprintf(&b, "}\n")
	f := makeForms(names, slots)
	f.write(&b)
	text, err := format.Source(b.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(out, text, 0o644); err != nil {
		log.Fatal(err)
	}
}

// calls returns, by slot, one more than the index in names, or 0. On x32 the
// slots of x86-64 are aliases.
func calls(arch string, names []string, slots, x86 map[string]int) []int {
	list := make([]int, maxSlots)
	high := 0
	add := func(slot, i int) {
		if slot < 0 || slot >= maxSlots || list[slot] != 0 {
			log.Fatalf("%s: %s has slot %d, which is taken or not below %d", arch, names[i], slot, maxSlots)
		}
		list[slot] = i + 1
		high = max(high, slot)
	}
	for i, name := range names {
		own, ok := slots[name]
		if ok {
			add(own, i)
		}
		if native, has := x86[name]; arch == "x32" && has && (!ok || native != own) {
			add(native, i)
		}
	}
	return list[:high+1]
}

func writeCalls(b *bytes.Buffer, arch string, calls []int) {
	fmt.Fprintf(b, "{ // %s", arch)
	for i, c := range calls {
		if i%16 == 0 {
			fmt.Fprintf(b, "\n")
		}
		fmt.Fprintf(b, "%d, ", c)
	}
	fmt.Fprintf(b, "\n},\n")
}
