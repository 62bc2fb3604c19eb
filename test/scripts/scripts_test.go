// Package scripts runs the command line scripts of testdata, one file a
// subject, against the real brig. Each script has a store of its own with the
// image "busybox" in it, and fails if anything is left on the machine when its
// containers are removed.
//
// Besides testscript's own commands there are:
//
//	brig ARG...             exit code 0, or with ! any other
//	code N brig ARG...      this exit code
//	refused PATTERN brig ARG...  exit code 125, one line that matches, no container left
//	until PATTERN COMMAND   again and again until it works and prints that
//	let NAME                the last output, without space around it, becomes $NAME
//	image NAME CHANGE...    the image busybox with changes: file:PATH=SOURCE
//	                        (mode 0755), link:PATH=TARGET, dir:PATH, rm:PATH,
//	                        config:FILE (JSON of the image's config)
//	clean                   the store has no container, and nothing is left of any
package scripts

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/brig-run/brig/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestScripts(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	// Beside brig, where it looks for it.
	build := exec.Command("go", "build", "-o", filepath.Dir(bin)+"/", "github.com/brig-run/brig/cmd/brig-compose")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	work, err := os.MkdirTemp(harness.Scratch(), "brig-scripts-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		WorkdirRoot:         work,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(env *testscript.Env) error { return setup(env, bin) },
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"brig":    brig,
			"code":    code,
			"refused": refused,
			"until":   until,
			"let":     let,
			"image":   image,
			"clean":   clean,
		},
	})
}

// rootKey finds the store among a script's values.
type rootKey struct{}

func setup(env *testscript.Env, bin string) error {
	// Beside the work directory, whose files a script may count.
	root, err := harness.Open(env.WorkDir + ".root")
	if err != nil {
		return err
	}
	env.Values[rootKey{}] = root
	env.Setenv("BRIG_ROOT", root.Dir)
	env.Setenv("PATH", filepath.Dir(bin)+":"+env.Getenv("PATH"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("BRIG", bin)
	env.Setenv("TABLE", root.Table())
	env.Defer(func() {
		if err := root.Close(); err != nil {
			root.KillAll()
			env.T().Fatal(err)
		}
		os.RemoveAll(root.Dir)
	})
	busybox, err := harness.Busybox("busybox")
	if err != nil {
		return err
	}
	return root.Load(busybox)
}

// condition knows [cgroup:v1] and [cgroup:v2], [swap] for a kernel that can limit
// swap, and [ipv6].
func condition(cond string) (bool, error) {
	exists := func(name string) bool {
		_, err := os.Stat(name)
		return err == nil
	}
	v2 := exists("/sys/fs/cgroup/cgroup.controllers")
	switch cond {
	case "cgroup:v1":
		return !v2, nil
	case "cgroup:v2":
		return v2, nil
	case "ipv6":
		return exists("/proc/net/if_inet6"), nil
	case "journald":
		return exists("/run/systemd/journal/socket"), nil
	case "swap":
		return exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes") || v2 && exists("/proc/swaps"), nil
	}
	return false, errors.New("unknown condition")
}

func rootOf(ts *testscript.TestScript) *harness.Root {
	return ts.Value(rootKey{}).(*harness.Root)
}

func brig(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("brig", args...)
	if neg && err == nil {
		ts.Fatalf("brig worked, and should have failed")
	}
	if !neg {
		ts.Check(err)
	}
}

func code(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: code N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	switch err = ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	default:
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func refused(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: refused PATTERN command...")
	}
	re, err := regexp.Compile(args[0])
	ts.Check(err)
	root := rootOf(ts)
	before := root.Run("ps", "-aq").Stdout
	code(ts, false, append([]string{"125"}, args[1:]...))
	switch line := strings.TrimSuffix(ts.ReadFile("stderr"), "\n"); {
	case line == "" || strings.Contains(line, "\n"):
		ts.Fatalf("not one line")
	case !re.MatchString(line):
		ts.Fatalf("the line does not match %s", args[0])
	}
	if ts.ReadFile("stdout") != "" {
		ts.Fatalf("it printed something as if it had worked")
	}
	if after := root.Run("ps", "-aq").Stdout; after != before {
		ts.Fatalf("a container was left: %q, %q", before, after)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: until PATTERN command...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	ts.Check(harness.Eventually(strings.Join(args[1:], " ")+" prints "+args[0], func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && re.MatchString(ts.ReadFile("stdout"))
	}))
}

func let(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: let NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func image(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || neg {
		ts.Fatalf("usage: image NAME CHANGE...")
	}
	i, err := harness.Busybox(args[0])
	ts.Check(err)
	for _, change := range args[1:] {
		kind, rest, _ := strings.Cut(change, ":")
		name, value, _ := strings.Cut(rest, "=")
		switch kind {
		case "file":
			i.Add(harness.File(name, 0o755, []byte(ts.ReadFile(value))))
		case "link":
			i.Add(harness.Symlink(name, value))
		case "dir":
			i.Add(harness.Dir(name, 0o755))
		case "rm":
			i.Remove(name)
		case "config":
			text := []byte(ts.ReadFile(rest))
			ts.Check(json.Unmarshal(text, &i.Config))
			ts.Check(json.Unmarshal(text, &i.Docker))
		default:
			ts.Fatalf("unknown change %q", change)
		}
	}
	ts.Check(rootOf(ts).Load(i))
}

func clean(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 0 || neg {
		ts.Fatalf("usage: clean")
	}
	root := rootOf(ts)
	if res := root.Run("ps", "-a"); res.Code != 0 || strings.Count(res.Stdout, "\n") != 1 {
		ts.Fatalf("brig ps -a: exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	ts.Check(root.Leaks())
}
