// Package reach finds the system calls that programs can reach, by looking at
// their machine code: x86-64 ELF files, the libraries that they load, and the
// interpreters of scripts, in a tree of files. It knows no images and no
// policies, runs nothing, and trusts nothing in the files.
//
//	root, err := os.OpenRoot(dir)
//	r, err := reach.Program(root.FS(), "/usr/sbin/nginx")
//	r, err = reach.Tree(root.FS()) // all programs and libraries
//
// # How
//
// Code is cut into chunks: functions by .eh_frame, Go's table and symbols, or,
// where there is none of these, pieces between the places that calls lead to.
// Chunks are linked by calls, jumps, addresses of code that are taken, words in
// data (a chunk that uses an object of data reaches the functions in it) and
// symbols, as the dynamic linker binds them. A system call counts if the chunk
// with the instruction can be reached from the start of the program, of its
// dynamic linker, or of an initializer of one of its libraries.
//
// The number of a call is what the accumulator can hold at SYSCALL: values are
// followed through registers, the stack, branches and loops. A number that is an
// argument, as in syscall(2), __syscall_cancel of glibc or syscall.Syscall of Go,
// is looked up in the callers, also over files.
//
// # What the result is
//
// A superset of the calls that a program makes, except for
//
//   - Reach.Unknown, sites where the number was not found: any call may happen
//     there;
//   - libraries that are loaded at run time by names that no string of the
//     loading file or the program has, and that are no plugins of the program
//     (libraries elsewhere that lack symbols which it defines), no name services
//     of nsswitch.conf(5) and no LD_PRELOAD;
//   - functions looked up at run time by names that no such string has;
//   - programs that it executes: Tree has those;
//   - code that it makes itself, or gets by ptrace;
//   - pointers that cross from one object of data into the next one: see
//     codeMap.startsObject;
//   - execve of the program itself, which is made by who starts it.
//
// 32-bit programs, and those of other machines, are errors of Program and notes
// of Tree.
package reach
