package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func BenchmarkOpen(b *testing.B) {
	dir := memoryDir(b) + "/layers"
	openStore(b, dir)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(dir); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMount is on the path of each container's start.
func BenchmarkMount(b *testing.B) {
	for _, layers := range []int{1, 5, 20, 150} {
		b.Run(fmt.Sprintf("layers=%d", layers), func(b *testing.B) {
			dir := b.TempDir()
			s := openStore(b, memoryDir(b)+"/layers")
			var all [][]entry
			for i := range layers {
				all = append(all, []entry{file(fmt.Sprint(i), "x")})
			}
			chain := stringsOf(unpackAll(b, s, all...))
			// Timed by hand: stopping the benchmark's timer costs more, and
			// leaves colder caches, than what is measured.
			var took []time.Duration
			for b.Loop() {
				upper, work, err := PrepareUpper(fmt.Sprintf("%s/%d", dir, len(took)))
				if err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				f, err := s.Mount(MountOptions{Lower: chain, Upper: upper, Work: work})
				took = append(took, time.Since(began))
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
			slices.Sort(took)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "median-ns")
			b.ReportMetric(float64(took[0].Nanoseconds()), "min-ns")
		})
	}
}

func BenchmarkPrepareUpper(b *testing.B) {
	dir := b.TempDir()
	n := 0
	for b.Loop() {
		if _, _, err := PrepareUpper(fmt.Sprintf("%s/%d", dir, n)); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// benchArchives are a layer of few large files and one of many small ones.
func benchArchives(b *testing.B) map[string][]byte {
	rnd := rand.New(rand.NewSource(1))
	data := make([]byte, 32<<20)
	rnd.Read(data)
	var large, small []entry
	for i := range 4 {
		large = append(large, file(fmt.Sprint(i), string(data)))
	}
	for i := range 10000 {
		if i%50 == 0 {
			small = append(small, directory(fmt.Sprintf("usr/share/%d", i/50)))
		}
		off := rnd.Intn(len(data) - 20000)
		small = append(small, file(fmt.Sprintf("usr/share/%d/file%d", i/50, i), string(data[off:off+rnd.Intn(8000)])))
	}
	return map[string][]byte{"large": makeTar(b, large...), "small": makeTar(b, small...)}
}

func BenchmarkUnpack(b *testing.B) {
	for name, archive := range benchArchives(b) {
		b.Run(name, func(b *testing.B) {
			s := openStore(b, memoryDir(b)+"/layers")
			l := layerOf(archive)
			b.SetBytes(int64(len(archive)))
			for b.Loop() {
				if err := s.Unpack(context.Background(), l, bytes.NewReader(archive)); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Remove(l.ChainID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
		b.Run(name+"/gnutar", func(b *testing.B) {
			dir := memoryDir(b)
			b.SetBytes(int64(len(archive)))
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				to := filepath.Join(dir, fmt.Sprint(i))
				if err := os.Mkdir(to, 0o755); err != nil {
					b.Fatal(err)
				}
				cmd := exec.Command("tar", "-xp", "--xattrs", "-C", to)
				cmd.Stdin = bytes.NewReader(archive)
				b.StartTimer()
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				b.StopTimer()
				os.RemoveAll(to)
				b.StartTimer()
			}
		})
	}
}
