package reach

import (
	"bufio"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestDecodeAgreesWithObjdump compares the lengths of all instructions of some
// programs with those of binutils.
func TestDecodeAgreesWithObjdump(t *testing.T) {
	objdump, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("needs objdump of binutils")
	}
	files := []string{"/lib/x86_64-linux-gnu/libc.so.6", "/bin/busybox",
		filepath.Join(runtime.GOROOT(), "bin/gofmt")}
	for _, name := range files {
		if _, err := os.Stat(name); err != nil {
			t.Logf("%s: not here", name)
			continue
		}
		total, wrong := compareObjdump(t, objdump, name)
		t.Logf("%s: %d instructions, %d bytes in those of other length", name, total, wrong)
		if total == 0 || wrong*10000 > total {
			t.Errorf("%s: %d of %d bytes disagree", name, wrong, total)
		}
	}
}

// compareObjdump returns the bytes of instructions, and those of them in
// instructions to which objdump gives another length.
func compareObjdump(t *testing.T, objdump, name string) (total, wrong int) {
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(objdump, "-dw", "--no-show-raw-insn", name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	code, base := []byte(nil), uint64(0)
	var last uint64
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		line := scanner.Text()
		if name, ok := strings.CutPrefix(line, "Disassembly of section "); ok {
			section := f.Section(strings.TrimSuffix(name, ":"))
			code, _ = section.Data()
			base, last = section.Addr, 0
			continue
		}
		text, rest, ok := strings.Cut(strings.TrimSpace(line), ":\t")
		addr, err := strconv.ParseUint(text, 16, 64)
		if !ok || err != nil {
			continue
		}
		if last != 0 {
			total += int(addr - last)
			var in inst
			ok := decode(code[last-base:], last, &in)
			if n := uint64(in.len); !ok || n != addr-last {
				wrong += int(addr - last)
				if wrong < 200 {
					t.Logf("%#x: %x: %v, length %d, objdump %d", last, code[last-base:addr-base], ok, n, addr-last)
				}
			}
		}
		last = addr
		if strings.HasPrefix(rest, "(bad)") || strings.HasPrefix(rest, "...") {
			last = 0
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return total, wrong
}
