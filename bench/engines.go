package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"

	"github.com/brig-run/brig/test/harness"
)

// engine is one of the programs that are compared.
type engine struct {
	name    string
	command func(round int) []string
	// sequence is commands that are measured together, in the place of command.
	sequence func(round int) [][]string
	// detach gives the commands that start a container in the background and
	// print its ID, print the process ID of the container ID, and remove it.
	detach    func() (start []string, pid, remove func(id string) []string)
	null, log *os.File
	cleanUp   func()
}

func (e *engine) close() {
	if e.cleanUp != nil {
		e.cleanUp()
	}
	e.null.Close()
	e.log.Close()
}

const imageName = "localhost/bench:latest"

// prepare sets up the engines that are there, Brig first.
func prepare(o options) (engines []*engine, err error) {
	image, err := harness.Busybox(imageName)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	if err := image.Write(&archive); err != nil {
		return nil, err
	}
	p := &preparation{dir: o.dir, archive: archive.Bytes(), image: image, network: []string{"--network", "none"}}
	if o.bridge {
		p.network = []string{"-p", "18087:80"}
	}
	for _, c := range []struct {
		name string
		make func() (*engine, error)
	}{{"brig", p.brig}, {"crun", p.bundled("crun")}, {"runc", p.bundled("runc")}, {"podman", p.podman}} {
		if o.bridge && c.name != "brig" && c.name != "podman" {
			continue
		}
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), c.name) {
			continue
		}
		if _, err := exec.LookPath(c.name); err != nil && c.name != "brig" {
			fmt.Fprintf(os.Stderr, "bench: no %s here, left out\n", c.name)
			continue
		}
		e, err := c.make()
		if err != nil {
			return engines, fmt.Errorf("prepare %s: %w", c.name, err)
		}
		e.name = c.name
		if err := p.streams(e); err != nil {
			return engines, err
		}
		engines = append(engines, e)
	}
	return engines, nil
}

type preparation struct {
	dir     string
	archive []byte
	image   *harness.Image
	network []string // flags
}

func (p *preparation) streams(e *engine) (err error) {
	if e.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return err
	}
	e.log, err = os.Create(filepath.Join(p.dir, e.name+".log"))
	return err
}

// output runs a command with some input.
func output(input []byte, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, errs.Bytes())
	}
	return strings.TrimSpace(string(out)), err
}

func (p *preparation) brig() (*engine, error) {
	bin, err := harness.Binary()
	if err != nil {
		return nil, err
	}
	brig := func(args ...string) []string {
		return append([]string{bin, "--root", filepath.Join(p.dir, "brig-root")}, args...)
	}
	if _, err := output(p.archive, brig("load", "-q")...); err != nil {
		return nil, err
	}
	run := brig(append(append([]string{"run", "--rm"}, p.network...), imageName, "true")...)
	return &engine{
		command: func(int) []string { return run },
		detach: func() ([]string, func(string) []string, func(string) []string) {
			return brig("run", "-d", "--network", "none", imageName, "sleep", "600"),
				func(id string) []string { return brig("inspect", "-f", "{{.State.Pid}}", id) },
				func(id string) []string { return brig("rm", "-f", id) }
		},
	}, nil
}

// podman's default are 11 capabilities; these make them Docker's 14.
const podmanAdds = "AUDIT_WRITE,MKNOD,NET_RAW"

func (p *preparation) podman() (*engine, error) {
	profile := filepath.Join(p.dir, "profile.json")
	b, err := json.Marshal(seccomp.DefaultProfile())
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(profile, b, 0o644); err != nil {
		return nil, err
	}
	podman := func(args ...string) []string {
		return append([]string{"podman", "--root", filepath.Join(p.dir, "podman-root"), "--runroot", filepath.Join(p.dir, "podman-run"),
			"--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--runtime", "crun", "--events-backend", "none"}, args...)
	}
	run := func(args ...string) []string {
		// Its own higher limits need a capability that not every machine grants.
		return podman(append([]string{"run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--cap-add", podmanAdds, "--security-opt", "seccomp=" + profile}, args...)...)
	}
	e := &engine{
		command: func(int) []string { return run(append(append([]string{"--rm"}, p.network...), imageName, "true")...) },
		detach: func() ([]string, func(string) []string, func(string) []string) {
			return run("-d", "--network", "none", imageName, "sleep", "600"),
				func(id string) []string { return podman("inspect", "-f", "{{.State.Pid}}", id) },
				func(id string) []string { return podman("rm", "-f", "-t", "0", id) }
		},
		// Its store stays mounted on itself.
		cleanUp: func() { exec.Command("umount", filepath.Join(p.dir, "podman-root", "overlay")).Run() },
	}
	_, err = output(p.archive, podman("load", "-q")...)
	return e, err
}

// bundled prepares a runtime of the OCI's kind.
func (p *preparation) bundled(name string) func() (*engine, error) {
	return func() (*engine, error) {
		bundle := filepath.Join(p.dir, name)
		if err := writeBundle(bundle, p.image); err != nil {
			return nil, err
		}
		state := filepath.Join(p.dir, name+"-state")
		return &engine{command: func(round int) []string {
			return []string{name, "--root", state, "run", "--bundle", bundle, "bench-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(round)}
		}}, nil
	}
}
