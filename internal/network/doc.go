// Package network is the networks of containers: bridges with their addresses,
// the veth pairs and namespaces of containers, the packet filter between them,
// and published ports.
//
// It owns the directory of networks, the interfaces whose names it has recorded
// there, and one table of nftables. It does not know images, specs or the
// states of containers: a container is an ID to it, and who is alive it is told
// by a function.
//
// On disk, below <root>/networks:
//
//	lock                  shared by whoever attaches a container; exclusive to make
//	                      and remove networks and to mend what the kernel has of them
//	filter.lock           held while the table changes
//	NAME/config.json      the network; written once
//	NAME/last             the address that was given last
//	NAME/endpoints/ADDR   who has the address: lines for the container and its names
//	NAME/nameserver       locked by the process that answers names
//
// An address is taken by making its file with link(2), so of two containers
// only one can have it. What a container's attachment has made outside of its
// namespace is written down, before it is made, in the container's own
// directory (package undo); the kernel itself removes the rest with the
// namespace.
package network
