// Package rootless takes a command of an ordinary user into a user namespace in
// which that user is root, so that all other packages can do there what they do
// as root, as far as the kernel lets them.
//
// It owns the namespace: one for each user, with a mount namespace, held by a
// small process, because a container's namespaces can be entered only from the
// one that they were made in. It owns the maps of IDs, too: the user becomes 0,
// and the ranges of /etc/subuid and /etc/subgid follow, which newuidmap(1) and
// newgidmap(1) grant. It knows no containers.
package rootless
