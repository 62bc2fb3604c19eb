package seccomp

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/brig-run/brig/capability"
)

func BenchmarkDefault(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Default()
	}
}

func BenchmarkParseProfile(b *testing.B) {
	data, err := os.ReadFile(filepath.Join(profileModule(b), "default.json"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseProfile("default.json", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	p, t := Default(), target(capability.Default())
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := p.Resolve(t); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	all := mustResolve(b, Default(), target(capability.Default()))
	native := *all
	native.Archs = all.Archs[:1]
	for _, bm := range []struct {
		name   string
		policy *Policy
	}{{"three", all}, {"x86-64", &native}} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				f, err := Compile(bm.policy)
				if err != nil {
					b.Fatal(err)
				}
				n = len(f.Program)
			}
			b.ReportMetric(float64(n), "instructions")
		})
	}
}

// BenchmarkLoad is the kernel's part, on a thread that ends afterwards.
func BenchmarkLoad(b *testing.B) {
	f, err := Compile(mustResolve(b, Default(), target(capability.Default())))
	if err != nil {
		b.Fatal(err)
	}
	var took time.Duration
	for b.Loop() {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			start := time.Now()
			_, err := f.Load()
			took += time.Since(start)
			done <- err
		}()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/load")
}

// BenchmarkStart is what a container's start pays for the default profile.
func BenchmarkStart(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		t, err := Here(capability.Default())
		if err != nil {
			b.Fatal(err)
		}
		policy, _, err := Default().Resolve(t)
		if err != nil {
			b.Fatal(err)
		}
		f, err := Compile(policy)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.CheckKernel(); err != nil {
			b.Fatal(err)
		}
	}
}
