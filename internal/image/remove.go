package image

import (
	"os"

	"golang.org/x/sys/unix"
)

// sweepTemp removes the temporary files of dead processes.
func (s *Store) sweepTemp() {
	entries, _ := os.ReadDir(s.path("tmp"))
	for _, e := range entries {
		path := s.path("tmp/") + e.Name()
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && same(f, path) {
			os.Remove(path)
		}
		f.Close()
	}
}
