package syscalls

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func mustFind(t *testing.T, name string) Call {
	t.Helper()
	c, ok := Find(name)
	if !ok {
		t.Fatalf("no call %s", name)
	}
	return c
}

func TestWidth(t *testing.T) {
	for _, tc := range []struct {
		call   string
		arch   Arch
		widths string // of its arguments, from the first on
	}{
		{"socket", X86_64, "32 32 32"},
		{"socket", I386, "32 32 32"},
		{"socket", S390X, "32 32 32"},
		{"personality", X86_64, "32"},
		{"personality", PPC64LE, "32"},
		{"personality", MIPS64N32, "32"},
		{"personality", I386, "32"},
		{"clone", X86_64, "32 64 64 64 64"},
		{"clone", AARCH64, "32 64 64 64 64"},
		{"clone", S390X, "64 32 64 64 64"},
		{"clone", S390, "32 32 32 32 32"},
		{"chmod", X86_64, "64 16"},
		{"chmod", I386, "32 16"},
		{"fchmodat", AARCH64, "32 64 16"},
		{"openat", X86_64, "32 64 32 16"},
		{"openat", RISCV64, "32 64 32 16"},
		{"openat", MIPS, "32 32 32 16"},
		{"open", X32, "64 32 16"},
		{"mknodat", LOONGARCH64, "32 64 16 32"},
		{"mq_open", S390X, "64 32 16 64"},
		{"spu_create", PPC64, "64 32 16 32"},
		{"ioctl", X86_64, "32 32 64"},
		{"ioctl", ARM, "32 32 32"},
		{"ioctl", X32, "32 32 32"},
		{"ioctl", MIPSEL64N32, "32 32 32"},
		{"ioctl", MIPSEL64, "32 32 64"},
		{"prctl", X86_64, "32 64 64 64 64"},
		{"prctl", X32, "32 64 64 64 64"},
		{"prctl", I386, "32 32 32 32 32"},
		{"chown", X86_64, "64 32 32"},
		{"chown", I386, "32 16 16"},
		{"chown", ARM, "32 16 16"},
		{"chown", S390, "32 16 16"},
		{"chown", S390X, "64 32 32"},
		{"chown", PPC, "32 32 32"},
		{"chown", MIPS, "32 32 32"},
		{"chown32", I386, "32 32 32"},
		{"setresuid", S390, "16 16 16"},
		{"setresuid32", ARM, "32 32 32"},
		{"setgroups", I386, "32 32"},
		{"mmap", X86_64, "64 64 64 64 32 64"},
		{"mmap", S390X, "64"},
		{"mmap", I386, "32"},
		{"mmap2", I386, "32 32 32 32 32 32"},
		{"fcntl", X86_64, "32 32 64"},
		{"fcntl", X32, "32 32 64"},
		{"fcntl", MIPS64N32, "32 32 32"},
		{"kill", X86_64, "32 32"},
		{"clock_settime", X86_64, "32 64"},
		{"clock_settime64", I386, "32 32"},
		{"lseek", X86_64, "32 64 32"},
		{"munmap", X86_64, "64 64"},
		{"ptrace", X86_64, "64 32 64 64"},
		{"ptrace", X32, "32 32 32 32"},
		{"socketcall", I386, "32 32"},
		{"socketcall", S390X, "32 64"},
		{"ipc", S390X, "32 32 64 64 64"},
		{"ipc", PPC64, "32 32 64 64 64 64"},
		{"landlock_add_rule", AARCH64, "32 32 64 32"},
		{"rt_sigaction", X86_64, "32 64 64 64"},
		{"rt_sigaction", X32, "32 64 64 32"},
		{"readv", X32, "32 64 32"},
		{"preadv2", X32, "32 64 32 64 32"},
		{"preadv2", X86_64, "32 64 32 64 64 32"},
		{"preadv2", MIPS64N32, "32 64 32 32 32 32"},
		{"io_submit", X32, "32 32 64"},
		{"recvfrom", X32, "32 64 32 32 64 64"},
		{"kexec_load", X86_64, "64 64 64 64"},
		{"kexec_load", X32, "32 32 64 32"},
		{"fadvise64", S390X, "32 64 64 32"},
		{"sync_file_range2", PPC64LE, "32 32 64 64"},
		{"getpid", X86_64, ""},
		{"pipe", MIPS64, ""},
		{"pipe", X86_64, "64"},
	} {
		c := mustFind(t, tc.call)
		n, ok := c.NArgs(tc.arch)
		var widths []string
		for i := range n {
			widths = append(widths, fmt.Sprint(c.Width(tc.arch, i)))
		}
		if got := strings.Join(widths, " "); !ok || got != tc.widths {
			t.Errorf("%s on %v: %s, %v, want %s", tc.call, tc.arch, got, ok, tc.widths)
		}
	}
}

// Where nothing is known, the width is that of the registers.
func TestWidthUnknown(t *testing.T) {
	for _, tc := range []struct {
		call  string
		arch  Arch
		index int
		want  uint8
	}{
		{"socket", X86_64, 3, 64},
		{"socket", X86_64, 6, 64},
		{"socket", X86_64, math.MaxInt, 64},
		{"socket", X86_64, -1, 64},
		{"socket", I386, 3, 32},
		{"socket", X32, 3, 64},
		{"getpid", AARCH64, 0, 64},
		{"tuxcall", X86_64, 0, 64},
		{"ulimit", I386, 0, 32},
		{"socketcall", X86_64, 0, 64}, // has none
		{"chown32", PPC, 1, 32},
		{"read", M68K, 0, 32},
		{"read", PARISC64, 0, 64},
		{"read", 200, 0, 32},
	} {
		c := mustFind(t, tc.call)
		if got := c.Width(tc.arch, tc.index); got != tc.want {
			t.Errorf("%s on %v, argument %d: %d, want %d", tc.call, tc.arch, tc.index, got, tc.want)
		}
	}
	if got := Call(0).Width(X86_64, 0); got != 64 {
		t.Errorf("no call: %d", got)
	}
}

func TestArgs(t *testing.T) {
	for _, tc := range []struct {
		call string
		arch Arch
		args string
	}{
		{"openat", X86_64, "int dfd, const char * filename, int flags, umode_t mode"},
		{"umount2", AARCH64, "char * name, int flags"},
		{"umount", PPC, "char * name"},
		{"stat", X86_64, "const char * filename, struct stat * statbuf"},
		{"getpid", X86_64, ""},
		{"sync_file_range", X86_64, "int fd, loff_t offset, loff_t nbytes, unsigned int flags"},
		{"sync_file_range", I386, "int fd, u32 offset_lo, u32 offset_hi, u32 nbytes_lo, u32 nbytes_hi, unsigned int flags"},
		{"sync_file_range", MIPS, "int fd, u32 pad, u32 offset_hi, u32 offset_lo, u32 nbytes_hi, u32 nbytes_lo, unsigned int flags"},
		{"pread64", ARM, "unsigned int fd, char * buf, size_t count, u32 pad, u32 pos_lo, u32 pos_hi"},
		{"pread64", PPC, "unsigned int fd, char * buf, size_t count, u32 pad, u32 pos_hi, u32 pos_lo"},
		{"pread64", S390, "unsigned int fd, char * buf, size_t count, u32 pos_hi, u32 pos_lo"},
		{"arm_fadvise64_64", ARM, "int fd, int advice, u32 offset_lo, u32 offset_hi, u32 len_lo, u32 len_hi"},
		{"fanotify_mark", MIPSEL, "int fanotify_fd, unsigned int flags, u32 mask_lo, u32 mask_hi, int dfd, const char * pathname"},
		{"clone", I386, "unsigned long clone_flags, unsigned long newsp, int * parent_tidptr, unsigned long tls, int * child_tidptr"},
		{"clone", S390X, "unsigned long newsp, unsigned long clone_flags, int * parent_tidptr, int * child_tidptr, unsigned long tls"},
		{"select", I386, "struct sel_arg_struct * arg"},
	} {
		c := mustFind(t, tc.call)
		args, ok := c.Args(tc.arch)
		var list []string
		for _, a := range args {
			list = append(list, a.Type+" "+a.Name)
		}
		if got := strings.Join(list, ", "); !ok || got != tc.args {
			t.Errorf("%s on %v: %s, %v, want %s", tc.call, tc.arch, got, ok, tc.args)
		}
	}
	for _, tc := range []struct {
		call string
		arch Arch
	}{{"tuxcall", X86_64}, {"socketcall", X86_64}, {"read", M68K}, {"read", 200}} {
		if args, ok := mustFind(t, tc.call).Args(tc.arch); ok || args != nil {
			t.Errorf("%s on %v: %v, %v", tc.call, tc.arch, args, ok)
		}
	}
}

// Almost all calls are known, and what the functions say of one fits together.
func TestAllArgs(t *testing.T) {
	for a := range Arch(archs) {
		unknown := 0
		for _, name := range All(a) {
			c := mustFind(t, name)
			args, ok := c.Args(a)
			n, known := c.NArgs(a)
			if known != ok || n != len(args) {
				t.Errorf("%s on %v: %d arguments, %v, but %v", name, a, n, known, args)
			}
			if !ok {
				unknown++
			}
			for i, arg := range args {
				w := c.Width(a, i)
				if arg.Type == "" || arg.Name == "" || strings.ContainsAny(arg.Name, " *") || a.registers() == 32 && w > 32 ||
					strings.Contains(arg.Type, "*") && w != a.registers() || strings.HasSuffix(arg.Type, "int") && w != 32 {
					t.Errorf("%s on %v: argument %d is %v, %d bits", name, a, i, arg, w)
				}
			}
		}
		if unknown > 25 {
			t.Errorf("%v: the arguments of %d calls are not known", a, unknown)
		}
	}
}

// The kernel ignores exactly those bits that Width says.
func TestWidthIsTheKernels(t *testing.T) {
	if runtime.GOARCH != "amd64" || os.Getuid() != 0 {
		t.Skip("the program is for x86-64 and root")
	}
	dir := t.TempDir()
	prog := filepath.Join(dir, "width")
	if text, err := exec.Command("gcc", "-O1", "-Wall", "-Werror", "-o", prog, "testdata/width.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(prog, dir)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); n++ {
		var arch, name string
		var index, bit, same int
		if _, err := fmt.Sscan(lines.Text(), &arch, &name, &index, &bit, &same); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		a, err := ParseShort(arch)
		if err != nil {
			t.Fatal(err)
		}
		width := mustFind(t, name).Width(a, index)
		if ignored := same == 1; ignored != (bit >= int(width)) {
			t.Errorf("%s on %v, argument %d: the kernel ignores bit %d: %v, but the width is %d", name, a, index, bit, ignored, width)
		}
	}
	if n < 400 {
		t.Errorf("only %d answers", n)
	}
}
