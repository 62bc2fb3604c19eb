// Package image owns images: their names, their configurations and manifests,
// the registries and archives that they come from and go to. It unpacks layers
// through package snapshot and knows no containers.
//
// # On disk, below <root>/images
//
//	blobs/sha256/HEX            configurations, manifests and layers, each as it
//	                            came, named by its digest and never changed
//	records/HEX.json            what a start needs of the image with that ID, in
//	                            one small file: layers, configuration, platform
//	refs/DOMAIN/PATH/:TAG       which image a name means; a digest takes the
//	refs/DOMAIN/PATH/@DIGEST    place of the tag for RepoDigests
//	partial/HEX                 a blob of which a part was downloaded
//	leases/NAME                 what a process at work needs, see below
//	tmp/NAME                    files being written
//	lock                        held while names change or garbage is collected
//
// Layer blobs are kept beside the unpacked layers, in the form in which they
// came. This costs disk space, and buys that push and save give bit for bit
// what pull and load have brought, with no rebuilding of archives.
//
// # Crashes and other processes
//
// There is no daemon: any number of processes work on a store at once, and each
// may be killed at any moment. A file gets its final name by one rename after
// its content was synced, so that what has a name is whole. Blobs come before
// the record that needs them, and the record before the name.
//
// What is on its way into the store has no record yet. The process that brings
// it lists its digests in a lease, a file with a flock on it; the collector of
// garbage spares what a lease names. A lease whose lock is free is that of a
// process that failed or died: it protects what was fetched for another day, so
// that the next try goes on where that one stopped.
package image
