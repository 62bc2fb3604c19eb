// Package oci is an OCI runtime: the life of containers that another engine
// (containerd, Docker, podman, Kubernetes) has prepared as bundles.
//
// It owns the state of such containers on disk, the order of the operations
// create, start, kill, delete and their relatives (runtime-spec, runtime.md), the
// hooks, and what is handed to the caller: consoles, process IDs, listeners. It
// knows no images and no networks, and it makes no system call inside a
// container: package runtime plans those, and the plan is performed by the
// process that creates the container, which then ends. No process of Brig stays.
//
// On disk, below the root (/run/brig-runtime), for each container:
//
//	ID/lock         held by whoever changes the container
//	ID/record.json  what must be known to clean up, from before anything is made
//	ID/config.json  the bundle's, as it was at creation, without the filter's rules
//	ID/filter       the compiled seccomp filter, for exec
//	ID/program      the start program, shared with the waiting process
//	ID/gate         socket on which that process waits for the start
//	ID/notify/      socket of sd_notify, mounted in the container
//
// A process that is killed at any point leaves no more than what record.json
// names, and delete removes it.
package oci
