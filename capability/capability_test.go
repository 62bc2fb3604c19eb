package capability

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestTableComplete(t *testing.T) {
	if known != 41 {
		t.Fatalf("table has %d capabilities, want 41", known)
	}
	seen := map[string]bool{}
	for i := range Cap(known) {
		if i.Short() == "" || seen[i.Short()] {
			t.Errorf("capability %d: name %q empty or twice", i, i.Short())
		}
		seen[i.Short()] = true
		if a := i.Allows(); !strings.HasSuffix(a, ".") || len(a) < 15 {
			t.Errorf("%v: description %q is no sentence", i, a)
		}
	}
}

// TestNumbersMatchHeader compares the table with the headers that the C
// compiler of this machine sees.
func TestNumbersMatchHeader(t *testing.T) {
	text, err := os.ReadFile("/usr/include/linux/capability.h")
	if err != nil {
		t.Skip("no kernel headers installed")
	}
	checked := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "#define" || !strings.HasPrefix(f[1], "CAP_") {
			continue
		}
		n, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		c, err := Parse(f[1])
		if err != nil || int(c) != n {
			t.Errorf("Parse(%s) = %d, %v; the header says %d", f[1], c, err, n)
		}
		checked++
	}
	if checked < 38 {
		t.Errorf("only %d capabilities found in the header", checked)
	}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Cap
		err  string
	}{
		{"CHOWN", CHOWN, ""},
		{"cap_chown", CHOWN, ""},
		{"Cap_Sys_Time", SYS_TIME, ""},
		{"checkpoint_restore", CHECKPOINT_RESTORE, ""},
		{"CAP_41", 41, ""},
		{"cap_63", 63, ""},
		{"SYS_TMIE", 0, `unknown capability "SYS_TMIE"; did you mean SYS_TIME?`},
		{"cap_net_admn", 0, `unknown capability "cap_net_admn"; did you mean NET_ADMIN?`},
		{"CAP_CAP_CHOWN", 0, `unknown capability "CAP_CAP_CHOWN"`},
		{"CAP_40", 0, `unknown capability "CAP_40"`},
		{"CAP_64", 0, `unknown capability "CAP_64"`},
		{"41", 0, `unknown capability "41"`},
		{"CAP_+1", 0, `unknown capability "CAP_+1"`},
		{"", 0, "empty capability name"},
		{"CAP_", 0, "empty capability name"},
		{"ALL", 0, `unknown capability "ALL"`},
		{" CHOWN", 0, `unknown capability " CHOWN"; did you mean CHOWN?`},
	} {
		got, err := Parse(tc.in)
		if got != tc.want || errText(err) != tc.err {
			t.Errorf("Parse(%q) = %v, %v; want %v, %s", tc.in, got, err, tc.want, tc.err)
		}
	}
}

func TestDefault(t *testing.T) {
	if n := Default().Len(); n != 14 {
		t.Errorf("Default has %d capabilities, want 14", n)
	}
	if got := uint64(Default()); got != 0xa80425fb {
		t.Errorf("Default = %#x, want Docker's 0xa80425fb", got)
	}
}

func TestKernelMatchesProc(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Skip("no /proc/sys/kernel/cap_last_cap")
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if want := Set(1)<<(last+1) - 1; Kernel() != want {
		t.Errorf("Kernel() = %#x, want %#x", uint64(Kernel()), uint64(want))
	}
}

func TestSetOperations(t *testing.T) {
	s := Of(CHOWN, KILL)
	for _, tc := range []struct{ got, want any }{
		{s.Has(KILL), true},
		{s.Has(BPF), false},
		{s.Has(200), false},
		{s.Add(200), s},
		{s.Drop(KILL), Of(CHOWN)},
		{s.Union(Of(BPF)), Of(BPF, CHOWN, KILL)},
		{s.Intersect(Of(BPF, KILL)), Of(KILL)},
		{s.Minus(Of(BPF, KILL)), Of(CHOWN)},
		{s.Contains(Of(KILL)), true},
		{s.Contains(Of(BPF)), false},
		{s.Len(), 2},
		{Set(0).Empty(), true},
		{fmt.Sprint(s.List()), "[CAP_CHOWN CAP_KILL]"},
		{s.String(), "CAP_CHOWN,CAP_KILL"},
		{Set(0).String(), "none"},
		{(s | 1<<50).String(), "CAP_CHOWN,CAP_KILL,CAP_50"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %v, want %v", tc.got, tc.want)
		}
	}
}

func TestSetJSON(t *testing.T) {
	for _, s := range []Set{0, Default(), Known(), 1<<63 | 1} {
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Set
		if err := json.Unmarshal(data, &back); err != nil || back != s {
			t.Errorf("%s comes back as %v, %v", data, back, err)
		}
	}
	for _, bad := range []string{`["CAP_NOPE"]`, `5`, `[1]`, `"CAP_CHOWN"`} {
		s := Of(BPF)
		if err := json.Unmarshal([]byte(bad), &s); err == nil || s != Of(BPF) {
			t.Errorf("%s: got %v, %v; want an error and no change", bad, s, err)
		}
	}
}

func TestResolve(t *testing.T) {
	kernel := Kernel()
	for _, tc := range []struct {
		name      string
		add, drop []string
		want      Set
		err       string
	}{
		{"nothing", nil, nil, Default(), ""},
		{"add", []string{"sys_time"}, nil, Default().Add(SYS_TIME), ""},
		{"drop", nil, []string{"CAP_chown"}, Default().Drop(CHOWN), ""},
		{"comma", []string{"sys_time,NET_ADMIN"}, []string{"KILL, mknod"}, Default().Add(SYS_TIME).Add(NET_ADMIN).Drop(KILL).Drop(MKNOD), ""},
		{"drop all, add one", []string{"SYS_TIME"}, []string{"ALL"}, Of(SYS_TIME), ""},
		{"drop all", nil, []string{"all"}, 0, ""},
		{"add all", []string{"All"}, nil, kernel, ""},
		{"add all, drop one", []string{"ALL"}, []string{"SYS_ADMIN"}, kernel.Drop(SYS_ADMIN), ""},
		{"both all", []string{"ALL"}, []string{"ALL"}, kernel, ""},
		{"both all and names", []string{"ALL", "CHOWN"}, []string{"ALL,CHOWN"}, kernel.Drop(CHOWN), ""},
		{"add wins over drop", []string{"CHOWN"}, []string{"CHOWN"}, Default(), ""},
		{"add absent and drop it", []string{"BPF"}, []string{"BPF"}, Default().Add(BPF), ""},
		{"drop absent", nil, []string{"BPF"}, Default(), ""},
		{"drop newer", nil, []string{"CAP_63"}, Default(), ""},
		{"unknown", []string{"SYS_TMIE"}, nil, 0, `add capabilities: unknown capability "SYS_TMIE"; did you mean SYS_TIME?`},
		{"unknown drop", nil, []string{"ALL,CHWN"}, 0, `drop capabilities: unknown capability "CHWN"; did you mean CHOWN?`},
		{"empty", []string{""}, nil, 0, "add capabilities: empty capability name"},
		{"empty part", nil, []string{"CHOWN,"}, 0, `drop capabilities: empty capability name in "CHOWN,"`},
		{"too new", []string{"CAP_63"}, nil, 0, "add capabilities: this kernel does not know CAP_63"},
		{"no prefix for ALL", []string{"CAP_ALL"}, nil, 0, `add capabilities: unknown capability "CAP_ALL"`},
	} {
		got, err := Resolve(Default(), tc.add, tc.drop)
		if got != tc.want || errText(err) != tc.err {
			t.Errorf("%s: got %v, %v; want %v, %s", tc.name, got, err, tc.want, tc.err)
		}
	}
}

const exampleStatus = "Name:\tsh\nCapInh:\t0000000000000001\nCapPrm:\t00000000a80425fb\n" +
	"CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000020\nNoNewPrivs:\t0\n"

func TestParseStatus(t *testing.T) {
	got, err := ParseStatus([]byte(exampleStatus))
	want := Sets{Inheritable: Of(CHOWN), Permitted: Default(), Bounding: Known(), Ambient: Of(KILL)}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for name, bad := range map[string]string{
		"missing": strings.Replace(exampleStatus, "CapAmb", "CapXmb", 1),
		"twice":   exampleStatus + "CapAmb:\t0\n",
		"no hex":  strings.Replace(exampleStatus, "a80425fb", "a80425fg", 1),
		"long":    strings.Replace(exampleStatus, "a80425fb", "a80425fb000000000", 1),
		"empty":   "",
	} {
		if sets, err := ParseStatus([]byte(bad)); err == nil || sets != (Sets{}) {
			t.Errorf("%s: got %+v, %v; want an error", name, sets, err)
		}
	}
}

func TestProcessSets(t *testing.T) {
	own, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	if !own.Permitted.Contains(own.Effective) || !Kernel().Contains(own.Bounding) {
		t.Errorf("impossible sets %+v", own)
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	got, err := OfProcess(child.Process.Pid)
	if err != nil || got.Bounding != own.Bounding {
		t.Errorf("sets of a child: %+v, %v; want the bounding set %v", got, err, own.Bounding)
	}
	if _, err := OfProcess(-1); err == nil {
		t.Error("no error for a process that does not exist")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"CHOWN", "cap_kill", "CAP_41", "SYS_TMIE", "", "ALL"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			return
		}
		if back, err := Parse(c.String()); err != nil || back != c || c > maxCap {
			t.Errorf("Parse(%q) = %v, which comes back as %v, %v", s, c, back, err)
		}
	})
}

func FuzzResolve(f *testing.F) {
	f.Add("ALL", "CHOWN,KILL")
	f.Add("SYS_TIME", "all")
	f.Add("", ",")
	f.Fuzz(func(t *testing.T, add, drop string) {
		got, err := Resolve(Default(), []string{add}, []string{drop})
		if err == nil && !Kernel().Contains(got) {
			t.Errorf("Resolve(%q, %q) = %v: beyond the kernel", add, drop, got)
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(exampleStatus))
	f.Add([]byte("CapInh:\nCapInh:"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if sets, err := ParseStatus(data); err != nil && sets != (Sets{}) {
			t.Error("sets and an error")
		}
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
