// Package monitor is the one small process that stays with each running
// container, and the protocol to talk to it.
//
// It owns a container's life from the clone of its first process to the record
// of its exit: the parenthood, the pipes or the terminal, the log, the clients
// that are attached, the processes that `brig exec` adds, the removal of the
// cgroups, and the state file. The commands may come and go, or be killed; the
// container does not notice.
//
// It knows no images, no OCI and no flags: the engine sends it a start program
// (package runtime/inside) and a handful of paths. It imports next to nothing,
// for it must boot at once and then live in a few MiB: it runs from the init
// function of package boot, before the heavy packages of the binary wake up.
package monitor
