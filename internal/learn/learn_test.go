package learn

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/spec"
)

// A probe fails with the last line that it printed, and is over in time with
// all that it started.
func TestProbe(t *testing.T) {
	for name, tt := range map[string]struct {
		command string
		timeout time.Duration
		want    string // "" for success
	}{
		"passes":      {"echo all well", time.Minute, ""},
		"says why":    {"echo first; echo; echo '  refused  ' >&2; exit 3", time.Minute, "the probe: refused"},
		"is silent":   {"exit 3", time.Minute, "the probe: exit status 3"},
		"hangs":       {"sleep 100 & sleep 100", 50 * time.Millisecond, "the probe did not end within"},
		"knows where": {`test "$BRIG_CONTAINER $BRIG_ROOT" = "id /root/of/it"`, time.Minute, ""},
	} {
		p := &probe{command: tt.command, timeout: tt.timeout, root: "/root/of/it"}
		err := p.try(context.Background(), "id", os.Getpid())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	p := &probe{command: "true", timeout: time.Minute}
	if err := p.try(context.Background(), "id", 1<<22+1); !errors.Is(err, errNoNetwork) {
		t.Errorf("of a process that is gone: %v", err)
	}
}

// What broke is told by the denial of what was taken away, whatever else was
// denied.
func TestVerdict(t *testing.T) {
	o := &outcome{err: errors.New("it fails"), recording: &record.Recording{Denials: []record.Denial{
		{Syscall: "clone3", Errno: "ENOSYS", By: "seccomp", Program: "a"},
		{Syscall: "prlimit64", Errno: "EPERM", By: "capability", Capabilities: []string{"SYS_RESOURCE"}, Program: "b"},
		{Syscall: "bind", Errno: "EACCES", By: "capability", Capabilities: []string{"NET_BIND_SERVICE"}, Program: "c"},
		{Syscall: "mount", By: "seccomp", Killed: true, Program: "d"},
	}}}
	for what, want := range map[string]string{
		"NET_BIND_SERVICE": "it fails (bind: EACCES in c)",
		"mount":            "it fails (mount: killed in d)",
		"CHOWN":            "it fails (prlimit64: EPERM in b)",
	} {
		if got := verdict(o, what); got != want {
			t.Errorf("without %s: %s, want %s", what, got, want)
		}
	}
}

// Trials run side by side only if they cannot get in each other's way.
func TestIndependent(t *testing.T) {
	for name, tt := range map[string]struct {
		o    spec.Options
		want bool
	}{
		"own network":         {spec.Options{}, true},
		"the host's network":  {spec.Options{Network: spec.NetworkHost}, false},
		"a directory to read": {spec.Options{Mounts: []spec.Mount{{Type: "bind", ReadOnly: true}}}, true},
		"one to write":        {spec.Options{Mounts: []spec.Mount{{Type: "bind"}}}, false},
		"a volume":            {spec.Options{Mounts: []spec.Mount{{Type: "volume", Source: "data"}}}, false},
		"an anonymous volume": {spec.Options{Mounts: []spec.Mount{{Type: "volume"}}}, true},
		"volumes of another":  {spec.Options{VolumesFrom: []spec.VolumesFrom{{Container: "db"}}}, false},
	} {
		l := &Learner{Create: engine.CreateOptions{Options: tt.o}}
		if got := l.independent(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Enforcing a policy leaves nothing of what the options granted.
func TestEnforce(t *testing.T) {
	o := engine.CreateOptions{Options: spec.Options{
		Privileged: true, CapAdd: []string{"SYS_ADMIN"}, CapAmbient: true,
		Security: spec.Security{Seccomp: spec.Seccomp{Mode: spec.SeccompUnconfined}},
	}}
	p := &policy.Policy{Version: policy.Version, Syscalls: []policy.Syscall{{Name: "read", Status: policy.Asked}}}
	if err := Enforce(&o, "/p.json", p); err != nil {
		t.Fatal(err)
	}
	if o.Options.Privileged || len(o.Options.CapAdd) > 0 || o.Options.CapAmbient || len(o.Options.CapDrop) != 1 || o.Options.CapDrop[0] != "ALL" {
		t.Errorf("%+v", o.Options)
	}
	if o.Options.Security.Seccomp != (spec.Seccomp{Mode: spec.SeccompFile, Path: "/p.json"}) || !strings.Contains(string(o.Profile), `"read"`) {
		t.Errorf("%+v %s", o.Options.Security, o.Profile)
	}
	if err := o.Options.Validate(); err != nil {
		t.Error(err)
	}
}
