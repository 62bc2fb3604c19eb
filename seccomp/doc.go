// Package seccomp turns profiles of allowed system calls into filters that the
// kernel loads, and answers questions about both. It works in three steps:
//
//	profile, form, err := seccomp.LoadAny("p.json")   // strict reading
//	policy, notes, err := profile.Resolve(target)     // for one machine and set of capabilities
//	filter, err := seccomp.Compile(policy)            // a program for the kernel
//
// Profiles are read and written in Docker's JSON, OCI's JSON, a text form of
// its own ([ParseText]) and that of systemd's units. They can be merged, compared
// ([Diff]) and explained ([Profile.Explain]). Every program that Compile returns
// is proved to answer what its policy says. All Linux architectures that
// containers run on can be targets, from any host.
//
// It knows nothing of containers, and no cgo and no libseccomp is involved.
//
// # What a policy means
//
// [Policy.Decide] defines the meaning of a policy: a pure function of the
// architecture, the number and the six arguments of a call. Programs that
// [Compile] makes answer the same for every input; [Policy.Spec] says it in the
// terms of package bpf, whose prover holds the programs against it. For a call:
//
//  1. The ABI is found from the architecture, and for x86-64 from the number:
//     numbers from 0x40000000 on are x32 calls, except 0xffffffff, which no
//     call has and which tracers use to skip a call. An ABI that the policy
//     does not list gets the action for other architectures: KILL_THREAD, as
//     with libseccomp and so with runc.
//  2. The rules of the call are tried in order. The first whose conditions all
//     hold decides. A rule without conditions holds always.
//  3. If no rule decides and the number is above the newest that the profile
//     names for this ABI, the answer is ERRNO(ENOSYS), so that programs fall
//     back to older calls. This holds unless the default action is ALLOW, LOG
//     or TRACE, as in runc. The calls that only x32 has, 512 to 547, count for
//     no newest number, nor are they ever newer: there will be no more of them.
//  4. Otherwise the default action decides.
//
// Conditions compare an argument without sign and at the width at which the
// kernel reads it (package syscalls, [syscalls.Call.Width]): 32 bits of an int,
// 16 of a umode_t, 64 of a pointer, a long or a size_t of a 64-bit ABI. What a
// program puts into the bits above changes nothing for the kernel, and so
// nothing for the filter: socket(0x100000028, ...) is socket(AF_VSOCK, ...).
// [Options] can ask for libseccomp's comparison of whole registers.
//
// Recent kernels do not ask filters about uretprobe and uprobe
// of x86-64, which only code that the kernel put into a process may make.
//
// # How a profile becomes a policy
//
// [Profile.Resolve] keeps the rules of the profile whose includes and excludes
// fit the target, and then for each ABI:
//
//   - Names that the ABI lacks are skipped.
//   - Rules with the same action as the default are skipped, though their names
//     count for the newest number. The private calls of arm do not count.
//   - If a rule without conditions exists for a call, the first such rule in
//     the order of the profile decides alone: rules with conditions that stand
//     beside it have no effect, wherever they stand and whatever their action.
//     Resolve notes it if their actions differ.
//   - Rules with conditions keep the order of the profile.
//   - A rule that compares one argument more than once becomes one rule for
//     each of its comparisons, of which any suffices, as in runc.
//   - A value that is a negative number of the argument's width, extended to 64
//     bits, stands for its low bits. Other values that do not fit are never
//     equal; a condition that no argument can meet on any architecture is an
//     error when the profile is read.
//   - On x32, the x86-64 number of a call is one of its numbers too, with the
//     bit of x32, also where x32 has an own entry or none: kernels before 5.4
//     run x86-64's call then, and later ones none.
//   - i386 and other old ABIs (MIPS o32, PowerPC, s390) also reach the socket
//     calls through socketcall and the System V IPC calls through ipc. A rule without conditions for such a call also
//     becomes a rule for the multiplexing call with that call's selector. A
//     rule with conditions does so, without its conditions, if its action
//     restricts more than the default, and else not: the arguments of
//     socketcall lie in memory where no filter can see them, and what cannot be
//     seen is not allowed. Resolve notes it. A rule without conditions for
//     socketcall or ipc itself decides alone.
//   - If the profile does not say anything about flags, SPEC_ALLOW is set, as
//     in runc; an empty list sets none.
//
// # Differences from libseccomp and runc
//
// Where rules of different actions overlap on one call, the first in the order
// of the profile decides; libseccomp orders them by their arguments, and
// refuses two with the same conditions. Arguments of less than 64 bits are
// compared at their width, where libseccomp compares the register: a rule that
// denies a value is evaded there by setting higher bits, and one that allows -1
// refuses it sign-extended. A value of more than 32 bits never equals an
// argument of a 32-bit ABI; libseccomp cuts it. Conditions on a call
// behind socketcall or ipc are dropped by libseccomp, so that an allowance
// becomes a wider one. The version in the upper half of ipc's selector is
// ignored, as the kernel does; for libseccomp it makes another selector. Some
// versions of libseccomp go wrong on several bounds of 64 bits for one call.
// Names that no table knows are errors here, and skipped by runc.
package seccomp

//go:generate go run gen.go
