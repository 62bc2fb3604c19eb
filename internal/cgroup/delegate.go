package cgroup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	systemddbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/userns"
)

// keeper is the cgroup of the process that stays with a container, beside that of
// the container: a cgroup with processes of its own cannot limit others below it
// (cgroups(7), the rule of no internal processes).
const keeper = "keeper"

// prefix begins the names of cgroups that hold both.
const prefix = "brig-"

// Delegate gives an ordinary user's container a place on cgroup v2 where limits can
// be set, and puts the process pid, which is to make the container, beside it. The
// place is a scope of the user's systemd, to which the system's delegates
// controllers, or lies beside this process's own cgroup, if that one's parent is the
// user's. The path is one for New. An error says why there is no such place.
func Delegate(id string, pid int) (path string, err error) {
	if !cgroups.IsCgroup2UnifiedMode() {
		return "", errors.New("limits for ordinary users need cgroup v2 alone")
	}
	scope, err := delegated(id, pid)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(Root, scope, keeper)
	for range 10 { // another's sweep may take it for left
		if err = os.MkdirAll(dir, 0o755); err == nil {
			err = os.WriteFile(filepath.Join(dir, cgroups.CgroupProcesses), strconv.AppendInt(nil, int64(pid), 10), 0)
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			break
		}
	}
	return filepath.Join(scope, id), err
}

// sweep removes what is left of containers that have ended below a cgroup of the
// user's: a keeper cannot remove the cgroup that it is in, as systemd does.
func sweep(parent string) {
	scopes, _ := filepath.Glob(filepath.Join(Root, parent, prefix+"*"))
	for _, scope := range scopes {
		if unix.Rmdir(filepath.Join(scope, keeper)) != unix.EBUSY {
			unix.Rmdir(scope)
		}
	}
}

// delegated is the cgroup that is given to the container and its keeper.
func delegated(id string, pid int) (string, error) {
	own, err := unifiedOf(pid)
	if err != nil {
		return "", err
	}
	name := prefix + id
	if filepath.Base(own) == keeper && strings.HasPrefix(filepath.Base(filepath.Dir(own)), name) {
		return filepath.Dir(own), nil // of the keeper before, which starts the container again
	}
	err = userScope(fmt.Sprintf("%s-%d.scope", name, pid), pid)
	if err == nil {
		return unifiedOf(pid)
	}
	parent := filepath.Dir(own)
	if unix.Access(filepath.Join(Root, parent, "cgroup.subtree_control"), unix.W_OK) != nil ||
		unix.Access(filepath.Join(Root, parent, cgroups.CgroupProcesses), unix.W_OK) != nil {
		return "", fmt.Errorf("no cgroup is delegated to this user: %w", err)
	}
	sweep(parent)
	return filepath.Join(parent, name), nil
}

// unifiedOf is a process's cgroup of v2, below the root.
func unifiedOf(pid int) (string, error) {
	own, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	return own[""], nil
}

// userScope has the user's systemd make a scope around a process, that the user
// may divide as systemd does its own (systemd.io/CGROUP_DELEGATION).
func userScope(name string, pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := systemddbus.NewConnection(func() (*dbus.Conn, error) { return dialUserManager(ctx) })
	if err != nil {
		return fmt.Errorf("reach the user's systemd: %w", err)
	}
	defer conn.Close()
	done := make(chan string, 1)
	_, err = conn.StartTransientUnitContext(ctx, name, "replace", []systemddbus.Property{
		systemddbus.PropDescription("A container of Brig"),
		systemddbus.PropPids(uint32(pid)),
		{Name: "Delegate", Value: dbus.MakeVariant(true)},
		{Name: "CollectMode", Value: dbus.MakeVariant("inactive-or-failed")},
	}, done)
	if err != nil {
		return fmt.Errorf("the user's systemd: %w", err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("the user's systemd: start %s: %s", name, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the user's systemd: start %s: %w", name, ctx.Err())
	}
}

// dialUserManager connects to the socket on which the user's systemd takes
// systemctl's questions. It knows the user by the ID outside of this process's user
// namespace, and the library would say the one inside.
func dialUserManager(ctx context.Context) (*dbus.Conn, error) {
	uid, _, ok := userns.Outer()
	if !ok {
		uid = uint32(os.Getuid())
	}
	id := strconv.FormatUint(uint64(uid), 10)
	dir := cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), "/run/user/"+id)
	conn, err := dbus.Dial("unix:path="+filepath.Join(dir, "systemd/private"), dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(id)}); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
