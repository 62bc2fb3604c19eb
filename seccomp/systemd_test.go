package seccomp

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/seccomp/syscalls"
)

// native returns what a profile does with a call of x86-64.
func native(t *testing.T, p *Profile, name string) Action {
	t.Helper()
	nr, ok := syscalls.Number(X86_64, name)
	if !ok {
		t.Fatalf("no call %s", name)
	}
	return decide(t, p, target(0), nr)
}

func TestParseSystemd(t *testing.T) {
	const eperm, enosys = 1, 38
	for _, tc := range []struct {
		name, unit string
		want       string // pairs of call and action
	}{
		{"allow list", "SystemCallFilter=read write", "read ALLOW write ALLOW open KILL_PROCESS execve ALLOW mmap ALLOW pause ALLOW"},
		{"deny list", "SystemCallFilter=~open mount", "read ALLOW open KILL_PROCESS mount KILL_PROCESS"},
		{"error number", "SystemCallErrorNumber=EACCES\nSystemCallFilter=read", "read ALLOW open ERRNO(EACCES)"},
		{"error number as a number", "SystemCallFilter=~open\nSystemCallErrorNumber=2", "open ERRNO(ENOENT)"},
		{"error number reset", "SystemCallErrorNumber=EPERM\nSystemCallErrorNumber=\nSystemCallFilter=~open", "open KILL_PROCESS"},
		{"error number kill", "SystemCallErrorNumber=EPERM\nSystemCallErrorNumber=kill\nSystemCallFilter=~open", "open KILL_PROCESS"},
		{"errors of their own", "SystemCallFilter=~open:EACCES mount:kill @swap:38 read\nSystemCallErrorNumber=EPERM",
			"open ERRNO(EACCES) mount KILL_PROCESS swapon ERRNO(ENOSYS) read ERRNO(EPERM) write ALLOW"},
		{"lists add up", "SystemCallFilter=read\nSystemCallFilter=open", "read ALLOW open ALLOW mount KILL_PROCESS"},
		{"taken off what is allowed", "SystemCallFilter=@basic-io\nSystemCallFilter=~write pause\nSystemCallErrorNumber=EPERM",
			"read ALLOW write ERRNO(EPERM) pause ERRNO(EPERM)"},
		{"taken off with an error", "SystemCallFilter=@basic-io\nSystemCallFilter=~write:ENOSYS dup:kill", "read ALLOW write ERRNO(ENOSYS) dup KILL_PROCESS"},
		{"taken off and back", "SystemCallFilter=@basic-io\nSystemCallFilter=~write:ENOSYS\nSystemCallFilter=write", "write ALLOW"},
		{"taken off what is refused", "SystemCallFilter=~@basic-io\nSystemCallFilter=write", "read KILL_PROCESS write ALLOW open ALLOW"},
		{"reset", "SystemCallFilter=read\nSystemCallFilter=\nSystemCallFilter=~open", "read ALLOW write ALLOW open KILL_PROCESS"},
		{"nested groups", "SystemCallFilter=@system-service", "read ALLOW chown ALLOW mount KILL_PROCESS settimeofday KILL_PROCESS"},
		{"known", "SystemCallFilter=@known\nSystemCallFilter=~mount", "open ALLOW mseal ALLOW mount KILL_PROCESS"},
		{"log", "SystemCallLog=open", "open LOG read ALLOW"},
		{"log others", "SystemCallLog=~open", "open ALLOW read LOG"},
		{"log others, none", "SystemCallLog=~", "open ALLOW"},
		{"refused before logged", "SystemCallLog=open mount\nSystemCallFilter=~mount", "open LOG mount KILL_PROCESS read ALLOW"},
		{"allowed and logged", "SystemCallLog=~read\nSystemCallFilter=read open", "open LOG read ALLOW mount KILL_PROCESS"},
		{"unit file", "# a unit\n[Unit]\nDescription=with SystemCallFilter=\nAfter=a \\\n  b\n[Service]\nExecStart=/bin/x -f = \\\nSystemCallFilter=~write\n SystemCallFilter = ~ \\\n# comment\n open \\\n mount\n[Install]\n",
			"open KILL_PROCESS mount KILL_PROCESS write ALLOW"},
		{"only architectures", "SystemCallArchitectures=native", "open ALLOW"},
	} {
		p, err := ParseSystemd("u.service", []byte(tc.unit))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		words := strings.Fields(tc.want)
		for i := 0; i < len(words); i += 2 {
			if got := native(t, p, words[i]).String(); got != words[i+1] {
				t.Errorf("%s: %s is %s, want %s", tc.name, words[i], got, words[i+1])
			}
		}
	}
}

// Calls that no table knows get ENOSYS in a list that allows; the newest known
// ones do not.
func TestSystemdNewerCalls(t *testing.T) {
	p, err := ParseSystemd("u", []byte("SystemCallFilter=read"))
	if err != nil {
		t.Fatal(err)
	}
	policy := mustResolve(t, p, target(0))
	for _, a := range []Arch{X86_64, I386, X32} {
		for nr, name := range syscalls.All(a) {
			if got := policy.Action(a.Audit(), nr, [6]uint64{}); got != KillProcess && got != Allow && name != "socketcall" && name != "ipc" {
				t.Errorf("%v %s: %v", a, name, got)
			}
		}
		if got := policy.Action(a.Audit(), 900|a.Bit(), [6]uint64{}); got != Errno(38) {
			t.Errorf("%v 900: %v", a, got)
		}
	}
}

func TestSystemdArchitectures(t *testing.T) {
	for _, tc := range []struct {
		setting string
		want    []Arch
	}{
		{"", []Arch{X86_64, I386, X32}},
		{"SystemCallArchitectures=native", []Arch{X86_64}},
		{"SystemCallArchitectures=x86-64 x86", []Arch{X86_64, I386}},
		{"SystemCallArchitectures=native\nSystemCallArchitectures=x86", []Arch{X86_64, I386}},
		{"SystemCallArchitectures=native\nSystemCallArchitectures=", []Arch{X86_64, I386, X32}},
		{"SystemCallArchitectures=x32", []Arch{X86_64, X32}},
	} {
		p, err := ParseSystemd("u", []byte("SystemCallFilter=~mount\n"+tc.setting))
		if err != nil {
			t.Fatal(err)
		}
		var got []Arch
		for _, a := range mustResolve(t, p, target(0)).Archs {
			got = append(got, a.Arch)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%q: %v, want %v", tc.setting, got, tc.want)
		}
	}
}

func TestParseSystemdErrors(t *testing.T) {
	for _, tc := range []struct{ unit, want string }{
		{"", `u: no filter; a unit sets one by SystemCallFilter=`},
		{"[Service]\nExecStart=/bin/true", `u: no filter; a unit sets one by SystemCallFilter=`},
		{"SystemCallFilter=raed", `u:1: SystemCallFilter: unknown system call "raed"; did you mean read?`},
		{"SystemCallFilter=read \\\n wrtie", `u:2: SystemCallFilter: unknown system call "wrtie"; did you mean write?`},
		{"SystemCallFilter=@mounts", `u:1: SystemCallFilter: unknown group "@mounts"; did you mean @mount?`},
		{"SystemCallFilter=read:EPERM", `u:1: SystemCallFilter: "read:EPERM": only calls after "~" have an error number`},
		{"SystemCallFilter=~read:EPREM", `u:1: SystemCallFilter: unknown error "EPREM"; did you mean EPERM?`},
		{"SystemCallFilter=~read:4096", `u:1: SystemCallFilter: 4096 is no error number; they go from 0 to 4095`},
		{"SystemCallFilters=read", `u:1: unknown setting "SystemCallFilters"; did you mean SystemCallFilter=?`},
		{"[Service]\nSystemcallFilter=read", `u:2: unknown setting "SystemcallFilter"; did you mean SystemCallFilter=?`},
		{"NoNewPrivileges=yes", `u:1: unknown setting "NoNewPrivileges"; outside of a section there can only be SystemCallArchitectures=, SystemCallErrorNumber=, SystemCallFilter=, SystemCallLog=`},
		{"[Unit]\nSystemCallFilter=read", `u:2: SystemCallFilter= has no effect in [Unit]; put it under [Service]`},
		{"SystemCallErrorNumber=EPERM", `u:1: SystemCallErrorNumber: has no effect without SystemCallFilter=`},
		{"SystemCallFilter=read\nSystemCallErrorNumber=0", `u:2: SystemCallErrorNumber: 0 is no error number; they go from 1`},
		{"SystemCallFilter=read\nSystemCallErrorNumber=EPERM EACCES", `u:2: SystemCallErrorNumber: "EACCES" after the error number`},
		{"SystemCallFilter=read\nSystemCallArchitectures=x86_64", `u:2: SystemCallArchitectures: unknown architecture "x86_64"; did you mean x86-64?`},
		{"SystemCallLog=read:EPERM", `u:1: SystemCallLog: "read:EPERM": calls that are logged have no error number`},
		{"default errno EPERM", `u:1: neither a section nor an assignment: "default errno EPERM"`},
	} {
		_, err := ParseSystemd("u", []byte(tc.unit))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%q:\n got %v\nwant %v", tc.unit, err, tc.want)
		}
	}
}

// unitProfile draws a profile that systemd can express.
func unitProfile(rng *rand.Rand) *Profile {
	p := &Profile{File: "p", DefaultAction: pick(rng, []Action{Allow, Errno(1), Errno(38), KillProcess}), FlagsGiven: true}
	if rng.IntN(2) == 0 {
		p.Architectures = some(rng, []Arch{I386, X32}, 2)
	} else {
		p.ArchMap = []ArchFamily{{X86_64, []Arch{I386, X32}}}
	}
	var names []string
	for c := syscalls.Call(1); c.Name() != ""; c++ {
		if rng.IntN(4) == 0 {
			names = append(names, c.Name())
		}
	}
	for len(names) > 0 {
		n := 1 + rng.IntN(len(names))
		p.Syscalls = append(p.Syscalls, SyscallRule{Names: names[:n], Action: pick(rng, []Action{Allow, Log, Errno(1), Errno(13), KillProcess})})
		names = names[n:]
	}
	return p
}

func TestSystemdRoundTrip(t *testing.T) {
	for seed := range uint64(150) {
		p := unitProfile(rand.New(rand.NewPCG(seed, 11)))
		data, err := p.Systemd(target(0))
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseSystemd("back", data)
		if err != nil {
			t.Fatal(err)
		}
		want, got := mustResolve(t, p, target(0)), mustResolve(t, back, target(0))
		if len(want.Archs) != len(got.Archs) {
			t.Fatalf("%d ABIs became %d", len(want.Archs), len(got.Archs))
		}
		for _, a := range want.Archs {
			for nr, name := range syscalls.All(a.Arch) {
				w, g := want.Decide(a.Arch.Audit(), nr, [6]uint64{}), got.Action(a.Arch.Audit(), nr, [6]uint64{})
				if w.Action != g && !(w.Reason == ByNewer && g == want.Default) && name != "socketcall" && name != "ipc" {
					t.Fatalf("seed %d: %v %s: %+v became %v\n%s", seed, a.Arch, name, w, g, data)
				}
			}
		}
	}
}

func TestSystemdRefuses(t *testing.T) {
	allow := inProfile
	for _, tc := range []struct{ profile, want string }{
		{allow(`{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}`),
			`write as systemd settings: p.json:1: syscalls[0]: clone depends on its arguments, which systemd cannot look at`},
		{allow(`{"names": ["read"], "action": "SCMP_ACT_TRAP"}`), `write as systemd settings: p.json:1: syscalls[0]: read: systemd does not have the action TRAP`},
		{allow(`{"names": ["read"], "action": "SCMP_ACT_KILL"}`), `write as systemd settings: p.json:1: syscalls[0]: read: systemd cannot kill one thread; use kill-process`},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}`, `write as systemd settings: p.json: systemd cannot set the flag LOG`},
		{`{"defaultAction": "SCMP_ACT_LOG"}`, `write as systemd settings: p.json: systemd logs other calls only beside some that it does not log`},
	} {
		_, err := mustParse(t, tc.profile).Systemd(target(0))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s:\n got %v\nwant %s", tc.profile, err, tc.want)
		}
	}
	if _, err := Default().Systemd(target(0)); err == nil || !strings.Contains(err.Error(), "depends on its arguments") {
		t.Errorf("the default profile: %v", err)
	}
}

// The groups are those of the systemd that is installed, but for calls that
// one of both lacks since it is older.
func TestSystemdGroups(t *testing.T) {
	for _, g := range systemdGroups {
		members, ok := systemdGroup(g.name)
		if !ok || len(members) == 0 {
			t.Errorf("%s: no members", g.name)
		}
		for _, m := range members {
			if _, isGroup := systemdGroup(m); !isGroup && !syscalls.Known(m) {
				t.Errorf("%s: unknown member %s", g.name, m)
			}
		}
	}
	out, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager").Output()
	if err != nil {
		t.Skipf("no systemd-analyze to compare with: %v", err)
	}
	theirs := map[string][]string{}
	group := ""
	for _, line := range strings.Split(string(out), "\n") {
		switch {
		case strings.HasPrefix(line, "@"):
			group = strings.TrimSpace(line)
		case strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "    #"):
			theirs[group] = append(theirs[group], strings.TrimSpace(line))
		}
	}
	delete(theirs, "@known")
	if len(theirs) < 20 {
		t.Fatalf("only %d groups", len(theirs))
	}
	for name, want := range theirs {
		got, ok := systemdGroup(name)
		if !ok {
			t.Errorf("no group %s", name)
		}
		missing := 0
		for _, m := range want {
			if !slices.Contains(got, m) {
				missing++
			}
		}
		if missing > 2+len(want)/10 {
			t.Errorf("%s: %d of %d members missing: %v", name, missing, len(want), got)
		}
		t.Logf("%s: %d of %d missing here", name, missing, len(want))
	}
}

func FuzzParseSystemd(f *testing.F) {
	f.Add([]byte("[Service]\nSystemCallFilter=@system-service ~\nSystemCallFilter=~mount:EPERM \\\n umount2\nSystemCallErrorNumber=EPERM\nSystemCallArchitectures=native x86\nSystemCallLog=~read"))
	f.Add([]byte("SystemCallFilter=\nSystemCallFilter=~@known:kill\n"))
	for seed := range uint64(5) {
		if data, err := unitProfile(rand.New(rand.NewPCG(seed, 12))).Systemd(target(0)); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseSystemd("f", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("no place: %v", err)
			}
			return
		}
		roundTrip(t, p, p.DockerJSON, ParseProfile)
		roundTrip(t, p, p.Text, ParseText)
		// Whatever a unit says, a unit can say again.
		again, err := p.Systemd(target(0))
		if err != nil {
			if strings.Contains(err.Error(), "return 0 by default") {
				return
			}
			t.Fatalf("%v\n%s", err, data)
		}
		back, err := ParseSystemd("back", again)
		if err != nil {
			t.Fatal(err)
		}
		a, b := mustResolve(t, p, target(0)), mustResolve(t, back, target(0))
		if fmt.Sprint(actions(a)) != fmt.Sprint(actions(b)) {
			t.Fatalf("%s\nbecame\n%s", data, again)
		}
	})
}

// actions lists what a policy does with all calls that have names.
func actions(p *Policy) []Action {
	var list []Action
	for _, a := range p.Archs {
		for nr := range syscalls.All(a.Arch) {
			list = append(list, p.Action(a.Arch.Audit(), nr, [6]uint64{}))
		}
	}
	return list
}

// systemd itself reads what is written: it complains about nothing but calls
// that are newer than it, which it answers by ENOSYS anyway.
func TestSystemdVerifies(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("no systemd to read it: %v", err)
	}
	dir := t.TempDir()
	p := parseText(t, "p", `default errno EPERM
arch x86
allow read write openat close mmap clone socket connect fstat brk exit_group execve
log mount
errno EACCES mkdir
kill-process kexec_load`)
	data, err := p.Systemd(target(0))
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(data), "SystemCallFilter=~", "SystemCallFilter=~mkdirr ", 1)
	for unit, want := range map[string]int{string(data): 0, broken: 1} {
		path := filepath.Join(dir, "brig-test.service")
		if err := os.WriteFile(path, []byte(unit+"ExecStart=/bin/true\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command(tool, "verify", path).CombinedOutput()
		complaints := 0
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, path) {
				continue
			}
			_, name, unknown := strings.Cut(strings.TrimSpace(line), "Failed to parse system call, ignoring: ")
			if !unknown || native(t, p, cmp.Or(knownNative(name), "reboot")) != Errno(38) {
				complaints++
			}
		}
		if complaints != want {
			t.Errorf("%d complaints, want %d:\n%s\n%s", complaints, want, out, unit)
		}
	}
}

// knownNative returns name if x86-64 has the call, and else "".
func knownNative(name string) string {
	if _, ok := syscalls.Number(X86_64, name); ok {
		return name
	}
	return ""
}
