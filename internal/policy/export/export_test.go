package export

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	moby "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/seccomp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// nginx is a policy such as nginx gets: its system calls under load, one
// condition on an argument, and an answer that makes the C library fall back.
func nginx() Input {
	caps := []string{"CHOWN", "SETGID", "SETUID", "NET_BIND_SERVICE"}
	calls := strings.Fields(`accept4 access arch_prctl bind brk clone close connect dup2 epoll_create1 epoll_ctl epoll_wait
		eventfd2 execve exit_group fcntl fstat futex getdents64 geteuid getpid getppid getrandom gettid io_setup ioctl kill
		listen lseek mkdir mmap mprotect munmap newfstatat openat prctl pread64 prlimit64 read recvfrom rseq
		rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend sendmsg set_robust_list set_tid_address setgid setgroups
		setsockopt setuid socketpair sysinfo umask uname unlink wait4 write writev`)
	p := &policy.Policy{
		Version: policy.Version, Name: "nginx", Image: &policy.Image{Reference: "docker.io/library/nginx:1.27"},
		Command: []string{"nginx", "-g", "daemon off;"},
		Runs:    []policy.Run{{ID: "1", Purpose: policy.PurposeLearn, Machine: "amd64", Complete: true}},
		Answers: []policy.Answer{{Name: "clone3", Errno: "ENOSYS"}},
	}
	for _, c := range caps {
		p.Capabilities = append(p.Capabilities, policy.Capability{Name: c, Status: policy.Verified})
	}
	for _, c := range calls {
		p.Syscalls = append(p.Syscalls, policy.Syscall{Name: c, Status: policy.Asked})
	}
	p.Syscalls = append(p.Syscalls, policy.Syscall{Name: "socket", Status: policy.Asked,
		Args: []policy.Arg{{Index: 0, Values: []uint64{unix.AF_UNIX, unix.AF_INET}, Enforce: true}}})
	set, _ := capability.ParseSet(caps)
	profile := &seccomp.Profile{
		DefaultAction: seccomp.Errno(uint16(unix.EPERM)),
		ArchMap:       []seccomp.ArchFamily{{Arch: seccomp.X86_64, SubArches: []seccomp.Arch{seccomp.I386, seccomp.X32}}},
		Syscalls: []seccomp.SyscallRule{
			{Names: calls, Action: seccomp.Allow},
			socketRule(unix.AF_UNIX), socketRule(unix.AF_INET),
			{Names: []string{"clone3"}, Action: seccomp.Errno(uint16(unix.ENOSYS))},
		},
	}
	return Input{Policy: p, Profile: profile, Capabilities: set, Target: amd64(set)}
}

func socketRule(family uint64) seccomp.SyscallRule {
	return seccomp.SyscallRule{Names: []string{"socket"}, Action: seccomp.Allow, Args: []seccomp.Condition{{Index: 0, Op: seccomp.EQ, Value: family}}}
}

func amd64(caps capability.Set) *seccomp.Target {
	return &seccomp.Target{Arch: seccomp.X86_64, Caps: caps, Kernel: seccomp.KernelVersion{Major: 6, Minor: 1}}
}

func TestGolden(t *testing.T) {
	for _, format := range Names() {
		t.Run(format, func(t *testing.T) {
			res := export(t, format, nginx())
			dir := filepath.Join("testdata", format)
			if *update {
				os.RemoveAll(dir)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			files := append(slices.Clone(res.Files), File{"notes.txt", []byte(strings.Join(res.Notes, "\n") + "\n")})
			for _, f := range files {
				path := filepath.Join(dir, f.Name)
				if *update {
					if err := os.WriteFile(path, f.Data, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(want, f.Data) {
					t.Errorf("%s differs (%v); if that is right, run the test with -update. Now it is:\n%s", path, err, f.Data)
				}
			}
			entries, _ := os.ReadDir(dir)
			if len(entries) != len(files) {
				t.Errorf("%s has %d files, the export %d", dir, len(entries), len(files))
			}
		})
	}
}

// Docker's own code reads the profile for Docker as what the fragment for OCI
// has.
func TestDockerReadsProfile(t *testing.T) {
	docker, oci := export(t, "docker", nginx()), export(t, "oci", nginx())
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	got, err := moby.LoadProfile(string(docker.Files[0].Data), spec)
	if err != nil {
		t.Fatal(err)
	}
	var fragment specs.Spec
	if err := json.Unmarshal(oci.Files[0].Data, &fragment); err != nil {
		t.Fatal(err)
	}
	want := fragment.Linux.Seccomp
	if !reflect.DeepEqual(policyOf(t, got), policyOf(t, want)) {
		t.Errorf("Docker reads %+v, want %+v", got, want)
	}
}

// policyOf resolves a profile of OCI's form.
func policyOf(t *testing.T, oci *specs.LinuxSeccomp) []seccomp.ArchRules {
	t.Helper()
	data, err := json.Marshal(oci)
	if err != nil {
		t.Fatal(err)
	}
	return resolve(t, data, seccomp.Options{WideArgs: true}).Archs
}

func resolve(t *testing.T, data []byte, o seccomp.Options) *seccomp.Policy {
	t.Helper()
	p, err := seccomp.ParseProfile("profile", data)
	if err != nil {
		t.Fatal(err)
	}
	pol, _, err := p.ResolveWith(*amd64(0), o)
	if err != nil {
		t.Fatal(err)
	}
	return pol
}

// A runtime that compares whole registers decides as Brig does, on bits that the
// kernel does not read too.
func TestRegisters(t *testing.T) {
	in := nginx()
	in.Runtimes = []string{"brig"}
	for _, format := range []string{"docker", "podman", "kubernetes", "compose"} {
		res := export(t, format, in)
		data := res.Files[slices.IndexFunc(res.Files, func(f File) bool { return strings.HasSuffix(f.Name, ".json") })].Data
		theirs := resolve(t, data, seccomp.Options{WideArgs: true})
		ours, _, err := in.Profile.Resolve(*in.Target)
		if err != nil {
			t.Fatal(err)
		}
		const socket = 41
		for _, family := range []uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_VSOCK, 1<<32 | unix.AF_INET, 1<<63 | unix.AF_UNIX, 1<<32 | unix.AF_VSOCK} {
			args := [6]uint64{family}
			got, want := theirs.Decide(seccomp.X86_64.Audit(), socket, args), ours.Decide(seccomp.X86_64.Audit(), socket, args)
			if got.Action != want.Action {
				t.Errorf("%s: socket(%#x): %v, and under Brig %v", format, family, got.Action, want.Action)
			}
		}
	}
}

// What the runtimes need loosens conditions only by the values that they use,
// and says so; refusals of what they need are lifted, and that is said.
func TestNeedsBesideConditions(t *testing.T) {
	in := nginx()
	p := *in.Profile
	p.Syscalls = slices.Clone(p.Syscalls)
	p.Syscalls[0].Names = slices.DeleteFunc(slices.Clone(p.Syscalls[0].Names), func(n string) bool { return n == "prctl" || n == "openat" })
	p.Syscalls = append(p.Syscalls,
		seccomp.SyscallRule{Names: []string{"prctl"}, Action: seccomp.Allow, Args: []seccomp.Condition{{Index: 0, Op: seccomp.EQ, Value: unix.PR_SET_NAME}}},
		seccomp.SyscallRule{Names: []string{"openat"}, Action: seccomp.Allow, Args: []seccomp.Condition{{Index: 2, Op: seccomp.EQ, Value: unix.O_CLOEXEC}}},
		seccomp.SyscallRule{Names: []string{"close_range", "faccessat2"}, Action: seccomp.Errno(uint16(unix.ENOSYS))},
	)
	in.Profile = &p
	res := export(t, "docker", in)
	pol := resolve(t, res.Files[0].Data, seccomp.Options{WideArgs: true})
	allowed := func(nr uint32, args ...uint64) bool {
		var a [6]uint64
		copy(a[:], args)
		return pol.Decide(seccomp.X86_64.Audit(), nr, a).Action == seccomp.Allow
	}
	for _, c := range []struct {
		what string
		got  bool
		want bool
	}{
		{"prctl(PR_SET_NAME)", allowed(157, unix.PR_SET_NAME), true},
		{"prctl(PR_CAPBSET_DROP)", allowed(157, unix.PR_CAPBSET_DROP), true},
		{"prctl(PR_SET_DUMPABLE)", allowed(157, unix.PR_SET_DUMPABLE), false},
		{"openat(O_RDWR)", allowed(257, 0, 0, unix.O_RDWR), true},
		{"close_range", allowed(436), true},
		{"faccessat2", allowed(439), true},
		{"mount", allowed(165), false},
		{"clone3", allowed(435), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: allowed %v, want %v", c.what, c.got, c.want)
		}
	}
	for _, want := range []string{"prctl is allowed with argument 0 as 0x8, 0x18, 0x2f too", "openat is allowed with any arguments too", "close_range is allowed, which the policy answers with ERRNO", "faccessat2 is allowed, which"} {
		if !slices.ContainsFunc(res.Notes, func(n string) bool { return strings.HasPrefix(n, want) }) {
			t.Errorf("no note %q in %q", want, res.Notes)
		}
	}
	if len(p.Syscalls) != len(in.Profile.Syscalls) || !slices.Equal(p.Syscalls[len(p.Syscalls)-1].Names, []string{"close_range", "faccessat2"}) {
		t.Error("the export changed the profile that it was given")
	}
}

func TestErrors(t *testing.T) {
	with := func(change func(*Input)) Input {
		in := nginx()
		change(&in)
		return in
	}
	profile := func(change func(*seccomp.Profile)) func(*Input) {
		return func(in *Input) {
			p := *in.Profile
			p.Syscalls = slices.Clone(p.Syscalls)
			change(&p)
			in.Profile = &p
		}
	}
	for _, c := range []struct {
		name, format string
		in           Input
		want         string
	}{
		{"format", "kubernets", nginx(), `unknown format "kubernets"; did you mean kubernetes?`},
		{"runtime", "docker", with(func(in *Input) { in.Runtimes = []string{"rnuc"} }), `unknown runtime "rnuc"; did you mean runc?`},
		{"no profile", "docker", with(func(in *Input) { in.Profile = nil }), "a policy and its seccomp profile are needed"},
		{"name", "docker", with(func(in *Input) { in.Name = "Ng inx" }), `name "Ng inx": use at most 63 lower-case letters, digits and "-", such as "ng-inx"`},
		{"two machines", "oci", with(func(in *Input) {
			in.Target, in.Policy.Runs = nil, []policy.Run{{Machine: "amd64"}, {Machine: "arm64"}}
		}), "the policy was learned on amd64 and arm64; say for which one to export"},
		{"unknown capability", "docker", with(func(in *Input) { in.Capabilities = in.Capabilities.Add(60) }), "capability 60 has no name that other engines know"},
		{"default of the operator", "spo", with(profile(func(p *seccomp.Profile) { p.DefaultAction = seccomp.Errno(uint16(unix.ENOSYS)) })),
			"calls that are not allowed fail with ERRNO(ENOSYS), and the operator's profiles know EPERM only"},
		{"numbers of the operator", "spo", with(profile(func(p *seccomp.Profile) {
			p.Syscalls = append(p.Syscalls, seccomp.SyscallRule{Names: []string{"mremap"}, Action: seccomp.Allow, Args: []seccomp.Condition{{Index: 0, Op: seccomp.EQ, Value: 1 << 63}}})
		})), "mremap: the operator's numbers end at 9223372036854775807"},
		{"a misspelt call", "docker", with(profile(func(p *seccomp.Profile) {
			p.Syscalls = append(p.Syscalls, seccomp.SyscallRule{Names: []string{"mremapp"}, Action: seccomp.Allow})
		})),
			`unknown system call "mremapp"; did you mean mremap?`},
		{"refused for some arguments", "docker", with(profile(func(p *seccomp.Profile) {
			p.Syscalls = append(p.Syscalls, seccomp.SyscallRule{Names: []string{"fstatfs"}, Action: seccomp.KillProcess, Args: []seccomp.Condition{{Index: 0, Op: seccomp.EQ, Value: 1}}})
		})), "fstatfs is refused for some arguments, and runc or crun needs it to start a container"},
		{"trap for systemd", "systemd", with(profile(func(p *seccomp.Profile) {
			p.Syscalls = append(p.Syscalls, seccomp.SyscallRule{Names: []string{"reboot"}, Action: seccomp.Trap})
		})),
			"reboot: systemd does not have the action TRAP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := Export(c.format, c.in)
			if err == nil || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("error %v, want it to end in %q", err, c.want)
			}
			if res != nil {
				t.Error("an error came with files")
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		policy, image, want string
	}{
		{"", "", "policy"},
		{"", "docker.io/library/nginx:1.27", "nginx"},
		{"", "registry:5000/a/My_App@sha256:00", "my-app"},
		{"Redis 7!", "x", "redis-7"},
		{"-", "", "policy"},
		{strings.Repeat("a-", 40), "", strings.Repeat("a-", 31) + "a"},
	} {
		in := nginx()
		in.Policy.Name, in.Policy.Image = c.policy, nil
		if c.image != "" {
			in.Policy.Image = &policy.Image{Reference: c.image}
		}
		if got := export(t, "docker", in).Files[0].Name; got != c.want+".json" {
			t.Errorf("%q, %q: %q, want %q", c.policy, c.image, got, c.want+".json")
		}
	}
}

// A shell gives each word back as it was.
func TestShellWord(t *testing.T) {
	words := []string{"", "plain", "two words", "it's", `back\slash`, "$HOME `id`", "a;b&c|d", "*", "line\nbreak", "~", "#no", "é", "=x", `"`}
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, shellWord(w))
	}
	out, err := exec.Command("sh", "-c", `printf '%s\0' `+strings.Join(quoted, " ")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
		t.Errorf("the shell has %q, want %q", got, words)
	}
}
