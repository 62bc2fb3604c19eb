package spec

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/docker/cli/pkg/kvfile"
)

// parseCase is one value of a flag: what it means, or a piece of the error that
// tells the user what to write.
type parseCase[T any] struct {
	in      string
	want    T
	wantErr string
}

func runParse[T any](t *testing.T, flag string, parse func(string) (T, error), cases []parseCase[T]) {
	t.Helper()
	for _, c := range cases {
		got, err := parse(c.in)
		if c.wantErr == "" {
			if err != nil {
				t.Errorf("%s %q: unexpected error: %v", flag, c.in, err)
			} else if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s %q = %+v, want %+v", flag, c.in, got, c.want)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s %q was accepted as %+v, want an error with %q", flag, c.in, got, c.wantErr)
			continue
		}
		checkErrorLine(t, err, flag)
		if !strings.Contains(err.Error(), c.wantErr) {
			t.Errorf("%s %q: error %q does not say %q", flag, c.in, err, c.wantErr)
		}
	}
}

// checkErrorLine: one line that begins with the flag.
func checkErrorLine(t *testing.T, err error, flag string) {
	t.Helper()
	msg := err.Error()
	if !strings.HasPrefix(msg, flag) || strings.ContainsAny(msg, "\n\r\x00\x1b") || strings.HasSuffix(msg, ".") {
		t.Errorf("error is not a line that names %s: %q", flag, msg)
	}
}

func bind(src, dst string, change ...func(*Mount)) Mount {
	m := Mount{Type: MountBind, Source: src, Target: dst}
	for _, f := range change {
		f(&m)
	}
	return m
}

func create(m *Mount) { m.CreateSource = true }
func ro(m *Mount)     { m.ReadOnly = true }

// mode is the third part of -v.
func mode(s string) func(*Mount) { return func(m *Mount) { m.Mode = s } }

func volumeAt(name, dst string, change ...func(*Mount)) Mount {
	m := Mount{Type: MountVolume, Source: name, Target: dst, Volume: VolumeMount{Anonymous: name == ""}}
	for _, f := range change {
		f(&m)
	}
	return m
}

func TestParseVolume(t *testing.T) {
	parse := func(v string) (Mount, error) { return ParseVolume(v, "/home/me/work") }
	runParse(t, "--volume", parse, []parseCase[Mount]{
		{in: "/a:/b", want: bind("/a", "/b", create)},
		{in: "/a/../c//d/:/b/", want: bind("/c/d", "/b", create)},
		{in: "./x:/y", want: bind("/home/me/work/x", "/y", create)},
		{in: ".:/y", want: bind("/home/me/work", "/y", create)},
		{in: "../x:/y", want: bind("/home/me/x", "/y", create)},
		{in: "/a:/b:ro", want: bind("/a", "/b", create, ro, mode("ro"))},
		{in: "/a:/b:rw,Z", want: bind("/a", "/b", create, mode("rw,Z"))},
		{in: "/a:/b:z,ro,rshared", want: bind("/a", "/b", create, ro, mode("z,ro,rshared"), func(m *Mount) { m.Propagation = "rshared" })},
		{in: "/a:/b:cached", want: bind("/a", "/b", create, mode("cached"))},
		{in: "/y", want: volumeAt("", "/y")},
		{in: "data:/y", want: volumeAt("data", "/y")},
		{in: "data:/y:ro,nocopy", want: volumeAt("data", "/y", ro, mode("ro,nocopy"), func(m *Mount) { m.Volume.NoCopy = true })},
		{in: "", wantErr: "write SOURCE:TARGET"},
		{in: "y", wantErr: "write /y"},
		{in: "d:/y", wantErr: "use 2 to 255"},
		{in: "-data:/y", wantErr: "bind a directory of the host write ./-data"},
		{in: "data:/y:rshared", wantErr: "does not propagate"},
		{in: "data:/y:nocopi", wantErr: "did you mean nocopy?"},
		{in: "data:/y:nocopy,nocopy", wantErr: "keep one"},
		{in: "a/b:/y", wantErr: "write ./a/b"},
		{in: "/a:b", wantErr: "write /b"},
		{in: "/a:", wantErr: "missing"},
		{in: ":/b", wantErr: "missing"},
		{in: "/a:/", wantErr: "root directory"},
		{in: "/a:/b/..", wantErr: "root directory"},
		{in: "/a:/b:", wantErr: `unknown option ""`},
		{in: "/a:/b:rshard", wantErr: "did you mean rshared?"},
		{in: "/a:/b:ro,rw", wantErr: "keep one"},
		{in: "/a:/b:slave,shared", wantErr: "keep one"},
		{in: "/a:/b:nocopy", wantErr: "nocopy is for volumes"},
		{in: "/a:/b:ro:z", wantErr: "too many colons"},
		{in: "/a\x00:/b", wantErr: "NUL"},
	})
}

func TestParseVolumesFrom(t *testing.T) {
	runParse(t, "--volumes-from", ParseVolumesFrom, []parseCase[VolumesFrom]{
		{in: "db", want: VolumesFrom{Container: "db"}},
		{in: "db:ro", want: VolumesFrom{Container: "db", ReadOnly: true}},
		{in: "db:rw,z", want: VolumesFrom{Container: "db"}},
		{in: "", wantErr: "write CONTAINER"},
		{in: ":ro", wantErr: "write CONTAINER"},
		{in: "db:", wantErr: "unknown option"},
		{in: "db:roo", wantErr: "did you mean ro?"},
	})
}

func TestParseMount(t *testing.T) {
	parse := func(v string) (Mount, error) { return ParseMount(v, "/home/me") }
	tmpfs := func(opts ...string) Mount { return Mount{Type: MountTmpfs, Target: "/t", Options: opts} }
	runParse(t, "--mount", parse, []parseCase[Mount]{
		{in: "type=bind,source=/a,target=/b", want: bind("/a", "/b")},
		{in: "type=bind,src=/a/,dst=/b/", want: bind("/a", "/b")},
		{in: "TYPE=Bind,Src=./a,destination=/b", want: bind("/home/me/a", "/b")},
		{in: "type=bind,src=/a,dst=/b,readonly", want: bind("/a", "/b", ro)},
		{in: "type=bind,src=/a,dst=/b,ro=1", want: bind("/a", "/b", ro)},
		{in: "type=bind,src=/a,dst=/b,readonly=false", want: bind("/a", "/b")},
		{in: `type=bind,"src=/a,b",dst=/b`, want: bind("/a,b", "/b")},
		{in: "type=bind,src=/a,dst=/b,bind-propagation=rslave", want: bind("/a", "/b", func(m *Mount) { m.Propagation = "rslave" })},
		{in: "type=bind,src=/a,dst=/b,bind-nonrecursive", want: bind("/a", "/b", func(m *Mount) { m.NonRecursive = true })},
		{in: "type=bind,src=/a,dst=/b,bind-recursive=disabled", want: bind("/a", "/b", func(m *Mount) { m.NonRecursive = true })},
		{in: "type=bind,src=/a,dst=/b,ro,bind-recursive=writable", want: bind("/a", "/b", ro, func(m *Mount) { m.ReadOnlyNonRecursive = true })},
		{in: "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=rprivate", want: bind("/a", "/b", ro, func(m *Mount) { m.Propagation = "rprivate" })},
		{in: "type=bind,src=/a,dst=/b,bind-create-src", want: bind("/a", "/b", create)},
		{in: "type=tmpfs,destination=/t", want: tmpfs()},
		{in: "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770", want: tmpfs("size=67108864", "mode=1770")},
		{in: "", wantErr: "write type=volume"},
		{in: "type=bind\nsrc=/a", wantErr: "one line"},
		{in: "source=vol,target=/b", want: volumeAt("vol", "/b")},
		{in: "type=volume,source=vol,target=/b,readonly", want: volumeAt("vol", "/b", ro)},
		{in: "type=volume,dst=/b", want: volumeAt("", "/b")},
		{in: "src=vol,dst=/b,volume-nocopy,volume-subpath=a/../b/c,volume-label=k=v,volume-label=x,volume-driver=local", want: volumeAt("vol", "/b", func(m *Mount) {
			m.Volume = VolumeMount{NoCopy: true, Subpath: "b/c", Labels: map[string]string{"k": "v", "x": ""}, Driver: "local"}
		})},
		{in: `src=vol,dst=/b,volume-opt=type=tmpfs,"volume-opt=o=uid=1,size=2"`, want: volumeAt("vol", "/b", func(m *Mount) {
			m.Volume.DriverOptions = map[string]string{"type": "tmpfs", "o": "uid=1,size=2"}
		})},
		{in: "dst=/b,readonly", wantErr: "add source=NAME"},
		{in: "src=/a,dst=/b", wantErr: "add type=bind"},
		{in: "src=vol,dst=/b,volume-subpath=../x", wantErr: "stays within the volume"},
		{in: "src=vol,dst=/b,volume-subpath=/x", wantErr: "relative path"},
		{in: "src=vol,dst=/b,volume-driver=nfs", wantErr: "local is the only driver"},
		{in: "src=vol,dst=/b,volume-opt=x", wantErr: "KEY=VALUE"},
		{in: "src=vol,dst=/b,volume-nocpy", wantErr: "did you mean volume-nocopy?"},
		{in: "src=vol,dst=/b,tmpfs-size=1", wantErr: "does not go with type=volume"},
		{in: "src=vol,dst=/b,bind-propagation=rslave", wantErr: "does not go with type=volume"},
		{in: "type=bid,source=v,target=/b", wantErr: "did you mean bind?"},
		{in: "type=image,source=v,target=/b", wantErr: "not supported"},
		{in: "type=bind,source=/a", wantErr: "add target=/path"},
		{in: "type=bind,target=/a", wantErr: "add source="},
		{in: "type=bind,source=a,target=/b", wantErr: "source=./a"},
		{in: "type=bind,source=/a,target=b", wantErr: "write /b"},
		{in: "type=bind,source=/a,target=/", wantErr: "root directory"},
		{in: "type=bind,sorce=/a,target=/b", wantErr: "did you mean source?"},
		{in: "type=bind,source,target=/b", wantErr: "source=VALUE"},
		{in: "type=bind,src=/a,dst=/b,readonly=maybe", wantErr: "true or false"},
		{in: "type=bind,src=/a,dst=/b,bind-propagation=x", wantErr: "unknown propagation"},
		{in: "type=bind,src=/a,dst=/b,bind-recursive=readonly", wantErr: "needs readonly"},
		{in: "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly", wantErr: "bind-propagation=rprivate"},
		{in: "type=bind,src=/a,dst=/b,bind-recursive=writable", wantErr: "needs readonly"},
		{in: "type=bind,src=/a,dst=/b,tmpfs-size=1", wantErr: "does not go with type=bind"},
		{in: "type=tmpfs,dst=/b,bind-propagation=shared", wantErr: "does not go with type=tmpfs"},
		{in: "type=tmpfs,src=/a,dst=/b", wantErr: "remove source=/a"},
		{in: "type=tmpfs,dst=/t,tmpfs-size=x", wantErr: "not a size"},
		{in: "type=tmpfs,dst=/t,tmpfs-mode=9", wantErr: "octal"},
		{in: "type=bind,src=/a,dst=/b,volume-nocopy", wantErr: "does not go with type=bind"},
		{in: "type=bind, src=/a,dst=/b", wantErr: "unknown field"},
	})
}

func TestParseTmpfs(t *testing.T) {
	tmpfs := func(opts ...string) Mount { return Mount{Type: MountTmpfs, Target: "/run", Options: opts} }
	runParse(t, "--tmpfs", ParseTmpfs, []parseCase[Mount]{
		{in: "/run", want: tmpfs()},
		{in: "/run/:", want: tmpfs()},
		{in: "/run:rw,exec,size=64m,mode=1777,uid=5,gid=6", want: tmpfs("rw", "exec", "size=64m", "mode=1777", "uid=5", "gid=6")},
		{in: "/run:size=50%", want: tmpfs("size=50%")},
		{in: "run", wantErr: "write /run"},
		{in: "/", wantErr: "root directory"},
		{in: "/run:noexce", wantErr: "did you mean noexec?"},
		{in: "/run:lowerdir=/", wantErr: "unknown option"},
		{in: "/run:size=x", wantErr: "needs a number"},
		{in: "/run:size=", wantErr: "needs a number"},
		{in: "/run:size=%", wantErr: "needs a number"},
		{in: "/run:mode=8", wantErr: "octal"},
		{in: "/run:uid=root", wantErr: "needs a number"},
		{in: "/run:a,,b", wantErr: "unknown option"},
	})
}

func TestParseDevice(t *testing.T) {
	runParse(t, "--device", ParseDevice, []parseCase[Device]{
		{in: "/dev/fuse", want: Device{"/dev/fuse", "/dev/fuse", "rwm"}},
		{in: "/dev/fuse:/dev/x", want: Device{"/dev/fuse", "/dev/x", "rwm"}},
		{in: "/dev/fuse:r", want: Device{"/dev/fuse", "/dev/fuse", "r"}},
		{in: "/dev/snd/:/dev/y/:mrw", want: Device{"/dev/snd", "/dev/y", "mrw"}},
		{in: "dev/fuse", wantErr: "absolute"},
		{in: "", wantErr: "absolute"},
		{in: "/dev/fuse:x", wantErr: "write /x"},
		{in: "/dev/fuse:/x:rwx", wantErr: "r, w and m"},
		{in: "/dev/fuse:/x:rr", wantErr: "each once"},
		{in: "/dev/fuse:/x:", wantErr: "r, w and m"},
		{in: "/dev/fuse:/", wantErr: "cannot be /"},
		{in: "/a:/b:r:w", wantErr: "too many colons"},
		{in: "vendor.com/gpu=all", wantErr: "CDI"},
	})
}

func TestParseUlimit(t *testing.T) {
	runParse(t, "--ulimit", ParseUlimit, []parseCase[Ulimit]{
		{in: "nofile=1024:2048", want: Ulimit{"nofile", 1024, 2048}},
		{in: "core=0", want: Ulimit{"core", 0, 0}},
		{in: "memlock=-1", want: Ulimit{"memlock", -1, -1}},
		{in: "memlock=5:-1", want: Ulimit{"memlock", 5, -1}},
		{in: "nofile", wantErr: "NAME=SOFT[:HARD]"},
		{in: "nofiles=1", wantErr: "did you mean nofile?"},
		{in: "nofile=2048:1024", wantErr: "above the hard limit"},
		{in: "nofile=-1:5", wantErr: "above the hard limit"},
		{in: "nofile=-2", wantErr: "-1 is unlimited"},
		{in: "nofile=1:2:3", wantErr: "hard limit"},
		{in: "nofile=", wantErr: "soft limit"},
	})
}

func TestParseNumbers(t *testing.T) {
	memory := func(v string) (int64, error) { return ParseSize("--memory", v) }
	runParse(t, "--memory", memory, []parseCase[int64]{
		{in: "512m", want: 512 << 20}, {in: "1.5g", want: 3 << 29}, {in: "7", want: 7},
		{in: "8b", want: 8}, {in: "4KiB", want: 4096}, {in: "0", want: 0},
		{in: "12x", wantErr: "512m"}, {in: "-1", wantErr: "not a size"}, {in: "", wantErr: "not a size"},
		{in: "99999999999999g", wantErr: "not a size"},
	})
	runParse(t, "--memory-swap", ParseMemorySwap, []parseCase[int64]{
		{in: "-1", want: -1}, {in: "1g", want: 1 << 30}, {in: "-2", wantErr: "unlimited swap"}, {in: "x", wantErr: "-1"},
	})
	runParse(t, "--cpus", ParseCPUs, []parseCase[int64]{
		{in: "1.5", want: 15e8}, {in: "0.01", want: 1e7}, {in: ".5", want: 5e8}, {in: "2.", want: 2e9}, {in: "007", want: 7e9},
		{in: "", wantErr: "1.5"}, {in: ".", wantErr: "1.5"}, {in: "-1", wantErr: "1.5"}, {in: "1e3", wantErr: "1.5"},
		{in: "1.2.3", wantErr: "1.5"}, {in: "0.0000000001", wantErr: "too precise"}, {in: "99999999999", wantErr: "too many"},
	})
	shares := func(v string) (int64, error) { return ParseCPUShares(v) }
	runParse(t, "--cpu-shares", shares, []parseCase[int64]{
		{in: "512", want: 512}, {in: "0", want: 0}, {in: "-1", wantErr: "1024"}, {in: "x", wantErr: "1024"},
	})
	cpuset := func(v string) (string, error) { return ParseCPUSet("--cpuset-cpus", v) }
	runParse(t, "--cpuset-cpus", cpuset, []parseCase[string]{
		{in: "0-1,3", want: "0-1,3"}, {in: "5", want: "5"}, {in: "", want: ""},
		{in: "3-1", wantErr: "backwards"}, {in: "a", wantErr: "0-3,7"}, {in: "0,,1", wantErr: "0-3,7"},
		{in: "0-", wantErr: "0-3,7"}, {in: "-1", wantErr: "0-3,7"}, {in: "0-1-2", wantErr: "0-3,7"}, {in: "70000", wantErr: "0-3,7"},
	})
	runParse(t, "--oom-score-adj", ParseOOMScoreAdj, []parseCase[int]{
		{in: "-1000", want: -1000}, {in: "1000", want: 1000}, {in: "1001", wantErr: "-1000 to 1000"}, {in: "x", wantErr: "-1000"},
	})
	runParse(t, "--pids-limit", ParsePidsLimit, []parseCase[int64]{
		{in: "100", want: 100}, {in: "-1", want: -1}, {in: "-2", wantErr: "-1 is unlimited"}, {in: "x", wantErr: "number"},
	})
	runParse(t, "--stop-timeout", ParseStopTimeout, []parseCase[int]{
		{in: "10", want: 10}, {in: "-1", want: -1}, {in: "-2", wantErr: "seconds"}, {in: "1s", wantErr: "seconds"},
	})
	runParse(t, "--stop-signal", ParseStopSignal, []parseCase[syscall.Signal]{
		{in: "SIGTERM", want: 15}, {in: "term", want: 15}, {in: "9", want: 9}, {in: "RTMIN+3", want: 37}, {in: "64", want: 64},
		{in: "65", wantErr: "SIGTERM or 15"}, {in: "0", wantErr: "SIGTERM"}, {in: "-1", wantErr: "SIGTERM"}, {in: "SIGFOO", wantErr: "SIGTERM"}, {in: "", wantErr: "SIGTERM"},
	})
}

func TestParseSysctl(t *testing.T) {
	parse := func(v string) ([2]string, error) { k, val, err := ParseSysctl(v); return [2]string{k, val}, err }
	runParse(t, "--sysctl", parse, []parseCase[[2]string]{
		{in: "net.core.somaxconn=256", want: [2]string{"net.core.somaxconn", "256"}},
		{in: "net.ipv4.ip_local_port_range=1 2=3", want: [2]string{"net.ipv4.ip_local_port_range", "1 2=3"}},
		{in: "net.ipv4.conf.eth0/1.forwarding=1", want: [2]string{"net.ipv4.conf.eth0/1.forwarding", "1"}},
		{in: "kernel.shm_rmid_forced=1", want: [2]string{"kernel.shm_rmid_forced", "1"}},
		{in: "fs.mqueue.msg_max=9", want: [2]string{"fs.mqueue.msg_max", "9"}},
		{in: "kernel.hostname=x", wantErr: "whole machine"},
		{in: "kernel.msgfoo=1", wantErr: "whole machine"},
		{in: "vm.swappiness=1", wantErr: "whole machine"},
		{in: "network=1", wantErr: "whole machine"},
		{in: "net.core.somaxconn", wantErr: "NAME=VALUE"},
		{in: "=1", wantErr: "NAME=VALUE"},
		{in: "net..core=1", wantErr: "not the name"},
		{in: "net.//.x=1", wantErr: "not the name"},
		{in: "net./../../kernel/core_pattern=x", wantErr: "not the name"},
		{in: "net.core.=1", wantErr: "not the name"},
		{in: "net.x=a\nb", wantErr: "one line"},
	})
}

func TestParseNames(t *testing.T) {
	runParse(t, "--add-host", ParseAddHost, []parseCase[HostEntry]{
		{in: "db:10.0.0.7", want: HostEntry{"db", "10.0.0.7"}},
		{in: "db=10.0.0.7", want: HostEntry{"db", "10.0.0.7"}},
		{in: "db:::1", want: HostEntry{"db", "::1"}},
		{in: "db=[fe80::1]", want: HostEntry{"db", "fe80::1"}},
		{in: "db:host-gateway", want: HostEntry{"db", "host-gateway"}},
		{in: "db", wantErr: "NAME:IP"}, {in: ":1.2.3.4", wantErr: "NAME:IP"}, {in: "", wantErr: "NAME:IP"},
		{in: "db:1.2.3", wantErr: "not an IP"}, {in: "a b:1.2.3.4", wantErr: "not a host name"},
		{in: "db:fe80::1%a b", wantErr: "not an IP"},
		{in: "a\nb:1.2.3.4", wantErr: "not a host name"},
	})
	runParse(t, "--dns", ParseDNS, []parseCase[string]{
		{in: "1.1.1.1", want: "1.1.1.1"}, {in: "fe80::1%eth0", want: "fe80::1%eth0"}, {in: "fe80::1%e 0", wantErr: "not an IP"}, {in: "x", wantErr: "not an IP"}, {in: "", wantErr: "not an IP"},
	})
	runParse(t, "--dns-search", ParseDNSSearch, []parseCase[string]{
		{in: ".", want: "."}, {in: "example.org", want: "example.org"}, {in: "a..b", wantErr: "not a domain"}, {in: "-x", wantErr: "not a domain"},
	})
	runParse(t, "--dns-option", ParseDNSOption, []parseCase[string]{
		{in: "ndots:2", want: "ndots:2"}, {in: "a b", wantErr: "one option"}, {in: "", wantErr: "one option"},
	})
	runParse(t, "--hostname", ParseHostname, []parseCase[string]{
		{in: "web-1.example_x", want: "web-1.example_x"}, {in: strings.Repeat("a.", 32), want: strings.Repeat("a.", 32)},
		{in: "", wantErr: "letters"}, {in: "-a", wantErr: "letters"}, {in: "a b", wantErr: "letters"}, {in: "a\n", wantErr: "letters"},
		{in: strings.Repeat("a", 64), wantErr: "63"}, {in: strings.Repeat("a.", 33), wantErr: "64"},
	})
	name := func(v string) (string, error) { return v, CheckName(v) }
	runParse(t, "--name", name, []parseCase[string]{
		{in: "web_1.a-b", want: "web_1.a-b"}, {in: "0a", want: "0a"},
		{in: "a", wantErr: "two or more"}, {in: "", wantErr: "two"}, {in: "-ab", wantErr: "first"}, {in: "a/b", wantErr: "letters"}, {in: "a b", wantErr: "letters"}, {in: "..", wantErr: "first"},
	})
	runParse(t, "--user", ParseUser, []parseCase[string]{
		{in: "alice:staff", want: "alice:staff"}, {in: "0", want: "0"}, {in: "", want: ""},
		{in: ":", wantErr: "name|uid"}, {in: "a:b:c", wantErr: "name|uid"}, {in: "a\nb", wantErr: "name|uid"},
	})
	runParse(t, "--group-add", ParseGroupAdd, []parseCase[string]{
		{in: "audio", want: "audio"}, {in: "29", want: "29"}, {in: "", wantErr: "one group"}, {in: "a:b", wantErr: "one group"},
	})
	runParse(t, "--workdir", ParseWorkdir, []parseCase[string]{
		{in: "/a/../b/", want: "/b"}, {in: "a", wantErr: "write /a"}, {in: "", wantErr: "missing"},
	})
	label := func(v string) ([2]string, error) {
		k, val, err := ParseLabel("--label", v)
		return [2]string{k, val}, err
	}
	runParse(t, "--label", label, []parseCase[[2]string]{
		{in: "a=b=c", want: [2]string{"a", "b=c"}}, {in: "a", want: [2]string{"a", ""}}, {in: "=b", wantErr: "name is missing"}, {in: "", wantErr: "name is missing"},
	})
}

func TestParseModes(t *testing.T) {
	runParse(t, "--pid", ParsePID, []parseCase[PIDMode]{
		{in: "", want: ""}, {in: "private", want: ""}, {in: "host", want: "host"}, {in: "container:x", want: "container:x"},
		{in: "container:", wantErr: "unknown"}, {in: "hots", wantErr: "did you mean host?"},
	})
	runParse(t, "--ipc", ParseIPC, []parseCase[IPCMode]{
		{in: "shareable", want: "shareable"}, {in: "none", want: "none"}, {in: "container:x", want: "container:x"}, {in: "sharable", wantErr: "did you mean shareable?"},
	})
	runParse(t, "--uts", ParseUTS, []parseCase[UTSMode]{{in: "host", want: "host"}, {in: "", want: ""}, {in: "x", wantErr: "unknown"}})
	runParse(t, "--cgroupns", ParseCgroupns, []parseCase[CgroupnsMode]{{in: "host", want: "host"}, {in: "private", want: "private"}, {in: "x", wantErr: "unknown"}})
}

func TestParsePlatform(t *testing.T) {
	runParse(t, "--platform", ParsePlatform, []parseCase[Platform]{
		{in: "linux/amd64", want: Platform{"linux", "amd64", ""}},
		{in: "linux/arm/v7", want: Platform{"linux", "arm", "v7"}},
		{in: "Linux/x86_64", want: Platform{"linux", "amd64", ""}},
		{in: "aarch64", want: Platform{"linux", "arm64", ""}},
		{in: "linux/arm64/v8", want: Platform{"linux", "arm64", ""}},
		{in: "linux/arm/6", want: Platform{"linux", "arm", "v6"}},
		{in: "windows/amd64", wantErr: "only linux"},
		{in: "linux/amd46", wantErr: "did you mean"},
		{in: "linux/", wantErr: "OS/ARCH"}, {in: "", wantErr: "OS/ARCH"}, {in: "a/b/c/d", wantErr: "OS/ARCH"}, {in: "linux/a b", wantErr: "OS/ARCH"},
	})
}

func TestParseSecurityOpt(t *testing.T) {
	parse := func(v string) (Security, error) {
		var s Security
		for _, one := range strings.Split(v, "|") {
			if err := ParseSecurityOpt(&s, one, "/w"); err != nil {
				return s, err
			}
		}
		return s, nil
	}
	runParse(t, "--security-opt", parse, []parseCase[Security]{
		{in: "seccomp=unconfined", want: Security{Seccomp: Seccomp{Mode: SeccompUnconfined}}},
		{in: "seccomp:builtin", want: Security{Seccomp: Seccomp{Mode: SeccompBuiltin}}},
		{in: "seccomp=p.json", want: Security{Seccomp: Seccomp{SeccompFile, "/w/p.json"}}},
		{in: "seccomp=/a:b=c.json", want: Security{Seccomp: Seccomp{SeccompFile, "/a:b=c.json"}}},
		{in: "seccomp=p.json|seccomp=unconfined", want: Security{Seccomp: Seccomp{Mode: SeccompUnconfined}}},
		{in: "no-new-privileges", want: Security{NoNewPrivileges: true}},
		{in: "no-new-privileges:true", want: Security{NoNewPrivileges: true}},
		{in: "no-new-privileges|no-new-privileges=false", want: Security{}},
		{in: "apparmor:web", want: Security{AppArmor: "web"}},
		{in: "label=disable", want: Security{}},
		{in: "systempaths=unconfined", want: Security{SystemPathsUnconfined: true}},
		{in: "seccomp", wantErr: "seccomp=VALUE"}, {in: "seccomp=", wantErr: "seccomp=VALUE"},
		{in: "secomp=x", wantErr: "did you mean seccomp?"},
		{in: "no-new-privs", wantErr: "unknown option"},
		{in: "no-new-privileges=ture", wantErr: "true or false"},
		{in: "label=type:x", wantErr: "not supported"},
		{in: "systempaths=x", wantErr: "only systempaths=unconfined"},
		{in: "", wantErr: "unknown option"},
		{in: "writable-cgroups=true", wantErr: "not supported"},
	})
}

func lookupIn(env map[string]string) Lookup {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestParseEnv(t *testing.T) {
	lookup := lookupIn(map[string]string{"HOME": "/home/me", "EMPTY": ""})
	parse := func(v string) (string, error) { return ParseEnv(v, lookup) }
	runParse(t, "--env", parse, []parseCase[string]{
		{in: "A=b=c", want: "A=b=c"}, {in: "A=", want: "A="}, {in: "HOME", want: "HOME=/home/me"},
		{in: "EMPTY", want: "EMPTY="}, {in: "GONE", want: "GONE"},
		{in: "=x", wantErr: "name is missing"}, {in: "", wantErr: "name is missing"}, {in: "A=\x00", wantErr: "NUL"},
	})
}

func TestReadEnvFile(t *testing.T) {
	lookup := lookupIn(map[string]string{"FROM_CALLER": "yes"})
	cases := []struct{ name, in, wantErr string }{
		{name: "all forms", in: "\ufeffA=1\n# comment\n  #x\n\n  B=two words \nC=\nFROM_CALLER\nGONE\nD='q'\r\nE=\"x\"=y"},
		{name: "last line without newline", in: "A=1\nB=2"},
		{name: "empty", in: ""},
		{name: "no name", in: "A=1\n=2\n", wantErr: ":2: no name"},
		{name: "white space", in: "A=1\n\nB C=2\n", wantErr: ":3: the name \"B C\" contains white space"},
		{name: "shell", in: "export A=1\n", wantErr: ":1: the name \"export A\""},
		{name: "not UTF-8", in: "A=\xff\n", wantErr: ":1: the line is not UTF-8"},
		{name: "NUL", in: "A=1\nB=\x00\n", wantErr: ":2: the line holds a NUL"},
		{name: "long line", in: "A=1\nB=" + strings.Repeat("x", maxEnvLine) + "\n", wantErr: ":2: the line is longer"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "env")
			if err := os.WriteFile(path, []byte(c.in), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadEnvFile(path, lookup)
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), path+c.wantErr) {
					t.Fatalf("got %q and error %v, want an error with %q", got, err, path+c.wantErr)
				}
				checkErrorLine(t, err, "--env-file")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want, err := kvfile.Parse(path, lookup) // Docker's own reader
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, Docker gives %q", got, want)
			}
		})
	}
}

func TestReadFilesThatAreNone(t *testing.T) {
	if _, err := ReadEnvFile("/nonexistent/env", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := ReadEnvFile(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("directory: %v", err)
	}
	if _, err := ReadEnvFile("/dev/zero", nil); err == nil {
		t.Error("/dev/zero was read as an env file")
	}
}

func TestReadLabelFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels")
	if err := os.WriteFile(path, []byte("# c\na=b\nHOME\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLabelFile(path)
	if err != nil || !slices.Equal(got, []string{"a=b", "HOME"}) {
		t.Errorf("got %q, %v", got, err)
	}
}
