package syscalls

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// peerArchs are libseccomp's names. It knows all of our tables but that of
// loongarch64, whose numbers are checked against those of riscv64.
var peerArchs = map[string]Arch{
	"x86_64": X86_64, "x86": I386, "x32": X32, "arm": ARM, "aarch64": AARCH64,
	"mips": MIPS, "mips64": MIPS64, "mips64n32": MIPS64N32,
	"mipsel": MIPSEL, "mipsel64": MIPSEL64, "mipsel64n32": MIPSEL64N32,
	"ppc": PPC, "ppc64": PPC64, "ppc64le": PPC64LE, "riscv64": RISCV64, "s390": S390, "s390x": S390X,
}

type peerCall struct {
	nr   uint32
	name string
}

// peerTables returns libseccomp's calls by architecture.
func peerTables(t *testing.T) map[Arch][]peerCall {
	t.Helper()
	prog := filepath.Join(t.TempDir(), "libseccomp")
	if text, err := exec.Command("gcc", "-O1", "-Wall", "-Werror", "-o", prog, "testdata/libseccomp.c", "-lseccomp").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var args []string
	for name, a := range peerArchs {
		args = append(args, fmt.Sprintf("%s %d %d", name, a.Number(0), a.Number(0)+999))
	}
	args = append(args, fmt.Sprintf("arm %d %d", 0xf0000, 0xf0010))
	out, err := exec.Command(prog, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[Arch][]peerCall{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var arch string
		var c peerCall
		if _, err := fmt.Sscan(lines.Text(), &arch, &c.nr, &c.name); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		calls[peerArchs[arch]] = append(calls[peerArchs[arch]], c)
	}
	return calls
}

func TestNumbersAgreeWithLibseccomp(t *testing.T) {
	peer := peerTables(t)
	for _, a := range peerArchs {
		calls := peer[a]
		if len(calls) < 300 {
			t.Errorf("%v: libseccomp has only %d calls", a, len(calls))
		}
		last := uint32(0) // of the common ones, which grow
		known := map[string]bool{}
		for _, c := range calls {
			known[c.name] = true
			if slot := a.slot(c.nr); slot < 512 {
				last = max(last, c.nr)
			}
			if nr, ok := Number(a, c.name); !ok || nr != c.nr {
				t.Errorf("%v: libseccomp has %s %#x, we %#x, %v", a, c.name, c.nr, nr, ok)
			}
			if name, ok := Name(a, c.nr); !ok || name != c.name {
				t.Errorf("%v: libseccomp has %#x %s, we %q, %v", a, c.nr, c.name, name, ok)
			}
		}
		for nr, name := range All(a) {
			// Newer calls than libseccomp's are fine.
			if !known[name] && nr <= last && !lacks(a, name) {
				t.Errorf("%v: libseccomp has no %s (%#x)", a, name, nr)
			}
		}
	}
}

// lacks reports whether libseccomp 2.5 lacks a call that the kernel put among
// older ones.
func lacks(a Arch, name string) bool {
	return a == X86_64 && (name == "uprobe" || name == "uretprobe") || a == RISCV64 && name == "riscv_hwprobe"
}

// The newer architectures have one table, but for a few calls.
func TestGenericTables(t *testing.T) {
	own := []string{"riscv_flush_icache", "riscv_hwprobe", "renameat", "fstat", "newfstatat", "getrlimit", "setrlimit"}
	for _, a := range []Arch{AARCH64, LOONGARCH64, RISCV64} {
		for _, b := range []Arch{AARCH64, LOONGARCH64, RISCV64} {
			for nr, name := range All(a) {
				if got, ok := Number(b, name); (!ok || got != nr) && !slices.Contains(own, name) {
					t.Errorf("%s is %#x on %v and %#x, %v on %v", name, nr, a, got, ok, b)
				}
			}
		}
	}
}
