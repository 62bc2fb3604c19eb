package e2e

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// mkdirProgram makes the directory that its argument names by a system call of
// a 32-bit program, and exits with the errno. It needs no library.
const mkdirProgram = `
static int call(int nr, const void *a, int b) {
	int r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b) : "memory");
	return r;
}
__attribute__((used)) static void start(int *stack) {
	const char *const *argv = (void *)(stack + 1);
	int r = call(39, argv[1], 0755); /* mkdir, 39 on i386 */
	for (;;) call(1, (void *)(-r), 0); /* exit */
}
__asm__(".globl _start\n_start: mov %esp, %eax\n push %eax\n call start\n");
`

// Programs for i386 run in the same containers, under the same rules: their
// other numbers are no way around the filter.
func TestI386(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("i386 programs run on x86-64 alone")
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "mkdir.c"), filepath.Join(dir, "mkdir32")
	write(t, source, mkdirProgram)
	if err := run("gcc", "-m32", "-O1", "-fno-pic", "-fno-stack-protector", "-fcf-protection=none", "-nostdlib", "-static", "-no-pie", "-o", program, source); err != nil {
		t.Fatal(err)
	}
	if err := run(program, filepath.Join(dir, "made")); err != nil {
		t.Skipf("this kernel does not run i386 programs: %v", err)
	}
	image, err := harness.Busybox("i386")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	image.Add(harness.File("bin/mkdir32", 0o755, binary))
	r := harness.New(t)
	if err := r.Load(image); err != nil {
		t.Fatal(err)
	}
	const (
		refusesMkdir = `"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":30}]}`
		both         = `{"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],` + refusesMkdir
		native       = `{"architectures":["SCMP_ARCH_X86_64"],` + refusesMkdir
	)
	for _, tt := range []struct {
		name, profile string
		code          int
	}{
		{"default profile", "", 0},
		{"refused on both", both, 30},
		{"not an architecture of the profile", native, 159}, // killed by SIGSYS
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"run", "--rm"}
			if tt.profile != "" {
				file := filepath.Join(dir, strings.ReplaceAll(tt.name, " ", "-")+".json")
				write(t, file, tt.profile)
				args = append(args, "--security-opt", "seccomp="+file)
			}
			// Through a shell, whose own calls are native.
			if res := r.Run(append(args, "i386", "sh", "-c", "mkdir32 /x; exit $?")...); res.Code != tt.code {
				t.Errorf("exit code %d, want %d: %s", res.Code, tt.code, res.Stderr)
			}
		})
	}
}
