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
// Conditions compare all 64 bits of an argument on x86-64, as libseccomp does.
// On the 32-bit ABIs i386 and x32 they compare the low 32 bits.
//
// # How a profile becomes a policy
//
// [Profile.Resolve] keeps the rules of the profile whose includes and excludes
// fit the target, and then for each ABI:
//
//   - Names that the ABI lacks are skipped.
//   - Rules with the same action as the default are skipped, though their names
//     count for the newest number. libseccomp cannot express them.
//   - If a rule without conditions exists for a call, the first such rule in
//     the order of the profile decides alone: rules with conditions that stand
//     beside it have no effect, wherever they stand and whatever their action.
//     This is libseccomp's rule.
//   - Rules with conditions keep the order of the profile, so the first that
//     holds decides, whatever the actions. libseccomp orders them by argument
//     in a tree, so where rules of different actions overlap on one call its
//     answer can be another one.
//   - A rule that compares one argument more than once becomes one rule for
//     each of its comparisons, of which any suffices, as in runc.
//   - On the 32-bit ABIs, a value that is a negative 32-bit number extended to
//     64 bits stands for its low 32 bits.
//   - i386 also reaches the socket calls through socketcall and the System V
//     IPC calls through ipc. A rule without conditions for such a call also
//     becomes a rule for the multiplexing call with that call's selector. The
//     arguments of socketcall lie in memory where no filter can see them, so
//     rules with conditions do not apply there; Resolve notes it.
package seccomp

//go:generate go run gen.go
