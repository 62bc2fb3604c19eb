// Package spec turns an image's configuration and the user's wishes into an
// OCI runtime-spec.
//
// It owns Docker's defaults and the meaning of the values of Docker's run
// flags: one parser a flag ([ParseVolume], [ParseUlimit], ...), one structure
// that holds all wishes ([Options]), and [Build], which joins them with the
// image ([ImageConfig]), the machine ([Host]) and the container's own paths
// ([Input]).
//
// It knows no command line, no image store and no runtime. It starts, mounts
// and writes nothing. All that it reads is what [Build] needs to know: users
// and groups inside the container's root, confined to it, and the device nodes
// that the user named.
//
// The seccomp profile is not part of the spec that Build makes: the result only
// says which profile the user wants.
package spec
