// Package seccomp turns profiles of allowed system calls, in Docker's or OCI's
// JSON, into filters that the kernel loads. It works in three steps:
//
//	profile, err := seccomp.LoadProfile("p.json")     // strict reading
//	policy, notes, err := profile.Resolve(target)     // for one machine and set of capabilities
//	filter, err := seccomp.Compile(policy)            // a program for the kernel
//
// It knows nothing of containers, and no cgo and no libseccomp is involved.
//
// # What a policy means
//
// [Policy.Decide] defines the meaning of a policy; programs that [Compile]
// makes must answer the same for every input. For a call with an architecture,
// a number and six arguments:
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
//     or TRACE, as in runc.
//  4. Otherwise the default action decides.
//
// Conditions compare all 64 bits of an argument on x86-64 and arm64, as
// libseccomp does, also where the kernel looks only at the low 32. On the
// 32-bit ABIs i386, x32 and arm they compare the low 32 bits.
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
//   - On the 32-bit ABIs, a value that is a negative 32-bit number extended to
//     64 bits stands for its low 32 bits.
//   - i386 also reaches the socket calls through socketcall and the System V
//     IPC calls through ipc. A rule without conditions for such a call also
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
// refuses two with the same conditions. A value of more than 32 bits never
// equals an argument of a 32-bit ABI; libseccomp cuts it. Conditions on a call
// behind socketcall or ipc are dropped by libseccomp, so that an allowance
// becomes a wider one. The version in the upper half of ipc's selector is
// ignored, as the kernel does; for libseccomp it makes another selector. Some
// versions of libseccomp go wrong on several bounds of 64 bits for one call.
// Names that no table knows are errors here, and skipped by runc.
package seccomp

//go:generate go run gen.go
