package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// formNames are calls of all kinds: on all architectures and on some, with
// arguments that have constants, multiplexed, and new.
var formNames = strings.Fields(`read write openat open socket socketpair clone clone3 unshare setns prctl personality
	ptrace bpf mount umount2 chroot socketcall ipc shmget semop connect time stime fstatat64 mmap2 arch_prctl
	s390_pci_mmio_read breakpoint set_tls cachestat mseal statmount futex_waitv kexec_load io_uring_setup`)

var formTexts = []string{
	"", "", "", "one", "two\nlines", "# marks", "\nfirst line empty", " begins with a blank", "ends with one ",
	"tab\there", "\"quoted\"", "\"half", "a\rb", "last line empty\n", "früh", "a\x00b", "#", "allow read", "\\",
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// some draws up to n different items.
func some[T any](rng *rand.Rand, list []T, n int) []T {
	var out []T
	for _, i := range rng.Perm(len(list))[:rng.IntN(n+1)] {
		out = append(out, list[i])
	}
	return out
}

var formActions = []Action{Allow, Allow, Allow, Log, Errno(1), Errno(38), Errno(0), Errno(4095), Trace(0), Trace(7), Trap, KillThread, KillProcess, Notify}

var formArches = []Arch{X86_64, I386, X32, ARM, ARM64, syscalls.RISCV64, syscalls.S390, syscalls.S390X, syscalls.PARISC, syscalls.MIPSEL64N32}

func formCondition(rng *rand.Rand, r *SyscallRule) Condition {
	for {
		c := Condition{Index: uint8(rng.IntN(6)), Op: Op(rng.IntN(len(opNames))), Value: uint64(rng.IntN(20))}
		switch rng.IntN(4) {
		case 0:
			c.Value = rng.Uint64()
		case 1:
			c.Value = 0x7e020000
		case 2:
			c.Value = uint64(int64(-1 - rng.IntN(3)))
		}
		if c.Op == MaskedEQ {
			c.ValueTwo = c.Value & rng.Uint64()
		}
		if c.validate() == nil && r.possible(c) == nil {
			return c
		}
	}
}

func formSelector(rng *rand.Rand) Selector {
	var s Selector
	if rng.IntN(3) > 0 {
		return s
	}
	s.Caps = capability.Of(some(rng, []capability.Cap{capability.SYS_ADMIN, capability.BPF, capability.CHOWN, capability.SYS_TIME}, 2)...)
	if rng.IntN(3) == 0 {
		s.Arches = some(rng, formArches, 3)
	}
	if rng.IntN(3) == 0 {
		s.MinKernel = KernelVersion{4 + rng.IntN(3), rng.IntN(20)}
	}
	return s
}

// formProfile draws a profile that uses all that profiles have.
func formProfile(rng *rand.Rand) *Profile {
	p := &Profile{File: "random", DefaultAction: pick(rng, formActions[:len(formActions)-1])}
	switch rng.IntN(3) {
	case 0:
		p.Architectures = some(rng, formArches, 3)
	case 1:
		for _, a := range some(rng, formArches, 3) {
			p.ArchMap = append(p.ArchMap, ArchFamily{a, some(rng, formArches, 2)})
		}
	}
	if rng.IntN(2) == 0 {
		p.FlagsGiven = true
		for _, f := range some(rng, []Flags{FlagTSync, FlagLog, FlagSpecAllow, FlagWaitKillableRecv}, 3) {
			p.Flags |= f
		}
	}
	if rng.IntN(4) == 0 {
		p.ListenerPath = pick(rng, []string{"/run/agent.sock", "/run/with blank", "rel|ative", "/ä#b"})
		p.ListenerMetadata = pick(rng, formTexts)
	}
	for range rng.IntN(8) {
		r := SyscallRule{
			Action: pick(rng, formActions), Comment: pick(rng, formTexts),
			Includes: formSelector(rng), Excludes: formSelector(rng),
		}
		r.Names = append(some(rng, formNames, 25), pick(rng, formNames))
		for range rng.IntN(4) {
			r.Args = append(r.Args, formCondition(rng, &r))
		}
		p.Syscalls = append(p.Syscalls, r)
	}
	return p
}

// roundTrip writes the profile and reads it back.
func roundTrip(t *testing.T, p *Profile, write func() ([]byte, error), read func(string, []byte) (*Profile, error)) []byte {
	t.Helper()
	data, err := write()
	if err != nil {
		t.Fatalf("%+v: %v\n%s", p, err, data)
	}
	back, err := read("back", data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if want, got := said(p), said(back); want != got {
		t.Fatalf("wrote %.2000s\nread %.2000s\n%.2000s", want, got, data)
	}
	if again, err := write(); err != nil || string(again) != string(data) {
		t.Fatalf("written twice: %v\n%s\n%s", err, data, again)
	}
	return data
}

// said returns what a profile says as text, without where it was read.
func said(p *Profile) string {
	q := *p
	q.File = ""
	q.Syscalls = nil
	for _, r := range p.Syscalls {
		r.Line, r.calls = 0, nil
		q.Syscalls = append(q.Syscalls, r)
	}
	// A list of none says the same as no list.
	return strings.ReplaceAll(fmt.Sprintf("%#v", q), "(nil)", "{}")
}

func TestRoundTripsOfRandomProfiles(t *testing.T) {
	for seed := range uint64(1000) {
		p := formProfile(rand.New(rand.NewPCG(seed, 7)))
		roundTrip(t, p, p.DockerJSON, ParseProfile)
		roundTrip(t, p, p.Text, ParseText)
	}
}

// Docker's profiles and those of its tests, in both forms.
func TestRoundTripsOfRealProfiles(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(profileModule(t), "fixtures", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no profiles: %v", err)
	}
	profiles := []*Profile{Default()}
	for _, file := range files {
		if p, err := LoadProfile(file); err == nil {
			profiles = append(profiles, p)
		}
	}
	if len(profiles) < 3 {
		t.Fatalf("only %d profiles", len(profiles))
	}
	for _, p := range profiles {
		t.Run(filepath.Base(p.File), func(t *testing.T) {
			roundTrip(t, p, p.DockerJSON, ParseProfile)
			roundTrip(t, p, p.Text, ParseText)
		})
	}
}

// Docker's own file has the fields in the form that DockerJSON writes.
func TestDockerJSONReadsAsDockers(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(profileModule(t), "default.json"))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := Default().DockerJSON()
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(ours, &got); err != nil {
		t.Fatal(err)
	}
	dropEmpty(want)
	dropEmpty(got)
	if !reflect.DeepEqual(want, got) {
		t.Errorf("written:\n%s\nDocker's:\n%s", ours, data)
	}
}

// dropEmpty removes the fields that say nothing, and numbers that are the
// default.
func dropEmpty(v map[string]any) {
	for key, value := range v {
		switch value := value.(type) {
		case map[string]any:
			dropEmpty(value)
			if len(value) == 0 {
				delete(v, key)
			}
		case []any:
			for _, item := range value {
				if m, ok := item.(map[string]any); ok {
					dropEmpty(m)
				}
			}
			if len(value) == 0 {
				delete(v, key)
			}
		case nil:
			delete(v, key)
		case string:
			if value == "" {
				delete(v, key)
			}
		case float64:
			if key == "valueTwo" && value == 0 {
				delete(v, key)
			}
		}
	}
}

func TestOCIJSONResolvesAlike(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 8))
		p := formProfile(rng)
		target := Target{Arch: pick(rng, []Arch{X86_64, ARM64, I386, syscalls.S390X, syscalls.MIPSEL64N32}), Caps: formSelector(rng).Caps, Kernel: KernelVersion{5, 4}}
		data, err := p.OCIJSON(target)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "archMap") || strings.Contains(string(data), "cludes") || strings.Contains(string(data), "comment") {
			t.Fatalf("fields that OCI does not have:\n%s", data)
		}
		back := mustParse(t, string(data))
		want, got := mustResolve(t, p, target), mustResolve(t, back, target)
		for range 2000 {
			a := pick(rng, want.Archs)
			nr := uint32(rng.IntN(470)) | a.Arch.Bit()
			args := randomArgs(rng, conditionsOf(want, a.Arch.Audit(), nr))
			if w, g := want.Action(a.Arch.Audit(), nr, args), got.Action(a.Arch.Audit(), nr, args); w != g {
				t.Fatalf("%v %d %x: %v, from OCI's form %v\n%s", a.Arch, nr, args, w, g, data)
			}
		}
		if want.Flags != got.Flags || want.ListenerPath != got.ListenerPath {
			t.Fatalf("flags %v and %v, listener %q and %q", want.Flags, got.Flags, want.ListenerPath, got.ListenerPath)
		}
	}
}

// What no parser lets in, no writer lets out.
func TestWritersRefuseWhatCannotBeRead(t *testing.T) {
	for _, tc := range []struct {
		change func(p *Profile)
		want   string
	}{
		{func(p *Profile) { p.Syscalls[0].Names = []string{"raed"} }, `p.json: .*unknown system call "raed"; did you mean read?`},
		{func(p *Profile) { p.Syscalls[0].Names = nil }, `names no system call`},
		{func(p *Profile) { p.Syscalls[0].Args = []Condition{{Index: 6}} }, `arguments`},
		{func(p *Profile) { p.Syscalls[0].Action = 0x12340000 }, `unknown action`},
		{func(p *Profile) { p.Syscalls[0].Comment = "\xff" }, ``},
		{func(p *Profile) { p.Flags = FlagNewListener }, ``},
		{func(p *Profile) { p.ListenerMetadata = "x" }, `listener`},
	} {
		for i, write := range []func(p *Profile) ([]byte, error){(*Profile).DockerJSON, (*Profile).Text} {
			p := mustParse(t, inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW"}`))
			tc.change(p)
			data, err := write(p)
			if i == 1 && p.Syscalls[0].Comment == "\xff" { // the text form can
				roundTrip(t, p, p.Text, ParseText)
				continue
			}
			if err == nil || !strings.HasPrefix(err.Error(), "write seccomp profile: p.json: ") {
				t.Errorf("%q: writer %d: %v\n%s", tc.want, i, err, data)
			}
		}
	}
}

func FuzzDockerJSON(f *testing.F) {
	data, err := Default().DockerJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for seed := range uint64(20) {
		if data, err = formProfile(rand.New(rand.NewPCG(seed, 9))).DockerJSON(); err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile("f", data)
		if err != nil {
			return
		}
		roundTrip(t, p, p.DockerJSON, ParseProfile)
		roundTrip(t, p, p.Text, ParseText)
	})
}
