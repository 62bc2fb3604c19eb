package main

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// redisBench measures a server's throughput.
func (b *bench) redisBench() (func() error, func(), error) {
	sock := filepath.Join(b.dir, "redis.sock")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", sock, "--save", "", "--appendonly", "no", "--dir", b.dir)
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	end := func() { server.Process.Kill(); server.Wait() }
	for range 200 {
		if _, err := os.Stat(sock); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() error { return b.redisRound(sock, server.Process.Pid) }, end, nil
}

func (b *bench) redisRound(sock string, pid int) error {
	if err := b.requestRate("redis alone", sock, b.requests); err != nil {
		return err
	}
	if err := atFloor(func() error { return b.requestRate("redis at the floor", sock, b.requests) }); err != nil {
		return err
	}
	r, err := b.record(pid)
	if err != nil {
		return err
	}
	if err := b.requestRate("redis recorded", sock, b.requests); err != nil {
		return err
	}
	if err := r.stop(); err != nil {
		return err
	}
	// A tracer that attaches cannot use --seccomp-bpf: this is strace -f -c.
	tracer := exec.Command("strace", "-f", "-c", "-o", "/dev/null", "-p", strconv.Itoa(pid))
	if err := tracer.Start(); err != nil {
		return err
	}
	if err := untilTraced(pid); err != nil {
		return err
	}
	err = b.requestRate("redis strace", sock, max(b.requests/10, 1))
	tracer.Process.Signal(os.Interrupt)
	tracer.Wait()
	return err
}

// untilTraced waits until a process has a tracer.
func untilTraced(pid int) error {
	for range 500 {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return err
		}
		if !strings.Contains(string(status), "TracerPid:\t0\n") {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("strace does not attach to process %d", pid)
}

// requestRate adds how many GETs a second redis answers.
func (b *bench) requestRate(name, sock string, requests int) error {
	out, err := exec.Command("redis-benchmark", "-s", sock, "-t", "get", "-n", strconv.Itoa(requests), "--csv").Output()
	if err != nil {
		return fmt.Errorf("redis-benchmark: %w", err)
	}
	// "test","rps",... and "GET","123456.78",...
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Split(lines[len(lines)-1], ",")
	if len(fields) < 2 {
		return fmt.Errorf("redis-benchmark: printed %q", out)
	}
	rate, err := strconv.ParseFloat(strings.Trim(fields[1], `"`), 64)
	if err != nil {
		return fmt.Errorf("redis-benchmark: %w", err)
	}
	b.add(name, rate)
	return nil
}

// startBench measures a container's start, with and without --explain.
func (b *bench) startBench() (func() error, func(), error) {
	archive := filepath.Join(b.dir, "image.tar")
	if err := writeImage(archive); err != nil {
		return nil, nil, err
	}
	os.Setenv("BRIG_ROOT", filepath.Join(b.dir, "root"))
	if out, err := exec.Command(b.brig, "import", archive, "true").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("brig import: %w: %s", err, out)
	}
	// The first start of each kind fills the caches.
	for _, explain := range []bool{false, true} {
		if _, err := b.startOnce(explain); err != nil {
			return nil, nil, err
		}
	}
	return func() error {
		for range 5 {
			for name, explain := range map[string]bool{"start plain": false, "start explain": true} {
				took, err := b.startOnce(explain)
				if err != nil {
					return err
				}
				b.add(name, float64(took.Microseconds())/1e3)
			}
		}
		return nil
	}, func() {}, nil
}

func (b *bench) startOnce(explain bool) (time.Duration, error) {
	cmd := exec.Command(b.brig, "run", "--rm", "--network", "none", fmt.Sprintf("--explain=%v", explain), "true", "/bin/busybox", "true")
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("brig run: %w: %s", err, out)
	}
	return time.Since(start), nil
}

// writeImage writes an archive of a root file system that has busybox.
func writeImage(name string) error {
	text, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "sys/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(text))}); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.Close()
}
