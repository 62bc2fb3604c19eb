package runtime

import (
	"os"
	"os/exec"
	"testing"
)

// Both kinds of sealed program can be executed and not be written.
func TestSealedProgram(t *testing.T) {
	seal := map[string]func() (*os.File, error){
		"mount": SealedExecutable,
		"copy": func() (*os.File, error) {
			f, err := sealedCopy()
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return reopen(f)
		},
	}
	for name, make := range seal {
		t.Run(name, func(t *testing.T) {
			f, err := make()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Fd() < 10 {
				t.Errorf("its descriptor %d may be a child's own", f.Fd())
			}
			if out, err := exec.Command(ExecPath(f), "-test.run=^$").CombinedOutput(); err != nil {
				t.Errorf("run it: %v\n%s", err, out)
			}
			for _, flag := range []int{os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC} {
				if w, err := os.OpenFile(ExecPath(f), flag, 0); err == nil {
					if _, err := w.Write([]byte("x")); err == nil {
						t.Errorf("opened with %#x it can be written", flag)
					}
					w.Close()
				}
			}
		})
	}
}
