// Package nameserver answers a container's questions for names: of the containers
// in its networks itself, and all others by asking the host's name servers.
//
// It runs in the container's monitor, on sockets that others have made in the
// container's network namespace, and asks from the host's. So it ends with the
// container, and a name server on the host's loopback can be reached. It knows the
// directories of networks only as files with lines for names and addresses
// (package network), which it reads again when they change, and imports next to
// nothing, as the monitor does.
package nameserver
