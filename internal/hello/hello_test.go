package hello

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// filterVar names a profile under which the test's binary runs the program.
const filterVar = "HELLO_TEST_PROFILE"

// TestMain makes the test's binary the program itself, its child, or the
// program under a filter.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "hello" {
		os.Exit(m.Run())
	}
	if profile := os.Getenv(filterVar); profile != "" {
		os.Unsetenv(filterVar)
		if err := load(profile); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(9)
		}
	}
	os.Exit(Main(os.Args[2:], os.Stdout))
}

func compiled(profile string) (*seccomp.Policy, *seccomp.Filter, error) {
	p := seccomp.Default()
	if profile != "default" {
		var err error
		if p, err = seccomp.ParseProfile("test.json", []byte(profile)); err != nil {
			return nil, nil, err
		}
	}
	target, err := seccomp.Here(capability.Default())
	if err != nil {
		return nil, nil, err
	}
	policy, _, err := p.Resolve(target)
	if err != nil {
		return nil, nil, err
	}
	f, err := seccomp.Compile(policy)
	return policy, f, err
}

func load(profile string) error {
	_, f, err := compiled(profile)
	if err != nil {
		return err
	}
	f.Flags |= seccomp.FlagTSync
	_, err = f.Load()
	return err
}

func report(t *testing.T, profile string) *Report {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "hello", "--format", "json")
	cmd.Env = append(os.Environ(), filterVar+"="+profile)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := &Report{}
	if err := json.Unmarshal(out, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// What the program finds must be what the policy says of the same calls.
func TestBlockedCallsAreThePolicys(t *testing.T) {
	for _, tt := range []struct{ name, profile string }{
		{"Docker's default", "default"},
		{"some calls, with errnos", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
			{"names":["mkdir","mkdirat","reboot"],"action":"SCMP_ACT_ERRNO"},
			{"names":["swapon"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
			{"names":["personality"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":262144,"op":"SCMP_CMP_EQ"}]}]}`},
		{"killed processes", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","swapon","exit"],"action":"SCMP_ACT_KILL_PROCESS"}]}`},
		{"all killed but some", allBut("mkdir", "swapon", "reboot", "io_uring_setup", "clone3", "mseal")},
		{"killed threads", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","swapon"],"action":"SCMP_ACT_KILL_THREAD"}]}`},
		{"trapped", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRAP"}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := report(t, tt.profile)
			if r.Seccomp.Mode != 2 || r.Seccomp.Filters < 1 || r.Seccomp.Error != "" {
				t.Fatalf("seccomp: %+v", r.Seccomp)
			}
			if got, want := strings.Join(names(r), "\n"), strings.Join(policys(t, tt.profile), "\n"); got != want {
				t.Errorf("found\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// allBut is a profile that names all calls of this machine but some, and whose
// default is to kill.
func allBut(others ...string) string {
	arch, _ := syscalls.Native()
	var names []string
	for _, name := range syscalls.All(arch) {
		if !slices.Contains(others, name) {
			names = append(names, `"`+name+`"`)
		}
	}
	return `{"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[{"action":"SCMP_ACT_ALLOW","names":[` + strings.Join(names, ",") + `]}]}`
}

// A filter that stops the search must not pass for one that stops everything.
func TestFiltersThatPreventTheSearch(t *testing.T) {
	for _, tt := range []struct{ names, action, want string }{
		{`"seccomp"`, "SCMP_ACT_ERRNO", "load a filter: operation not permitted"},
		{`"ioctl"`, "SCMP_ACT_ERRNO", "answer a notification: operation not permitted"},
		{`"ioctl"`, "SCMP_ACT_KILL_PROCESS", "bad system call"},
		{`"poll","ppoll"`, "SCMP_ACT_ERRNO", "poll for notifications: operation not permitted"},
		{`"prctl"`, "SCMP_ACT_ERRNO", "set no_new_privs: operation not permitted"},
	} {
		t.Run(tt.names+" "+tt.action, func(t *testing.T) {
			r := report(t, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[`+tt.names+`],"action":"`+tt.action+`"}]}`)
			if r.Seccomp.Error == "" || !strings.Contains(r.Seccomp.Error, tt.want) || len(r.Seccomp.Blocked) > 0 || r.Seccomp.Probed > 0 {
				t.Errorf("%+v, want the error %q", r.Seccomp, tt.want)
			}
		})
	}
}

// On one processor the child has to answer itself while it waits for the answer.
func TestOneProcessor(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer unix.SchedSetaffinity(0, &all)
	r := report(t, "default") // its process inherits this thread's
	if r.Seccomp.Error != "" || r.Seccomp.Probed < 300 {
		t.Errorf("seccomp: %+v", r.Seccomp)
	}
}

func names(r *Report) (list []string) {
	for _, b := range r.Seccomp.Blocked {
		list = append(list, b.Name+" "+b.Use)
	}
	return list
}

func policys(t *testing.T, profile string) (list []string) {
	t.Helper()
	policy, _, err := compiled(profile)
	if err != nil {
		t.Fatal(err)
	}
	arch, _ := syscalls.Native()
	whole := map[string]bool{}
	for _, a := range attempts(arch) {
		args := [6]uint64{a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], mark}
		if policy.Action(arch.Audit(), a.nr, args).Kind() == seccomp.Allow || whole[a.name] {
			continue
		}
		whole[a.name] = whole[a.name] || a.use == ""
		list = append(list, a.name+" "+a.use)
	}
	return list
}

func TestNoFilterBlocksNothing(t *testing.T) {
	r, err := Look()
	if err != nil {
		t.Fatal(err)
	}
	if r.Seccomp.Mode == 0 && (len(r.Seccomp.Blocked) > 0 || r.Seccomp.Probed < 300) {
		t.Errorf("without a filter: %+v", r.Seccomp)
	}
	own, err := capability.Current()
	if err != nil {
		t.Fatal(err)
	}
	if r.Capabilities != own {
		t.Errorf("capabilities %v, want %v", r.Capabilities, own)
	}
}

func TestNamespaces(t *testing.T) {
	all := namespaces("")
	for _, n := range all {
		if n.Host != "unknown" || n.ID == 0 {
			t.Errorf("told nothing: %+v", n)
		}
	}
	for _, n := range namespaces("pid=1,net=2") {
		want := "unknown"
		if n.Name == "pid" || n.Name == "net" {
			want = "own"
		}
		if n.Host != want {
			t.Errorf("%s: %s, want %s", n.Name, n.Host, want)
		}
	}
}

func TestUsage(t *testing.T) {
	var out bytes.Buffer
	if code := Main([]string{"--format", "xml"}, &out); code != 2 {
		t.Errorf("exit code %d", code)
	}
	if code := Main(nil, &out); code != 0 || !strings.Contains(out.String(), "Capabilities") {
		t.Errorf("exit code %d, output %q", code, out.String())
	}
}
