package spec

import (
	"encoding/csv"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/internal/volume"
	"github.com/docker/go-units"
)

func isPropagation(s string) bool {
	switch s {
	case "private", "rprivate", "slave", "rslave", "shared", "rshared":
		return true
	}
	return false
}

// target checks the place of a mount; the root itself is never one.
func target(flag, value, p string) (string, error) {
	p, err := containerPath(flag, value, p)
	if err == nil && p == "/" {
		err = badValue(flag, value, "a mount cannot replace the container's root directory; name a path below /")
	}
	return p, err
}

// ParseVolume reads the value of -v: TARGET for an anonymous volume, or
// NAME:TARGET[:OPTION,...] for a named one, or SOURCE:TARGET[:OPTION,...] for a
// bind, whose source begins with "/" or with "." (relative to cwd). Options: ro,
// rw, z, Z, the consistency words, which mean nothing on Linux, a propagation for
// a bind, and nocopy for a volume.
func ParseVolume(value, cwd string) (Mount, error) {
	const flag = "--volume"
	parts := strings.Split(value, ":")
	switch {
	case value == "":
		return Mount{}, badValue(flag, value, "write SOURCE:TARGET[:OPTIONS]")
	case len(parts) == 1:
		m := Mount{Type: MountVolume, Volume: VolumeMount{Anonymous: true}}
		var err error
		m.Target, err = target(flag, value, parts[0])
		return m, err
	case len(parts) > 3:
		return Mount{}, badValue(flag, value, "too many colons; write SOURCE:TARGET[:OPTIONS], or use --mount for paths with a colon")
	}
	var m Mount
	switch src := parts[0]; {
	case src == "":
		return Mount{}, badValue(flag, value, "the volume's name or the path on the host is missing before the first colon")
	case strings.ContainsRune(src, 0):
		return Mount{}, badValue(flag, value, "a path cannot hold a NUL byte")
	case src[0] == '/' || src[0] == '.':
		m = Mount{Type: MountBind, CreateSource: true, Source: hostPath(src, cwd)}
	case strings.ContainsRune(src, '/'):
		return Mount{}, badValue(flag, value, "the path on the host must be absolute or begin with ./: write ./%s", src)
	default:
		if err := volume.CheckName(src); err != nil {
			return Mount{}, badValue(flag, value, "%s", err)
		}
		m = Mount{Type: MountVolume, Source: src}
	}
	var err error
	if m.Target, err = target(flag, value, parts[1]); err != nil {
		return Mount{}, err
	}
	if len(parts) == 3 {
		if err := m.volumeOptions(flag, value, parts[2]); err != nil {
			return Mount{}, err
		}
		m.Mode = parts[2]
	}
	return m, nil
}

// ParseVolumesFrom reads the value of --volumes-from, CONTAINER[:ro|rw|z|Z].
func ParseVolumesFrom(value string) (VolumesFrom, error) {
	const flag = "--volumes-from"
	name, mode, _ := strings.Cut(value, ":")
	if name == "" {
		return VolumesFrom{}, badValue(flag, value, "write CONTAINER[:ro]")
	}
	v := VolumesFrom{Container: name}
	if mode != "" || strings.HasSuffix(value, ":") {
		for opt := range strings.SplitSeq(mode, ",") {
			switch opt {
			case "ro":
				v.ReadOnly = true
			case "rw", "z", "Z":
			default:
				return VolumesFrom{}, badValue(flag, value, "%s", unknown("option", opt, []string{"ro", "rw", "z", "Z"}))
			}
		}
	}
	return v, nil
}

// volumeOptions applies -v's third part. Each kind of option may come once.
func (m *Mount) volumeOptions(flag, value, opts string) error {
	var access, label, consistency, noCopy bool
	bind := m.Type == MountBind
	for opt := range strings.SplitSeq(opts, ",") {
		var twice bool
		switch {
		case opt == "ro" || opt == "rw":
			twice, access = access, true
			m.ReadOnly = opt == "ro"
		case opt == "z" || opt == "Z":
			// A label for SELinux, which this engine does not set; hosts
			// without SELinux ignore it in Docker too.
			twice, label = label, true
		case opt == "consistent" || opt == "cached" || opt == "delegated":
			twice, consistency = consistency, true
		case isPropagation(opt) && bind:
			twice = m.Propagation != ""
			m.Propagation = opt
		case isPropagation(opt):
			return badValue(flag, value, "%s is for binds; the mount of a volume does not propagate", opt)
		case opt == "nocopy" && !bind:
			twice, noCopy = noCopy, true
			m.Volume.NoCopy = true
		case opt == "nocopy":
			return badValue(flag, value, "nocopy is for volumes; nothing is copied into a directory of the host")
		default:
			return badValue(flag, value, "%s", unknown("option", opt, []string{
				"ro", "rw", "z", "Z", "nocopy", "private", "rprivate", "slave", "rslave", "shared", "rshared"}))
		}
		if twice {
			return badValue(flag, value, "option %q comes after another of its kind; keep one", opt)
		}
	}
	return nil
}

func mountKeys() []string {
	return []string{"type", "source", "src", "target", "destination", "dst", "readonly", "ro",
		"bind-propagation", "bind-nonrecursive", "bind-recursive", "bind-create-src", "consistency",
		"volume-nocopy", "volume-subpath", "volume-driver", "volume-opt", "volume-label", "tmpfs-size", "tmpfs-mode"}
}

// ParseMount reads the value of --mount, comma-separated key=value fields in
// CSV quoting. Types are volume (the default), bind and tmpfs. The source of a
// bind may begin with ".": it is then relative to cwd.
func ParseMount(value, cwd string) (Mount, error) {
	const flag = "--mount"
	r := csv.NewReader(strings.NewReader(value))
	fields, err := r.Read()
	if err != nil {
		return Mount{}, badValue(flag, value, "write type=volume,source=NAME,target=/dir or type=bind,source=/host/dir,target=/dir")
	}
	if rest, _ := r.Read(); rest != nil {
		return Mount{}, badValue(flag, value, "a mount is one line")
	}
	m := Mount{Type: MountVolume} // Docker's default type
	var p mountFields
	for _, field := range fields {
		if err := p.set(&m, flag, value, field, cwd); err != nil {
			return Mount{}, err
		}
	}
	if err := p.check(&m, flag, value); err != nil {
		return Mount{}, err
	}
	return m, nil
}

// mountFields remembers what a --mount value said, to check it as a whole.
type mountFields struct {
	bindKey, tmpfsKey, volumeKey string // the first key of each family
	force                        bool   // bind-recursive=readonly
	createSource                 bool
}

func (p *mountFields) set(m *Mount, flag, value, field, cwd string) error {
	key, val, hasVal := strings.Cut(field, "=")
	key = strings.ToLower(key)
	family, _, _ := strings.Cut(key, "-")
	switch {
	case family == "bind" && p.bindKey == "":
		p.bindKey = key
	case family == "tmpfs" && p.tmpfsKey == "":
		p.tmpfsKey = key
	case family == "volume" && p.volumeKey == "":
		p.volumeKey = key
	}
	if !hasVal {
		switch key {
		case "readonly", "ro", "bind-nonrecursive", "bind-create-src", "volume-nocopy":
			val = "true"
		default:
			if slices.Contains(mountKeys(), key) {
				return badValue(flag, value, "field %q needs a value: %s=VALUE", field, key)
			}
		}
	}
	switch key {
	case "type":
		return m.setType(flag, value, val)
	case "source", "src":
		switch {
		case val == "" || strings.ContainsRune(val, 0):
			return badValue(flag, value, "%s needs a volume's name or a path of the host", key)
		case val[0] == '.':
			val = hostPath(val, cwd)
		}
		m.Source = val
		return nil
	case "target", "destination", "dst":
		var err error
		m.Target, err = target(flag, value, val)
		return err
	case "readonly", "ro":
		return parseBool(&m.ReadOnly, flag, value, key, val)
	case "bind-propagation":
		if !isPropagation(val) {
			return badValue(flag, value, "%s", unknown("propagation", val, []string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}))
		}
		m.Propagation = val
		return nil
	case "bind-nonrecursive":
		return parseBool(&m.NonRecursive, flag, value, key, val)
	case "bind-create-src":
		return parseBool(&m.CreateSource, flag, value, key, val)
	case "bind-recursive":
		return p.setRecursive(m, flag, value, val)
	case "consistency":
		switch val {
		case "consistent", "cached", "delegated", "default":
			return nil
		}
		return badValue(flag, value, "%s", unknown("consistency", val, []string{"consistent", "cached", "delegated", "default"}))
	case "tmpfs-size":
		size, err := units.RAMInBytes(val)
		if err != nil || size < 0 {
			return badValue(flag, value, "tmpfs-size %q is not a size; write bytes or a number with k, m or g, as in 64m", val)
		}
		m.Options = append(m.Options, "size="+strconv.FormatInt(size, 10))
		return nil
	case "tmpfs-mode":
		mode, err := strconv.ParseUint(val, 8, 32)
		if err != nil || mode > 0o7777 {
			return badValue(flag, value, "tmpfs-mode %q is not an octal mode; write one as in 1777", val)
		}
		m.Options = append(m.Options, "mode="+strconv.FormatUint(mode, 8))
		return nil
	}
	if family == "volume" {
		return m.Volume.set(flag, value, key, val)
	}
	return badValue(flag, value, "%s", unknown("field", key, mountKeys()))
}

// set reads a field that begins with "volume-".
func (v *VolumeMount) set(flag, value, key, val string) error {
	switch key {
	case "volume-nocopy":
		return parseBool(&v.NoCopy, flag, value, key, val)
	case "volume-subpath":
		if !filepath.IsLocal(val) || strings.ContainsRune(val, 0) {
			return badValue(flag, value, "volume-subpath %q must be a relative path that stays within the volume", val)
		}
		if v.Subpath = filepath.Clean(val); v.Subpath == "." {
			v.Subpath = ""
		}
		return nil
	case "volume-driver":
		if val != volume.Driver && val != "" {
			return badValue(flag, value, "volume-driver %q: local is the only driver", val)
		}
		v.Driver = val
		return nil
	case "volume-opt", "volume-label":
		m, what := &v.DriverOptions, "volume-opt"
		if key == "volume-label" {
			m, what = &v.Labels, "volume-label"
		}
		k, val, ok := strings.Cut(val, "=")
		if k == "" || !ok && what == "volume-opt" {
			return badValue(flag, value, "%s needs KEY=VALUE", what)
		}
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[k] = val
		return nil
	}
	return badValue(flag, value, "%s", unknown("field", key, mountKeys()))
}

func (m *Mount) setType(flag, value, val string) error {
	switch t := strings.ToLower(val); t {
	case "bind", "tmpfs", "volume":
		m.Type = MountType(t)
		return nil
	case "image", "cluster", "npipe":
		return badValue(flag, value, "type=%s is not supported; use type=volume, type=bind or type=tmpfs", t)
	}
	return badValue(flag, value, "%s", unknown("type", val, []string{"volume", "bind", "tmpfs"}))
}

// setRecursive reads Docker's four words for how a bind treats the mounts
// below its source.
func (p *mountFields) setRecursive(m *Mount, flag, value, val string) error {
	switch val {
	case "enabled":
	case "disabled":
		m.NonRecursive = true
	case "writable":
		m.ReadOnlyNonRecursive = true
	case "readonly":
		p.force = true
	default:
		return badValue(flag, value, "%s", unknown("bind-recursive", val, []string{"enabled", "disabled", "writable", "readonly"}))
	}
	return nil
}

func (p *mountFields) check(m *Mount, flag, value string) error {
	if m.Target == "" {
		return badValue(flag, value, "the target is missing; add target=/path")
	}
	for _, f := range []struct {
		key string
		t   MountType
	}{{p.bindKey, MountBind}, {p.tmpfsKey, MountTmpfs}, {p.volumeKey, MountVolume}} {
		if f.key != "" && f.t != m.Type {
			return badValue(flag, value, "%s does not go with type=%s", f.key, m.Type)
		}
	}
	switch m.Type {
	case MountTmpfs:
		if m.Source != "" {
			return badValue(flag, value, "type=tmpfs has no source; remove source=%s", m.Source)
		}
		return nil
	case MountVolume:
		return m.checkVolume(flag, value)
	}
	return p.checkBind(m, flag, value)
}

func (m *Mount) checkVolume(flag, value string) error {
	switch {
	case m.Source == "" && m.ReadOnly:
		return badValue(flag, value, "a volume without a name is empty, and read-only nothing could be put in it; add source=NAME or remove readonly")
	case m.Source == "":
		m.Volume.Anonymous = true
		return nil
	case strings.HasPrefix(m.Source, "/"):
		return badValue(flag, value, "a volume's source is a name; for a directory of the host add type=bind")
	}
	if err := volume.CheckName(m.Source); err != nil {
		return badValue(flag, value, "%s", err)
	}
	return nil
}

func (p *mountFields) checkBind(m *Mount, flag, value string) error {
	switch {
	case m.Source == "":
		return badValue(flag, value, "the source is missing; add source=/host/path")
	case m.Source[0] != '/':
		return badValue(flag, value, "the source must be absolute or begin with ./: write source=./%s", m.Source)
	case m.ReadOnlyNonRecursive && !m.ReadOnly:
		return badValue(flag, value, "bind-recursive=writable needs readonly")
	case p.force && !m.ReadOnly:
		return badValue(flag, value, "bind-recursive=readonly needs readonly")
	case p.force && m.Propagation != "rprivate":
		return badValue(flag, value, "bind-recursive=readonly needs bind-propagation=rprivate")
	}
	m.Source = filepath.Clean(m.Source)
	return nil
}

func parseBool(dst *bool, flag, value, key, val string) error {
	b, err := strconv.ParseBool(val)
	if err != nil {
		return badValue(flag, value, "%s is %q; write true or false", key, val)
	}
	*dst = b
	return nil
}

// ParseTmpfs reads the value of --tmpfs, TARGET[:OPTION,...]. Options are
// those of mount(8) for tmpfs; unknown ones are refused.
func ParseTmpfs(value string) (Mount, error) {
	const flag = "--tmpfs"
	dst, opts, hasOpts := strings.Cut(value, ":")
	m := Mount{Type: MountTmpfs}
	var err error
	if m.Target, err = target(flag, value, dst); err != nil {
		return Mount{}, err
	}
	if !hasOpts || opts == "" {
		return m, nil
	}
	for opt := range strings.SplitSeq(opts, ",") {
		if err := checkTmpfsOption(opt); err != "" {
			return Mount{}, badValue(flag, value, "%s", err)
		}
		m.Options = append(m.Options, opt)
	}
	return m, nil
}

func tmpfsFlags() []string {
	return []string{"defaults", "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev",
		"sync", "async", "dirsync", "atime", "noatime", "diratime", "nodiratime",
		"relatime", "norelatime", "strictatime", "nostrictatime", "mand", "nomand",
		"private", "rprivate", "slave", "rslave", "shared", "rshared",
		"unbindable", "runbindable"}
}

// checkTmpfsOption gives "" or what is wrong with one option.
func checkTmpfsOption(opt string) string {
	key, val, hasVal := strings.Cut(opt, "=")
	switch key {
	case "size", "nr_blocks", "nr_inodes":
		if !hasVal || !isTmpfsSize(val) {
			return "option " + strconv.Quote(opt) + " needs a number, with k, m, g or (size) % after it, as in " + key + "=64m"
		}
		return ""
	case "mode":
		if n, err := strconv.ParseUint(val, 8, 32); err != nil || n > 0o7777 {
			return "option " + strconv.Quote(opt) + " needs an octal mode, as in mode=1777"
		}
		return ""
	case "uid", "gid":
		if _, err := strconv.ParseUint(val, 10, 31); err != nil {
			return "option " + strconv.Quote(opt) + " needs a number, as in " + key + "=1000"
		}
		return ""
	case "mpol", "huge":
		if val == "" {
			return "option " + strconv.Quote(opt) + " needs a value"
		}
		return ""
	}
	known := tmpfsFlags()
	if slices.Contains(known, opt) {
		return ""
	}
	known = append(known, "size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge")
	if near := nearest.Name(key, slices.Values(known)); near != "" {
		return "unknown option " + strconv.Quote(opt) + "; did you mean " + near + "?"
	}
	return "unknown option " + strconv.Quote(opt) + "; use those of tmpfs(5), as in size=64m, mode=1777 or exec"
}

// isTmpfsSize follows the kernel's memparse (lib/cmdline.c) in decimal, plus
// the percent sign of tmpfs.
func isTmpfsSize(s string) bool {
	if n := len(s); n > 1 && strings.ContainsRune("kKmMgGtTpPeE%", rune(s[n-1])) {
		s = s[:n-1]
	}
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil
}
