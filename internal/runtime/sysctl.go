package runtime

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ipcSysctls belong to the IPC namespace, ipc_namespaces(7), beside fs.mqueue.*.
var ipcSysctls = [...]string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
	"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}

// sysctls refuses each kernel parameter that would not be the container's own.
func (v *validator) sysctls() error {
	for _, key := range sortedKeys(v.linux.Sysctl) {
		if hasNUL(key + v.linux.Sysctl[key]) {
			return fmt.Errorf("linux.sysctl: %q contains a null byte", key)
		}
		if err := v.sysctl(key, sysctlName(key)); err != nil {
			return fmt.Errorf("linux.sysctl: %w", err)
		}
	}
	return nil
}

// sysctlName is a parameter's name with dots, whichever way it is written.
func sysctlName(key string) string { return strings.ReplaceAll(sysctlPath(key), "/", ".") }

func (v *validator) sysctl(key, name string) error {
	if slices.Contains(strings.Split(sysctlPath(key), "/"), "..") {
		return fmt.Errorf("%q is not the name of a kernel parameter", key)
	}
	switch {
	case slices.Contains(ipcSysctls[:], name), strings.HasPrefix(name, "fs.mqueue."):
		if !v.has(specs.IPCNamespace) {
			return fmt.Errorf("sysctl %q is not allowed in the hosts ipc namespace", key)
		}
		return nil
	case strings.HasPrefix(name, "net."):
		return v.netSysctl(key)
	case name == "kernel.domainname" && v.has(specs.UTSNamespace):
		return nil
	case name == "kernel.hostname" && v.has(specs.UTSNamespace):
		return fmt.Errorf("sysctl %q is not allowed as it conflicts with the OCI %q field", key, "hostname")
	case strings.HasPrefix(name, "user."):
		if !v.has(specs.UserNamespace) {
			return fmt.Errorf("setting ucounts without a user namespace not allowed: %v", key)
		}
		return nil
	}
	return fmt.Errorf("sysctl %q is not in a separate kernel namespace", key)
}

func (v *validator) netSysctl(key string) error {
	ns := v.namespace(specs.NetworkNamespace)
	host := ns == nil
	if ns != nil && ns.Path != "" {
		var mine, theirs unix.Stat_t
		if err := unix.Stat("/proc/self/ns/net", &mine); err != nil {
			return fmt.Errorf("look at the network namespace of the caller: %w", err)
		}
		if err := unix.Stat(ns.Path, &theirs); err != nil {
			return fmt.Errorf("look at the network namespace %s: %w", ns.Path, err)
		}
		host = mine.Dev == theirs.Dev && mine.Ino == theirs.Ino
	}
	if host {
		return fmt.Errorf("sysctl %q not allowed in host network namespace", key)
	}
	return nil
}
