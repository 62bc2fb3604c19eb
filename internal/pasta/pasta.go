// Package pasta runs pasta(1) of passt, which connects the network namespace of an
// ordinary user with the host's network: by sockets of its own, so that no rights
// are needed.
//
// It owns the program's options and its start. It knows no containers.
package pasta

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/pids"
)

// ErrMissing says that pasta is not installed.
var ErrMissing = errors.New("pasta is not installed (Debian's package passt)")

// Port is a port of the host that leads to one of the namespace.
type Port struct {
	Protocol   string // "tcp" or "udp"
	HostIP     netip.Addr
	Host, Port uint16
}

// Process is a pasta that runs.
type Process struct {
	PID   int
	Start uint64 // see package pids
}

// Installed says whether there is a pasta.
func Installed() bool {
	_, err := exec.LookPath("pasta")
	return err == nil
}

// ready is how long pasta may take to set a namespace up.
const ready = 10 * time.Second

// Start connects a network namespace, and returns when that is done. started is
// told of the process before anything else can fail, so that it can be ended
// later, whatever happens here.
func Start(netns *os.File, ports []Port, dir string, started func(Process) error) error {
	program, err := exec.LookPath("pasta")
	if err != nil {
		return ErrMissing
	}
	pidFile := dir + "/pasta.pid"
	os.Remove(pidFile)
	// By a name in the file system: pasta may not look into this process, and newer
	// ones close the descriptors that they inherit.
	name := dir + "/pasta.netns"
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	defer os.Remove(name)
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", netns.Fd()), name, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind the network namespace on", Path: name, Err: err}
	}
	defer unix.Unmount(name, unix.MNT_DETACH)
	cmd := exec.Command(program, args(ports, pidFile, name)...)
	var said bytes.Buffer
	out, err := os.CreateTemp(dir, "pasta-")
	if err != nil {
		return err
	}
	defer out.Close()
	os.Remove(out.Name())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start pasta: %w", err)
	}
	ticks, _ := pids.Start(cmd.Process.Pid)
	p := Process{PID: cmd.Process.Pid, Start: ticks}
	if err := started(p); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := await(pidFile, ended); err != nil {
		out.Seek(0, 0)
		said.ReadFrom(out)
		return fmt.Errorf("connect the container by pasta: %w: %s%s", err, lastLine(said.String()), tunHint())
	}
	return nil
}

// await waits until pasta has written its number, which it does when all is set
// up.
func await(pidFile string, ended <-chan error) error {
	deadline := time.After(ready)
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		if b, err := os.ReadFile(pidFile); err == nil && len(b) > 0 {
			return nil
		}
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("it ended")
			}
			return err
		case <-deadline:
			return errors.New("it does not get ready")
		case <-time.After(pause):
		}
	}
}

func args(ports []Port, pidFile, netns string) []string {
	list := []string{"--foreground", "--quiet", "--config-net", "--no-map-gw", "--runas", "0:0", "--pid", pidFile,
		"-T", "none", "-U", "none"}
	any := map[string]bool{}
	for _, p := range ports {
		spec := strconv.Itoa(int(p.Host)) + ":" + strconv.Itoa(int(p.Port))
		if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
			spec = p.HostIP.String() + "/" + spec
		}
		list = append(list, map[string]string{"tcp": "-t", "udp": "-u"}[p.Protocol], spec)
		any[p.Protocol] = true
	}
	if !any["tcp"] {
		list = append(list, "-t", "none")
	}
	if !any["udp"] {
		list = append(list, "-u", "none")
	}
	return append(list, "--netns-only", "--no-netns-quit", "--netns", netns)
}

// tunHint says what is wrong where users may not make interfaces, which most
// systems let them.
func tunHint() string {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err == nil {
		f.Close()
		return ""
	}
	return fmt.Sprintf(" (%v; root can open it to all: chmod 666 /dev/net/tun)", err)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
