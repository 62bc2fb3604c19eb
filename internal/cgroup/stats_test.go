package cgroup

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keys lists the paths of all values of a JSON document.
func keys(prefix string, v any) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			out = append(out, keys(prefix+"."+k, e)...)
		}
	case []any:
		for _, e := range v {
			out = append(out, keys(prefix+"[]", e)...)
		}
	default:
		return []string{prefix}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// The figures are those of runc, in its form.
func TestStatsAsRunc(t *testing.T) {
	needs(t, "memory", "pids")
	r := newRunc(t)
	path, id := fmt.Sprintf("/brig-test/%d", os.Getpid()), fmt.Sprintf("brig-test-%d", os.Getpid())
	spec := bundled(path, parsed(t, `{"memory": {"limit": 67108864, "swap": 134217728}, "pids": {"limit": 42}, "cpu": {"quota": 50000}}`))
	if err := r.create(spec, id); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.run("delete", "--force", id); err != nil {
			t.Error(err)
		}
		for _, d := range Existing("/brig-test") {
			os.Remove(d)
		}
	}()
	text, err := exec.Command("runc", "--root", r.root, "events", "--stats", id).Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs struct{ Data map[string]any }
	if err := json.Unmarshal(text, &theirs); err != nil {
		t.Fatal(err)
	}
	g, err := Load(Existing(path), Options{})
	if err != nil {
		t.Fatal(err)
	}
	stats, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	text, err = json.Marshal(stats)
	if err != nil {
		t.Fatal(err)
	}
	var ours map[string]any
	if err := json.Unmarshal(text, &ours); err != nil {
		t.Fatal(err)
	}
	got := keys("", ours)
	for _, k := range keys("", theirs.Data) {
		// A figure that is zero is left out; it may have become or been zero.
		if !slices.Contains(got, k) && !strings.Contains(k, "hrottl") && !strings.Contains(k, "io") {
			t.Errorf("runc tells %s, this package does not", k)
		}
	}
	for name, pair := range map[string][2]uint64{
		"memory.usage.limit": {stats.Memory.Usage.Limit, 64 << 20},
		"memory.swap.limit":  {stats.Memory.Swap.Limit, 128 << 20},
		"pids.limit":         {stats.Pids.Limit, 42},
		"pids.current":       {stats.Pids.Current, uint64(theirs.Data["pids"].(map[string]any)["current"].(float64))},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %d, want %d", name, pair[0], pair[1])
		}
	}
	if stats.CPU.Usage.Total == 0 || stats.Memory.Usage.Usage == 0 {
		t.Errorf("a process ran and used nothing: %+v", stats)
	}
}

// Where controllers are few, figures are few, without an error.
func TestStatsEmpty(t *testing.T) {
	g := limited(t, nil)
	s, err := g.Stats()
	if err != nil || s.Pids.Current != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestOOMEvents(t *testing.T) {
	needs(t, "memory")
	r := parsed(t, `{"memory": {"limit": 16777216, "swap": 16777216}}`)
	g := limited(t, r)
	keeper := inhabited(t, g, "exec sleep 60")
	events, err := g.OOMEvents()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-events:
		t.Error("an event without reason")
	default:
	}
	join := ""
	for _, d := range g.Dirs {
		join += "echo $$ >" + d + "/cgroup.procs\n"
	}
	hog := exec.Command("sh", "-c", join+"exec tail /dev/zero")
	if err := hog.Run(); err == nil {
		t.Error("memory without end")
	}
	if _, ok := <-events; !ok {
		t.Error("no event")
	}
	if n, err := g.OOMKills(); err != nil || n == 0 {
		t.Errorf("%d kills, %v", n, err)
	}
	keeper.Process.Kill()
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	end := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return
			}
		case <-end:
			t.Fatal("the channel is not closed when the cgroup is gone")
		}
	}
}

func TestForExec(t *testing.T) {
	g := limited(t, nil)
	init := inhabited(t, g, "exec sleep 60")
	if same, err := g.ForExec(nil, init.Process.Pid); err != nil || !slices.Equal(same.Dirs, g.Dirs) {
		t.Errorf("without --cgroup: %v, %v", same, err)
	}
	for _, d := range g.Dirs {
		if err := os.MkdirAll(d+"/a/b", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := g.ForExec([]string{"a/b"}, init.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range sub.Dirs {
		if d != g.Dirs[i]+"/a/b" {
			t.Errorf("%s for %s", d, g.Dirs[i])
		}
	}
	for _, h := range sub.Layout.Hierarchies {
		if !strings.HasSuffix(h.Path, "/a/b") {
			t.Errorf("hierarchy %+v", h)
		}
	}
	if dir := sub.UnifiedDir(); dir != "" && dir != g.UnifiedDir()+"/a/b" {
		t.Errorf("v2 directory %s", dir)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"../other"}, "not below"},
		{[]string{"a/../../other"}, "not below"},
		{[]string{"none"}, "no such cgroup"},
		{[]string{"a", "a/b"}, "missing <controller>: prefix"},
		{[]string{":a"}, "empty <controller> prefix"},
		{[]string{"cpu:a", "cpu:a"}, "multiple times"},
		{[]string{"nosuch:a"}, "no cgroup of controller nosuch"},
	} {
		if _, err := g.ForExec(tt.args, init.Process.Pid); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.args, err, tt.want)
		}
	}
	if Mode() == "v2" {
		t.Run("init elsewhere", func(t *testing.T) { execBesideInit(t, g, init) })
		return
	}
	some, err := g.ForExec([]string{"cpu,cpuacct:a", "memory:a/b"}, init.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range some.Dirs {
		want := ""
		switch hierarchyDir(d) {
		case "cpu", "cpuacct", "cpu,cpuacct":
			want = "/a"
		case "memory":
			want = "/a/b"
		}
		if !slices.Contains(g.Dirs, strings.TrimSuffix(d, want)) {
			t.Errorf("directory %s", d)
		}
	}
}

// A container that limits its own cgroups, as systemd in it does, has no
// processes in the topmost.
func execBesideInit(t *testing.T, g *Group, init *exec.Cmd) {
	dir := g.UnifiedDir()
	leaf := filepath.Join(dir, "a/b")
	if err := os.WriteFile(leaf+"/cgroup.procs", fmt.Append(nil, init.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	have, _ := os.ReadFile(dir + "/cgroup.controllers")
	if len(strings.Fields(string(have))) == 0 {
		t.Skip("no controllers")
	}
	for _, d := range []string{dir, dir + "/a"} {
		if err := os.WriteFile(d+"/cgroup.subtree_control", []byte("+"+strings.Fields(string(have))[0]), 0); err != nil {
			t.Fatal(err)
		}
	}
	beside, err := g.ForExec(nil, init.Process.Pid)
	if err != nil || beside.UnifiedDir() != leaf {
		t.Errorf("joins %v, %v; want %s", beside.Dirs, err, leaf)
	}
}
