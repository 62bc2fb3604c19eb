// Package tree moves trees of files: into a tar archive (Pack), out of one
// (Unpack), and from directory to directory (Copy).
//
// A tree may be a container's, which is hostile and may change meanwhile. Every
// path in it is opened by openat2(2) with the tree's root as the root of all
// links, and from then on used by descriptor: no name leads out, and what is
// swapped for a link is not followed (CVE-2018-15664). Nothing in the tree is
// executed or loaded (CVE-2019-14271).
//
// It knows no layers, images or containers.
package tree
