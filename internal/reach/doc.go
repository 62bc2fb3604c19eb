// Package reach finds the system calls that programs can reach, by looking at
// their machine code: x86-64 ELF files, the libraries that they load, and the
// interpreters of scripts, in a tree of files. It knows no images and no
// policies, and runs nothing.
package reach
