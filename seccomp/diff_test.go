package seccomp

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func TestDiff(t *testing.T) {
	const head = `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["openat2"], "action": "SCMP_ACT_ALLOW"}, `
	socket := func(op, value string) string {
		return `{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_` + op + `", "value": ` + value + `}]}]}`
	}
	for _, tc := range []struct {
		name, from, to string
		want           []string
	}{
		{"the same", head + socket("EQ", "1"), head + socket("EQ", "1"), nil},
		{"the same in other words", head + socket("LT", "1"), head + socket("LE", "0"), nil},
		{"looser", head + socket("EQ", "1"), head + socket("LE", "2"), []string{"looser    amd64   ERRNO(EPERM) -> ALLOW: socket (arg0: 0x0, 0x2)"}},
		{"stricter", head + socket("LE", "2"), head + socket("EQ", "1"), []string{"stricter  amd64   ALLOW -> ERRNO(EPERM): socket (arg0: 0x0, 0x2)"}},
		{"another error", strings.Replace(head, `ERRNO"`, `ERRNO", "defaultErrnoRet": 13`, 1) + socket("EQ", "1"), head + socket("EQ", "1"), []string{
			"changed   amd64   ERRNO(EACCES) -> ERRNO(EPERM): _sysctl",
			"changed   amd64   ERRNO(EACCES) -> ERRNO(EPERM): socket (arg0: 0x0, 0x2-0xffffffff)",
			"changed   amd64   ERRNO(EACCES) -> ERRNO(EPERM): numbers without a call: 337-423",
		}},
		{"an ABI less", strings.Replace(head, `"sys`, `"architectures": ["SCMP_ARCH_X86"], "sys`, 1) + socket("EQ", "1"), head + socket("EQ", "1"),
			[]string{"stricter  x86     the whole ABI, which only the first allows -> KILL_THREAD"}},
		{"an ABI more", head + socket("EQ", "1"), strings.Replace(head, `"sys`, `"architectures": ["SCMP_ARCH_X32"], "sys`, 1) + socket("EQ", "1"),
			[]string{"looser    x32     the whole ABI, which only the second allows, before KILL_THREAD"}},
		{"newer calls", head + socket("EQ", "1"), strings.Replace(head, "openat2", "mseal", 1) + socket("EQ", "1"), []string{
			"looser    amd64   ERRNO(ENOSYS) -> ALLOW: mseal",
			"changed   amd64   ERRNO(ENOSYS) -> ERRNO(EPERM): cachestat",
			"stricter  amd64   ALLOW -> ERRNO(EPERM): openat2",
		}},
	} {
		var policies [2]*Policy
		for i, text := range []string{tc.from, tc.to} {
			policies[i] = mustResolve(t, mustParse(t, text), target(0))
		}
		list, err := Diff(policies[0], policies[1])
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != len(tc.want) {
			t.Errorf("%s: %v", tc.name, list)
			continue
		}
		for i, c := range list {
			if !strings.HasPrefix(c.String(), tc.want[i]) {
				t.Errorf("%s:\n got %v\nwant %v", tc.name, c, tc.want[i])
			}
		}
	}
}

// covers reports whether a change is about a call.
func (c *Change) covers(a Arch, d *bpf.Data) bool {
	if c.ABI != a.Short() || !slices.ContainsFunc(c.Numbers, func(r bpf.Range) bool { return r.First <= d.Nr && d.Nr <= r.Last }) {
		return false
	}
	name, _ := syscalls.Name(a, d.Nr)
	return !slices.ContainsFunc(c.Where, func(k bpf.Known) bool {
		arg := int(k.Word[3] - '0')
		v, high := uint32(d.Args[arg]), uint32(d.Args[arg]>>32)
		switch {
		case strings.HasSuffix(k.Word, ".hi"):
			v = high
		case len(k.Word) == 4 && callOf(name).Width(a, arg) == 64 && high != 0:
			return true
		}
		if len(k.Ranges) > 0 {
			return !slices.ContainsFunc(k.Ranges, func(r bpf.Range) bool { return r.First <= v && v <= r.Last })
		}
		m := v & k.Mask
		return !map[string]bool{"==": m == k.Value, "!=": m != k.Value, ">": m > k.Value, ">=": m >= k.Value, "<": m < k.Value, "<=": m <= k.Value}[k.Relation]
	})
}

// Every difference is in the list, and nothing else.
func TestDiffIsComplete(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 23))
	differences := 0
	for range 60 {
		var policies [2]*Policy
		for i := range policies {
			policies[i] = mustResolve(t, mergeProfile(rng, pick(rng, []Action{Allow, Errno(1), KillProcess}), true), target(0))
		}
		list, err := Diff(policies[0], policies[1])
		if err != nil {
			t.Fatal(err)
		}
		for i := range policies[0].Archs {
			a := policies[0].Archs[i].Arch
			for nr := range uint32(560) {
				d := bpf.Data{Nr: nr | a.Bit(), Arch: a.Audit()}
				conds := append(conditionsOf(policies[0], d.Arch, d.Nr), conditionsOf(policies[1], d.Arch, d.Nr)...)
				for range 1 + 20*len(conds) {
					d.Args = randomArgs(rng, conds)
					from, to := policies[0].Action(d.Arch, d.Nr, d.Args), policies[1].Action(d.Arch, d.Nr, d.Args)
					at := slices.IndexFunc(list, func(c Change) bool { return c.covers(a, &d) })
					switch {
					case from == to && at >= 0:
						t.Fatalf("%v, %+v: both %v, but listed: %v", a, d, from, list[at])
					case from != to && (at < 0 || list[at].From != from || list[at].To != to):
						t.Fatalf("%v, %+v: %v and %v, but %d in %v", a, d, from, to, at, list)
					case from != to:
						differences++
					}
				}
			}
		}
	}
	t.Logf("%d differences", differences)
}
