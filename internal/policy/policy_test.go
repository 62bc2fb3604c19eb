package policy

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/seccomp"
)

func call(name string, count uint64) record.Syscall {
	return record.Syscall{ABI: "amd64", Name: name, Count: count, Startup: count, FirstProgram: "sh"}
}

// recording is one of a server: a port, a change of user, and what came to
// nothing.
func recording() *record.Recording {
	socket := call("socket", 3)
	socket.Args = []record.ArgValues{{Index: 0, Values: []uint64{unix.AF_UNIX, unix.AF_INET}}, {Index: 1, Values: []uint64{1}, More: true}}
	clone3 := call("clone3", 0)
	clone3.Blocked = 2
	own := func(name, class string, granted, refused uint64, stack ...string) record.Capability {
		return record.Capability{Name: name, Class: class, Granted: granted, Refused: refused, UserNS: "own", Stack: stack, Syscalls: []string{"read"}}
	}
	return &record.Recording{
		Version: 1, Kernel: "6.18.0", Machine: "amd64", Complete: true,
		Syscalls: []record.Syscall{call("read", 5), call("execve", 1), socket, clone3, {ABI: "amd64", Nr: 999, Count: 1}},
		Capabilities: []record.Capability{
			own("NET_BIND_SERVICE", record.Needed, 1, 0, "__inet_bind"),
			own("SYS_ADMIN", record.Noise, 40, 0, "cap_vm_enough_memory"),
			own("FSETID", record.Opportunistic, 1, 0, "in_group_or_capable"),
			own("SYS_RESOURCE", record.Needed, 0, 1, "do_prlimit"),
			{Name: "SYS_CHROOT", Class: record.Needed, Granted: 1, UserNS: "other", Stack: []string{"ksys_chroot"}},
		},
		Denials: []record.Denial{
			{Syscall: "clone3", ABI: "amd64", Program: "sh", Errno: "ENOSYS", By: "seccomp", Count: 2},
			{Syscall: "prlimit64", ABI: "amd64", Program: "sh", Errno: "EPERM", By: "capability", Capabilities: []string{"SYS_RESOURCE"}, Count: 1},
		},
	}
}

func learned(t *testing.T, rec *record.Recording, id string) *Policy {
	t.Helper()
	p, err := FromRecording(rec, Run{ID: id, Purpose: PurposeLearn, Started: time.Unix(1, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func statuses(p *Policy) map[string]string {
	all := map[string]string{}
	for _, c := range p.Capabilities {
		all[c.Name] = c.Status
	}
	for _, c := range p.Syscalls {
		all[c.Name] = c.Status
	}
	return all
}

func TestFromRecording(t *testing.T) {
	p := learned(t, recording(), "1")
	want := map[string]string{
		"NET_BIND_SERVICE": Asked, "SYS_ADMIN": Noise, "FSETID": Unneeded, "SYS_RESOURCE": Unneeded, "SYS_CHROOT": Unneeded,
		"read": Asked, "socket": Asked, "execve": Base, "exit": Base, "exit_group": Base, "restart_syscall": Base, "rt_sigreturn": Base,
	}
	// A program that calls execve itself asks for it; the base rests on less.
	if got := statuses(p); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if len(p.Answers) != 1 || p.Answers[0] != (Answer{"clone3", "ENOSYS"}) {
		t.Errorf("answers: %v", p.Answers)
	}
	if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "999") {
		t.Errorf("the call without a name is not noted: %v", p.Notes)
	}
	granted, err := p.Granted()
	if err != nil || !slices.Equal(granted.Names(), []string{"CAP_NET_BIND_SERVICE"}) {
		t.Errorf("granted: %v, %v", granted, err)
	}
	if why := p.Capabilities[0].Why; p.Runs[0].New != 8 || p.Capabilities[0].First != "1" || why == "" {
		t.Errorf("run %+v, %+v", p.Runs[0], p.Capabilities[0])
	}
}

// The profile of a policy answers as the policy says.
func TestProfile(t *testing.T) {
	p := learned(t, recording(), "1")
	if n := p.EnforceArgs(); n != 1 {
		t.Errorf("%d arguments are conditions; that with more values than are known must not be", n)
	}
	profile, err := p.Profile()
	if err != nil {
		t.Fatal(err)
	}
	policy, _, err := profile.Resolve(seccomp.Target{Arch: seccomp.X86_64})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args [6]uint64
		want seccomp.Action
	}{
		{"read", [6]uint64{}, seccomp.Allow},
		{"exit_group", [6]uint64{}, seccomp.Allow},
		{"socket", [6]uint64{unix.AF_INET, 7}, seccomp.Allow},
		{"socket", [6]uint64{unix.AF_VSOCK, 1}, seccomp.Errno(uint16(unix.EPERM))},
		{"clone3", [6]uint64{}, seccomp.Errno(uint16(unix.ENOSYS))},
		{"mount", [6]uint64{}, seccomp.Errno(uint16(unix.EPERM))},
	} {
		nr, err := seccomp.CallNumber(seccomp.X86_64, tt.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := policy.Decide(seccomp.X86_64.Audit(), nr, tt.args); got.Action != tt.want {
			t.Errorf("%s%v: %v, want %v", tt.name, tt.args, got.Action, tt.want)
		}
	}
}

func TestProfileBoundsRules(t *testing.T) {
	c := &Syscall{Name: "setsockopt", Status: Asked}
	for i := range 3 {
		a := Arg{Index: uint8(i), Enforce: true}
		for v := range 5 + 5*i {
			a.Values = append(a.Values, uint64(v))
		}
		c.Args = append(c.Args, a)
	}
	if rules := conditions(c); len(rules) != 50 || len(rules[0].Args) != 2 {
		t.Errorf("%d rules of %d conditions", len(rules), len(rules[0].Args))
	}
}

// Merging is a union in which nothing counts twice, in any order.
func TestMerge(t *testing.T) {
	second := recording()
	second.Syscalls = append(second.Syscalls, call("clone3", 1), call("write", 4))
	second.Capabilities[2].Class = record.Needed
	a, b := learned(t, recording(), "1"), learned(t, second, "2")
	a.Runs = append(a.Runs, Run{ID: "p", Purpose: PurposeProve})
	before := a.Clone()
	m, err := Merge(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, before) {
		t.Error("Merge changed its argument")
	}
	got := statuses(m)
	for name, want := range map[string]string{"FSETID": Asked, "write": Asked, "clone3": Asked, "SYS_ADMIN": Noise} {
		if got[name] != want {
			t.Errorf("%s is %s, want %s", name, got[name], want)
		}
	}
	if len(m.Answers) != 0 {
		t.Errorf("clone3 is allowed and has an answer: %v", m.Answers)
	}
	if len(m.Runs) != 2 || m.Runs[1].New != 2 {
		t.Errorf("runs: %+v", m.Runs)
	}
	if s := m.Saturation(); !strings.Contains(s, "more runs are needed") {
		t.Error(s)
	}
	if m, err = Merge(m, learned(t, second, "3")); err != nil || m.Saturation() != "nothing new in the last of 3 runs" {
		t.Errorf("%v, %v", m.Saturation(), err)
	}
	if _, err := Merge(m, b); err == nil || !strings.Contains(err.Error(), "run 2 is in both") {
		t.Errorf("a run twice: %v", err)
	}
	back, err := Merge(b, a)
	if err != nil || !reflect.DeepEqual(statuses(back), got) {
		t.Errorf("the order matters: %v, %v", statuses(back), err)
	}
}

func TestMergeConditions(t *testing.T) {
	one := func(enforce bool, values ...uint64) *Policy {
		return &Policy{Version: 1, Syscalls: []Syscall{{Name: "socket", Status: Asked, Args: []Arg{{Values: values, Enforce: enforce}}}}}
	}
	var many []uint64
	for v := range uint64(12) {
		many = append(many, 100+v)
	}
	for name, tt := range map[string]struct {
		a, b *Policy
		want Arg
	}{
		"both":         {one(true, 1, 2), one(true, 2, 10), Arg{Values: []uint64{1, 2, 10}, Enforce: true}},
		"one is loose": {one(true, 1), one(false, 2), Arg{Values: []uint64{1, 2}}},
		"too many":     {one(true, 1, 2, 3, 4, 5), one(true, many...), Arg{Values: append([]uint64{1, 2, 3, 4, 5}, many[:11]...), More: true}},
	} {
		m, err := Merge(tt.a, tt.b)
		if err != nil || !reflect.DeepEqual(m.Syscalls[0].Args, []Arg{tt.want}) {
			t.Errorf("%s: %+v, %v", name, m.Syscalls[0].Args, err)
		}
	}
}

// What was tried of the values of an argument: an unneeded one is not allowed, also
// in a union with a policy that never saw it.
func TestTried(t *testing.T) {
	one := func(values []uint64, tried ...Tried) *Policy {
		return &Policy{Version: 1, Syscalls: []Syscall{{Name: "socket", Status: Asked, Args: []Arg{{Values: values, Enforce: true, Tried: tried}}}}}
	}
	unneeded := func(v uint64) Tried { return Tried{Value: v, Status: Unneeded} }
	verified := func(v uint64) Tried { return Tried{Value: v, Status: Verified, Breaks: "all"} }
	for name, tt := range map[string]struct {
		a, b    *Policy
		allowed []uint64
		tried   []Tried
	}{
		"never seen":    {one([]uint64{1, 16}, unneeded(16)), one([]uint64{2}), []uint64{1, 2}, []Tried{unneeded(16)}},
		"seen, allowed": {one([]uint64{1, 16}, unneeded(16)), one([]uint64{16}), []uint64{1, 16}, nil},
		"both":          {one([]uint64{1, 16}, unneeded(16)), one([]uint64{2, 16}, unneeded(16)), []uint64{1, 2}, []Tried{unneeded(16)}},
		"verified":      {one([]uint64{16}, unneeded(16)), one([]uint64{2, 16}, verified(16)), []uint64{2, 16}, []Tried{verified(16)}},
	} {
		m, err := Merge(tt.a, tt.b)
		if err != nil {
			t.Fatal(err)
		}
		if a := m.Syscalls[0].Args[0]; !slices.Equal(a.Allowed(), tt.allowed) || !slices.Equal(a.Tried, tt.tried) {
			t.Errorf("%s: %+v, allowed %v", name, a, a.Allowed())
		}
		data, err := m.Encode()
		if err == nil {
			_, err = Parse("p", data)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := one([]uint64{1, 16}, unneeded(16))
	profile, err := p.Profile()
	if err != nil || len(profile.Syscalls) != 1 || profile.Syscalls[0].Args[0].Value != 1 {
		t.Errorf("%+v, %v", profile, err)
	}
	denial := record.Denial{Syscall: "socket", ABI: "amd64", Errno: "EPERM", By: "seccomp", Args: [6]uint64{16}}
	if got, err := p.Admit(&record.Recording{Denials: []record.Denial{denial}}, "why"); err != nil || len(got) != 1 || len(p.Syscalls[0].Args[0].Allowed()) != 2 {
		t.Errorf("admitted %v, %v: %+v", got, err, p.Syscalls[0])
	}
}

// A person's additions: calls with all arguments, capabilities, nothing twice.
func TestAllow(t *testing.T) {
	p := learned(t, recording(), "1")
	p.EnforceArgs()
	added, err := p.Allow(capability.Of(capability.CHOWN, capability.NET_BIND_SERVICE), []string{"mkdir", "socket", "read"}, "why")
	if err != nil || !slices.Equal(added, []string{"mkdir", "socket", "CHOWN"}) {
		t.Errorf("added %v, %v", added, err)
	}
	all := statuses(p)
	if all["mkdir"] != Added || all["socket"] != Added || all["read"] != Asked || all["CHOWN"] != Added || all["NET_BIND_SERVICE"] != Asked {
		t.Errorf("%v", all)
	}
	if i := slices.IndexFunc(p.Syscalls, func(c Syscall) bool { return c.Name == "socket" }); p.Syscalls[i].conditional() {
		t.Errorf("%+v", p.Syscalls[i])
	}
	if again, err := p.Allow(capability.Of(capability.CHOWN), []string{"mkdir"}, "why"); err != nil || len(again) > 0 {
		t.Errorf("added again: %v, %v", again, err)
	}
	if _, err := p.Allow(0, []string{"mkdri"}, ""); err == nil || !strings.Contains(err.Error(), "did you mean mkdir?") {
		t.Error(err)
	}
}

func TestDiff(t *testing.T) {
	a := learned(t, recording(), "1")
	if d, err := Diff(a, a, seccomp.X86_64); err != nil || len(d) != 0 {
		t.Errorf("a policy differs from itself: %v, %v", d, err)
	}
	b := a.Clone()
	b.Capabilities = append(b.Capabilities, Capability{Name: "CHOWN", Status: Added})
	b.EnforceArgs()
	d, err := Diff(a, b, seccomp.X86_64)
	if err != nil || len(d) != 2 || d[0].Text != "CHOWN is granted now" || d[0].Effect != seccomp.Looser {
		t.Fatalf("%+v, %v", d, err)
	}
	if d[1].Effect != seccomp.Stricter || !slices.Equal(d[1].Change.Names, []string{"socket"}) {
		t.Errorf("%+v", d[1])
	}
}

func TestAdmit(t *testing.T) {
	denial := func(name, errno string, caps ...string) record.Denial {
		by := "seccomp"
		if caps != nil {
			by = "capability"
		}
		return record.Denial{Syscall: name, ABI: "amd64", Program: "sh", Errno: errno, By: by, Capabilities: caps, Args: [6]uint64{unix.AF_NETLINK | 1<<32}}
	}
	for name, tt := range map[string]struct {
		denials []record.Denial
		want    []string
	}{
		"a call":                  {[]record.Denial{denial("getpid", "EPERM"), denial("rseq", "ENOSYS")}, []string{"getpid"}},
		"a fallback":              {[]record.Denial{denial("rseq", "ENOSYS")}, []string{"rseq"}},
		"denied while learning":   {recording().Denials, nil},
		"a capability":            {[]record.Denial{denial("fchown", "EPERM", "CHOWN", "FSETID")}, []string{"CHOWN", "FSETID"}},
		"a capability first":      {[]record.Denial{denial("gettid", "EPERM"), denial("bind", "EACCES", "NET_BIND_SERVICE"), denial("fchown", "EPERM", "CHOWN")}, []string{"CHOWN"}},
		"a value of an argument":  {[]record.Denial{denial("socket", "EPERM")}, []string{"socket with argument 0 = 0x10"}},
		"what is allowed already": {[]record.Denial{denial("read", "EPERM")}, nil},
	} {
		p := learned(t, recording(), "1")
		p.EnforceArgs()
		got, err := p.Admit(&record.Recording{Denials: tt.denials}, "why")
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, tt.want)
		}
		// Then what programs fall back on, and then there is nothing left.
		if again, err := p.Admit(&record.Recording{Denials: tt.denials}, "why"); err != nil || len(again) > 0 && again[0] != "rseq" && again[0] != "gettid" {
			t.Errorf("%s: admitted twice: %v, %v", name, again, err)
		}
		if again, err := p.Admit(&record.Recording{Denials: tt.denials}, "why"); err != nil || len(again) != 0 {
			t.Errorf("%s: admitted without end: %v, %v", name, again, err)
		}
	}
}

// What is encoded reads back as it was.
func TestEncode(t *testing.T) {
	p := learned(t, recording(), "1")
	p.EnforceArgs()
	p.Comment = "a \"b\": c, d\\"
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse("p.json", data)
	if err != nil || !reflect.DeepEqual(p, back) {
		t.Errorf("%v\ngot  %+v\nwant %+v\n%s", err, back, p, data)
	}
	if lines := strings.Count(string(data), "\n"); lines < len(p.Syscalls)+len(p.Capabilities) {
		t.Errorf("%d lines", lines)
	}
}

// A program may need nothing, and the file of that must be readable.
func TestEncodeNothing(t *testing.T) {
	data, err := (&Policy{Version: Version}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("p.json", data); err != nil {
		t.Errorf("%v in\n%s", err, data)
	}
}

func TestParseErrors(t *testing.T) {
	whole := func(field string) string {
		return "{\n\"version\": 1,\n\"capabilities\": [],\n\"syscalls\": [],\n" + field + "\n}"
	}
	for text, want := range map[string]string{
		``:                              "p:1: the file ends in the middle of the policy",
		`[]`:                            "p:1: must be an object, not a list",
		`{"version": 2}`:                "p:1: version: 2 is not known; this brig reads version 1",
		`{}`:                            "p:1: version: missing; this brig reads version 1",
		`{"version": 1} x`:              "p:1: more data after the policy",
		`{"Version": 1}`:                `p:1: Version: unknown field "Version"; did you mean version?`,
		whole(`"name": 1`):              "p:5: name: must be a string, not a number",
		whole(`"name": null`):           "p:5: name: must be a string, not null",
		whole(`"version": 1`):           "p:5: version: field given twice, first in line 2",
		whole(`"runs": [{"id": "a"}]`):  "p:5: runs[0].purpose: missing; one of learn, prove",
		whole(`"runs": [{"new": 1.5}]`): "p:5: runs.new: number 1.5 is out of range",
		whole(`"answers": [{"name": "opne", "errno": "ENOSYS"}]`):                                                                                                 `p:5: answers[0].name: unknown system call "opne"; did you mean open?`,
		whole(`"answers": [{"name": "open", "errno": "ENOSYSS"}]`):                                                                                                `p:5: answers[0].errno: unknown error "ENOSYSS"; did you mean ENOSYS?`,
		`{"version": 1, "capabilities": [{"name": "CHOWN", "status": "askd"}]}`:                                                                                   `p:1: capabilities[0].status: unknown status "askd"; did you mean asked?; it is one of verified, asked, unneeded, noise, added`,
		`{"version": 1, "capabilities": [{"name": "CHWON", "status": "asked"}]}`:                                                                                  "capabilities[0].name",
		`{"version": 1, "syscalls": [{"name": "read", "status": "asked"}, {"name": "read", "status": "asked"}]}`:                                                  "p:1: syscalls[1].name: read is there twice",
		`{"version": 1, "syscalls": [{"name": "read", "status": "asked", "abis": ["amd65"]}]}`:                                                                    "syscalls[0].abis[0]",
		`{"version": 1, "syscalls": [{"name": "read", "status": "asked", "args": [{"index": 6, "values": [1]}]}]}`:                                                "p:1: syscalls[0].args[0].index: a system call has only the arguments 0 to 5",
		`{"version": 1, "syscalls": [{"name": "read", "status": "asked", "args": [{"index": 0, "values": [-1]}]}]}`:                                               "out of range",
		`{"version": 1, "syscalls": [{"name": "read", "status": "asked", "args": [{"index": 0, "values": [1], "more": true, "enforce": true}]}]}`:                 "syscalls[0].args[0].enforce",
		`{"version": 1, "syscalls": [{"name": "read", "status": "asked", "args": [{"index": 0, "values": [1], "tried": [{"value": 2, "status": "unneeded"}]}]}]}`: "p:1: syscalls[0].args[0].tried[0].value: 2 is none of the values",
		`{"version": 1, "syscalls": [{"name": "read", "status": "asked", "args": [{"index": 0, "values": [1], "tried": [{"value": 1, "status": "asked"}]}]}]}`:    "syscalls[0].args[0].tried[0].status",
	} {
		_, err := Parse("p", []byte(text))
		var at *Error
		if !errors.As(err, &at) || !strings.Contains(err.Error(), want) || strings.HasPrefix(want, "p:") && err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{`{}`, `{"version":1,"capabilities":[],"syscalls":[{"name":"read","status":"asked","args":[{"index":0,"values":[1],"enforce":true}]}]}`} {
		f.Add([]byte(text))
	}
	if data, err := os.ReadFile("../report/testdata/nginx.json"); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("p", data)
		if err != nil {
			return
		}
		if _, err := p.Profile(); err != nil {
			t.Fatalf("a policy that reads makes no profile: %v", err)
		}
		again, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("p", again); err != nil {
			t.Fatalf("what was written does not read: %v\n%s", err, again)
		}
	})
}

func TestUnseen(t *testing.T) {
	p := learned(t, recording(), "1")
	denied, unreached := p.Unseen([]string{"socket", "mount", "bpf", "mount", "exit"})
	if !slices.Equal(denied, []string{"bpf", "mount"}) || !slices.Equal(unreached, []string{"read"}) {
		t.Errorf("denied %v, unreached %v", denied, unreached)
	}
}
