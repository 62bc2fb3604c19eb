package spec

import (
	"bytes"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// fuzzParse feeds a parser and checks what must hold: an error is one clean
// line that names the flag, and what is accepted passes check.
func fuzzParse[T any](f *testing.F, flag string, parse func(string) (T, error), check func(*testing.T, string, T), seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := parse(value)
		if err != nil {
			if !strings.HasPrefix(err.Error(), flag) || strings.ContainsAny(err.Error(), "\n\r\x00\x1b") {
				t.Errorf("%q: error is not a line that names %s: %q", value, flag, err)
			}
			return
		}
		check(t, value, got)
	})
}

func checkMount(t *testing.T, value string, m Mount) {
	if len(m.Target) < 2 || !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || strings.ContainsRune(m.Target, 0) {
		t.Errorf("%q: target %q", value, m.Target)
	}
	switch m.Type {
	case MountBind:
		if !filepath.IsAbs(m.Source) || filepath.Clean(m.Source) != m.Source || strings.ContainsRune(m.Source, 0) || len(m.Options) > 0 {
			t.Errorf("%q: %+v", value, m)
		}
	case MountTmpfs:
		for _, opt := range m.Options {
			if m.Source != "" || strings.ContainsAny(opt, ", \n\x00") && !strings.HasPrefix(opt, "mpol=") && !strings.HasPrefix(opt, "huge=") {
				t.Errorf("%q: %+v", value, m)
			}
		}
	case MountVolume:
		if (m.Source == "") != m.Volume.Anonymous || strings.ContainsAny(m.Source, "/\x00") || strings.HasPrefix(m.Source, ".") || m.Volume.Subpath != "" && !filepath.IsLocal(m.Volume.Subpath) {
			t.Errorf("%q: %+v", value, m)
		}
	default:
		t.Errorf("%q: type %q", value, m.Type)
	}
	if err := (&Options{Mounts: []Mount{m}}).Validate(); err != nil {
		t.Errorf("%q is parsed, but not valid: %v", value, err)
	}
}

func FuzzParseVolume(f *testing.F) {
	fuzzParse(f, "--volume", func(v string) (Mount, error) { return ParseVolume(v, "/cwd") }, checkMount,
		"/a:/b:ro,z,rshared", "./x:/y", "../:/..", "name:/y:nocopy", "/y", ":::")
}

func FuzzParseMount(f *testing.F) {
	fuzzParse(f, "--mount", func(v string) (Mount, error) { return ParseMount(v, "/cwd") }, checkMount,
		"type=bind,src=/a,dst=/b,ro", `type=tmpfs,dst=/t,"tmpfs-size=1",tmpfs-mode=7`, "type=bind,src=..,dst=/..", "src=vol,dst=/b,volume-subpath=a/..,volume-opt=k=v")
}

func FuzzParseTmpfs(f *testing.F) {
	fuzzParse(f, "--tmpfs", ParseTmpfs, checkMount, "/t:size=1m,exec", "/t:mode=7777,uid=1", "/..:ro")
}

func FuzzParseDevice(f *testing.F) {
	fuzzParse(f, "--device", ParseDevice, func(t *testing.T, v string, d Device) {
		if !filepath.IsAbs(d.Host) || len(d.Container) < 2 || !path.IsAbs(d.Container) || !isDevicePermissions(d.Permissions) {
			t.Errorf("%q: %+v", v, d)
		}
	}, "/dev/a:/dev/b:rw", "/dev/a:r", "/dev/a:/..")
}

func FuzzParseUlimit(f *testing.F) {
	fuzzParse(f, "--ulimit", ParseUlimit, func(t *testing.T, v string, u Ulimit) {
		if rlimit(u.Soft) > rlimit(u.Hard) || resource(u.Name) < 0 {
			t.Errorf("%q: %+v", v, u)
		}
	}, "nofile=1:2", "core=-1", "stack=5:-1")
}

func FuzzParseNumbers(f *testing.F) {
	for _, s := range []string{"1.5", "512m", "-1", "1e9", "SIGTERM", "0-3,7", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if n, err := ParseCPUs(v); err == nil && n < 0 {
			t.Errorf("--cpus %q is %d", v, n)
		}
		if n, err := ParseSize("--memory", v); err == nil && n < 0 {
			t.Errorf("--memory %q is %d", v, n)
		}
		if n, err := ParseMemorySwap(v); err == nil && n < -1 {
			t.Errorf("--memory-swap %q is %d", v, n)
		}
		if n, err := ParseOOMScoreAdj(v); err == nil && (n < -1000 || n > 1000) {
			t.Errorf("--oom-score-adj %q is %d", v, n)
		}
		if n, err := ParsePidsLimit(v); err == nil && n < -1 {
			t.Errorf("--pids-limit %q is %d", v, n)
		}
		if n, err := ParseStopSignal(v); err == nil && (n < 1 || n > 64) {
			t.Errorf("--stop-signal %q is %d", v, n)
		}
		if s, err := ParseCPUSet("--cpuset-cpus", v); err == nil && strings.Trim(s, "0123456789,-") != "" {
			t.Errorf("--cpuset-cpus %q is %q", v, s)
		}
	})
}

// However a runtime turns the name into a path, it stays below /proc/sys.
func FuzzParseSysctl(f *testing.F) {
	parse := func(v string) ([2]string, error) { name, val, err := ParseSysctl(v); return [2]string{name, val}, err }
	fuzzParse(f, "--sysctl", parse, func(t *testing.T, v string, kv [2]string) {
		swapped := strings.NewReplacer(".", "/", "/", ".").Replace(kv[0])
		for _, p := range []string{swapped, strings.ReplaceAll(kv[0], ".", "/"), kv[0]} {
			if path.Clean(p) != p || path.IsAbs(p) || strings.HasPrefix(p, "..") {
				t.Errorf("%q: path %q", v, p)
			}
		}
		if strings.ContainsAny(kv[1], "\n\x00") {
			t.Errorf("%q: value %q", v, kv[1])
		}
	}, "net.core.somaxconn=1", "net.a/b.c=1", "net.//.=1", "net./../x=2")
}

func FuzzParseAddHost(f *testing.F) {
	fuzzParse(f, "--add-host", ParseAddHost, func(t *testing.T, v string, e HostEntry) {
		file := HostsFile(&Options{AddHost: []HostEntry{e}}, Hosts{Gateway: "10.0.0.1", Base: []byte{}})
		if bytes.Count(file, []byte("\n")) != 1 || len(bytes.Fields(file)) != 2 || bytes.ContainsAny(file, "#\x00") {
			t.Errorf("%q writes %q", v, file)
		}
	}, "db:1.2.3.4", "db=[::1]", "a:fe80::1%eth0", "a:host-gateway")
}

func FuzzParseHostname(f *testing.F) {
	fuzzParse(f, "--hostname", ParseHostname, func(t *testing.T, v, name string) {
		if name != v || len(name) > 64 || strings.ContainsAny(name, " /\n\x00") {
			t.Errorf("%q: %q", v, name)
		}
	}, "web", "a.b-c_d", "-x", "a..b")
}

func FuzzParseSecurityOpt(f *testing.F) {
	parse := func(v string) (Security, error) {
		var s Security
		err := ParseSecurityOpt(&s, v, "/cwd")
		return s, err
	}
	fuzzParse(f, "--security-opt", parse, func(t *testing.T, v string, s Security) {
		if (s.Seccomp.Mode == SeccompFile) != filepath.IsAbs(s.Seccomp.Path) {
			t.Errorf("%q: %+v", v, s)
		}
	}, "seccomp=p.json", "seccomp:unconfined", "no-new-privileges:true", "apparmor=x", "label=disable")
}

func FuzzParsePlatform(f *testing.F) {
	fuzzParse(f, "--platform", ParsePlatform, func(t *testing.T, v string, p Platform) {
		if again, err := ParsePlatform(p.String()); err != nil || again != p {
			t.Errorf("%q: %v becomes %v, %v", v, p, again, err)
		}
	}, "linux/amd64", "linux/arm/7", "aarch64", "armhf")
}

func FuzzParseModes(f *testing.F) {
	for _, s := range []string{"host", "none", "container:x", "private", "shareable"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		o := &Options{}
		o.AddNetwork(v)
		o.PID, _ = ParsePID(v)
		o.IPC, _ = ParseIPC(v)
		o.UTS, _ = ParseUTS(v)
		o.Cgroupns, _ = ParseCgroupns(v)
		if err := o.Validate(); err != nil {
			t.Errorf("%q is parsed, but not valid: %v", v, err)
		}
	})
}

func FuzzParseNetwork(f *testing.F) {
	for _, s := range []string{"bridge", "lab", "name=lab,alias=db,ip=10.0.0.2,ip6=fd00::2,mac-address=02:42:00:00:00:01", "container:x"} {
		f.Add(s)
	}
	fuzzParse(f, "--network", func(v string) (Options, error) {
		var o Options
		return o, o.AddNetwork(v)
	}, func(t *testing.T, v string, o Options) {
		for _, e := range o.Endpoints {
			if !isNetworkName(e.Network) || strings.ContainsAny(strings.Join(e.Aliases, ""), " \n") {
				t.Errorf("%q becomes %+v", v, e)
			}
		}
	})
}

func FuzzParsePublish(f *testing.F) {
	fuzzParse(f, "--publish", ParsePublish, func(t *testing.T, v string, list []Publish) {
		for _, p := range list {
			if p.Port == 0 || p.Protocol != "tcp" && p.Protocol != "udp" || p.HostPortEnd != 0 && p.HostPortEnd <= p.HostPort {
				t.Errorf("%q becomes %+v", v, p)
			}
		}
	}, "80", "8080:80", "127.0.0.1::53/udp", "[::1]:8000-8010:80", "1-3:1-3")
}

func FuzzParseExpose(f *testing.F) {
	fuzzParse(f, "--expose", ParseExpose, func(t *testing.T, v string, list []string) {
		for _, p := range list {
			if again, err := ParseExpose(p); err != nil || len(again) != 1 || again[0] != p {
				t.Errorf("%q: %q becomes %q, %v", v, p, again, err)
			}
		}
	}, "80", "53/udp", "1-3/TCP")
}

func FuzzEnvFile(f *testing.F) {
	f.Add([]byte("A=1\n# c\nB\n"))
	f.Add([]byte("\ufeffA=\"x\"\r\n\n=\n"))
	lookup := func(name string) (string, bool) { return "v", strings.HasPrefix(name, "B") }
	f.Fuzz(func(t *testing.T, file []byte) {
		vars, err := parseLines(bytes.NewReader(file), "--env-file", "f", lookup)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "--env-file f:") || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("error %q", err)
			}
			return
		}
		for _, v := range vars {
			if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.ContainsAny(name, " \t\n\x00") {
				t.Errorf("variable %q", v)
			}
		}
	})
}

// Whatever an image's files hold, nobody becomes a user with a number that they
// do not say, and a name that is not there is nobody.
func FuzzResolveUser(f *testing.F) {
	f.Add("alice:video", "audio", []byte(testPasswd), []byte(testGroup))
	f.Add("0", "7", []byte(nil), []byte(nil))
	f.Add("evil", "x", []byte("evil:x:-5:99999999999999999999::/:\n"), []byte("x:x:4294967296:"))
	f.Fuzz(func(t *testing.T, user, group string, passwd, groups []byte) {
		u, _, err := resolveUser(user, []string{group}, passwd, groups)
		if err != nil {
			return
		}
		for _, id := range append(u.AdditionalGids, u.UID, u.GID) {
			if id > 1<<31-1 {
				t.Errorf("number %d for %q", id, user)
			}
		}
		if len(u.AdditionalGids) == 0 || u.AdditionalGids[0] != u.GID {
			t.Errorf("groups %v of group %d", u.AdditionalGids, u.GID)
		}
		if name, _, _ := strings.Cut(user, ":"); name != "" && strings.Trim(name, "+-0123456789") != "" && !bytes.Contains(passwd, []byte(name)) {
			t.Errorf("%q is not in the file, but is %d", name, u.UID)
		}
	})
}
