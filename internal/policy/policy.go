// Package policy owns the policy file: what a container needs, with the evidence
// for each entry. It makes policies from recordings, merges and compares them,
// and turns them into a capability set and a seccomp profile.
//
// It knows recordings, capabilities and seccomp. It knows no containers, runs
// nothing and writes no other engine's files: that is package
// internal/policy/export.
package policy

import (
	"time"
)

// Version is the only version of the policy file so far.
const Version = 1

// Policy is a policy file: JSON with these fields.
type Policy struct {
	Version int    `json:"version"`
	Name    string `json:"name,omitempty"`
	Comment string `json:"comment,omitempty"`
	// Image and Command are what was learned from.
	Image   *Image   `json:"image,omitempty"`
	Command []string `json:"command,omitempty"`
	User    string   `json:"user,omitempty"`
	// Runs are numbered by Run.ID; the evidence below refers to them only by
	// counts.
	Runs         []Run        `json:"runs,omitempty"`
	Capabilities []Capability `json:"capabilities"`
	Syscalls     []Syscall    `json:"syscalls"`
	// Answers are errors that the seccomp profile gives in place of EPERM,
	// because programs fall back on older calls when they see them.
	Answers []Answer `json:"answers,omitempty"`
	Denials []Denial `json:"denials,omitempty"`
	// IOUring: io_uring was used, whose operations no seccomp filter sees.
	IOUring bool     `json:"ioUring,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// Image is what a container was made from.
type Image struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest,omitempty"` // of the manifest, sha256:...
}

// Purposes of a run.
const (
	PurposeLearn = "learn" // it is part of the evidence
	PurposeProve = "prove" // the whole policy was enforced
)

// Run is one recorded run, or the final one that proves the policy.
type Run struct {
	ID       string            `json:"id"`
	Purpose  string            `json:"purpose"`
	Kernel   string            `json:"kernel,omitempty"`
	Machine  string            `json:"machine,omitempty"` // Go's name: amd64
	Started  time.Time         `json:"started"`
	Seconds  float64           `json:"seconds"`
	Under    string            `json:"under,omitempty"` // the policy in force: default, unconfined, a file, learned
	Probe    string            `json:"probe,omitempty"`
	Passed   *bool             `json:"passed,omitempty"` // the probe's verdict
	Complete bool              `json:"complete"`
	Lost     map[string]uint64 `json:"lost,omitempty"`
	// New counts the system calls and capabilities that no run before had.
	New int `json:"new"`
}

// How sure an entry is.
const (
	// Verified: without it the probe failed; Breaks says how.
	Verified = "verified"
	// Asked: it was used, and nobody tried to run without it.
	Asked = "asked"
	// Unneeded: it was asked for, and the probe passes without it.
	Unneeded = "unneeded"
	// Noise: the kernel's own bookkeeping asked for it.
	Noise = "noise"
	// Base: no program runs without it, or the engine needs it to start one.
	Base = "base"
	// Added: a person put it in.
	Added = "added"
)

// Capability is one capability that the container asked for. Verified, Asked and
// Added ones are granted; Unneeded and Noise ones are not.
type Capability struct {
	Name    string `json:"name"` // without CAP_
	Status  string `json:"status"`
	Breaks  string `json:"breaks,omitempty"`
	Why     string `json:"why,omitempty"` // from the kernel's stack, in words
	Comment string `json:"comment,omitempty"`
	// First is the run in which it was asked for first.
	First string `json:"first,omitempty"`
	// Granted and Refused count the kernel's answers over all runs.
	Granted  uint64   `json:"granted,omitempty"`
	Refused  uint64   `json:"refused,omitempty"`
	Runs     int      `json:"runs,omitempty"` // in how many it was asked for
	Syscalls []string `json:"syscalls,omitempty"`
	Programs []string `json:"programs,omitempty"`
}

// Syscall is one system call. Unneeded ones are not allowed. The profile is for
// all ABIs that are named anywhere in the policy, and allows a call on all of
// them: the forms that engines read cannot tell them apart.
type Syscall struct {
	Name    string   `json:"name"`
	Status  string   `json:"status"`
	Breaks  string   `json:"breaks,omitempty"`
	Comment string   `json:"comment,omitempty"`
	ABIs    []string `json:"abis,omitempty"` // where it was seen: amd64, x86, x32, as syscalls.Arch.Short
	// Startup and Running count calls before and after the container was ready.
	Startup uint64 `json:"startup,omitempty"`
	Running uint64 `json:"running,omitempty"`
	Runs    int    `json:"runs,omitempty"`
	First   *First `json:"first,omitempty"`
	Args    []Arg  `json:"args,omitempty"`
}

// First is the first use of a call, over all runs.
type First struct {
	Program string  `json:"program"`
	Thread  string  `json:"thread,omitempty"` // if it is not called as the program
	Run     string  `json:"run,omitempty"`
	Seconds float64 `json:"seconds"` // since the run's start
}

// Arg is what an argument of a call was seen to be.
type Arg struct {
	Index  uint8    `json:"index"`
	Values []uint64 `json:"values"`
	// More: there were more values than the recorder keeps, so no condition can
	// be made.
	More bool `json:"more,omitempty"`
	// Memory: the values were read from memory, where no filter can look.
	Memory bool `json:"memory,omitempty"`
	// Enforce makes a condition of it: the call is allowed with these values only.
	Enforce bool `json:"enforce,omitempty"`
	// Tried are those of the values without which the container was run.
	Tried []Tried `json:"tried,omitempty"`
}

// Tried is what came of running without a value of an argument. An unneeded one is
// not allowed, where the argument is a condition.
type Tried struct {
	Value  uint64 `json:"value"`
	Status string `json:"status"`
	Breaks string `json:"breaks,omitempty"`
}

// Answer is the error that a call which is not allowed gets.
type Answer struct {
	Name  string `json:"name"`
	Errno string `json:"errno"`
}

// Denial is one distinct thing that was refused while recording. It grants
// nothing.
type Denial struct {
	Syscall      string   `json:"syscall"`
	ABI          string   `json:"abi,omitempty"`
	Program      string   `json:"program,omitempty"`
	Errno        string   `json:"errno,omitempty"` // EPERM; "" when killed
	Killed       bool     `json:"killed,omitempty"`
	By           string   `json:"by"` // seccomp, capability, seccomp+capability
	Capabilities []string `json:"capabilities,omitempty"`
	Count        uint64   `json:"count"`
	Runs         int      `json:"runs,omitempty"`
}
