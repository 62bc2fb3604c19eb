package reach

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// smallPrograms returns a few small ELF files to start from.
func smallPrograms(f *testing.F) [][]byte {
	dir := f.TempDir()
	source := filepath.Join(dir, "s.c")
	code := `
extern long syscall(long, ...);
static int a(int x) { return x + 1; }
static int b(int x) { return x * 2; }
static int (*const table[])(int) = {a, b};
int main(int n, char **v) {
	switch (n) { case 1: n = 5; break; case 2: n = 9; break; case 3: n = 7; break; case 4: n = 11; break; case 5: n = 1; break; }
	return syscall(n > 3 ? 39 : 102) + table[n & 1](n);
}`
	if err := os.WriteFile(source, []byte(code), 0o644); err != nil {
		f.Fatal(err)
	}
	var out [][]byte
	for i, flags := range [][]string{{"-O2"}, {"-O2", "-no-pie", "-s"}, {"-O1", "-shared", "-fPIC", "-Wl,-z,pack-relative-relocs"}} {
		program := filepath.Join(dir, string(rune('a'+i)))
		if exec.Command("gcc", append(flags, "-w", "-o", program, source)...).Run() != nil {
			continue
		}
		if b, err := os.ReadFile(program); err == nil {
			out = append(out, b)
		}
	}
	return out
}

// FuzzScan reads broken programs: there is no panic, and memory is in proportion
// to the file.
func FuzzScan(f *testing.F) {
	for _, b := range smallPrograms(f) {
		f.Add(b)
	}
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		file, err := Scan(bytes.NewReader(b))
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20+uint64(len(b))*2000 {
			t.Errorf("%d bytes were allocated for a file of %d", used, len(b))
		}
		if err != nil {
			return
		}
		u := newUnion()
		l := newLink(&files{}, u, "program")
		l.add("program", file)
		l.run()
		u.result()
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x0f, 0x05})
	f.Add([]byte{0xc5, 0xf8, 0x77})
	f.Add([]byte{0x62, 0xf1, 0x7c, 0x48, 0x11, 0x44, 0x24, 0x01})
	f.Add([]byte{0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var in inst
		if !decode(b, 0x1000, &in) {
			return
		}
		if in.len == 0 || int(in.len) > min(len(b), maxInst) {
			t.Fatalf("% x: length %d", b, in.len)
		}
		in.flow()
		(&codeMap{image: &image{}}).step(entryState(), &in)
		var again inst
		if !decode(b[:in.len], 0x1000, &again) || again != in {
			t.Fatalf("% x: %+v, and alone %+v", b, in, again)
		}
	})
}
