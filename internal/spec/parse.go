package spec

import (
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/go-units"
	"github.com/moby/sys/signal"
)

// ParseDevice reads the value of --device, HOST[:CONTAINER[:PERMISSIONS]] or
// HOST:PERMISSIONS. Permissions are some of r, w and m, by default all.
func ParseDevice(value string) (Device, error) {
	const flag = "--device"
	parts := strings.Split(value, ":")
	d := Device{Permissions: "rwm"}
	switch len(parts) {
	case 1:
		d.Host, d.Container = parts[0], parts[0]
	case 2:
		d.Host, d.Container = parts[0], parts[1]
		if isDevicePermissions(parts[1]) {
			d.Container, d.Permissions = parts[0], parts[1]
		}
	case 3:
		d.Host, d.Container, d.Permissions = parts[0], parts[1], parts[2]
	default:
		return Device{}, badValue(flag, value, "too many colons; write HOST[:CONTAINER[:rwm]]")
	}
	switch {
	case strings.Contains(d.Host, "="):
		return Device{}, badValue(flag, value, "CDI devices are not supported; name a device node as in /dev/fuse")
	case d.Host == "" || d.Host[0] != '/' || strings.ContainsRune(d.Host, 0):
		return Device{}, badValue(flag, value, "the device on the host must be an absolute path, as in /dev/fuse")
	case !isDevicePermissions(d.Permissions):
		return Device{}, badValue(flag, value, "permissions %q: use some of r, w and m, each once", d.Permissions)
	}
	d.Host = filepath.Clean(d.Host)
	var err error
	if d.Container, err = containerPath(flag, value, d.Container); err != nil {
		return Device{}, err
	}
	if d.Container == "/" {
		return Device{}, badValue(flag, value, "the path in the container cannot be /")
	}
	return d, nil
}

// isDevicePermissions says whether s is r, w and m, each at most once.
func isDevicePermissions(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if !strings.ContainsRune("rwm", rune(s[i])) || strings.IndexByte(s[:i], s[i]) >= 0 {
			return false
		}
	}
	return true
}

func ulimitNames() []string {
	return []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
		"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}
}

// ParseUlimit reads the value of --ulimit, NAME=SOFT[:HARD]. -1 is unlimited.
// The names are those of ulimit(1p) without "as", as in Docker.
func ParseUlimit(value string) (Ulimit, error) {
	const flag = "--ulimit"
	name, limits, ok := strings.Cut(value, "=")
	if !ok {
		return Ulimit{}, badValue(flag, value, "write NAME=SOFT[:HARD], as in nofile=1024:2048")
	}
	if !slices.Contains(ulimitNames(), name) {
		return Ulimit{}, badValue(flag, value, "%s", unknown("limit", name, ulimitNames()))
	}
	soft, hard, ok := strings.Cut(limits, ":")
	if !ok {
		hard = soft
	}
	u := Ulimit{Name: name}
	var err error
	if u.Soft, err = strconv.ParseInt(soft, 10, 64); err != nil || u.Soft < -1 {
		return Ulimit{}, badValue(flag, value, "soft limit %q is not a number; -1 is unlimited", soft)
	}
	if u.Hard, err = strconv.ParseInt(hard, 10, 64); err != nil || u.Hard < -1 {
		return Ulimit{}, badValue(flag, value, "hard limit %q is not a number; -1 is unlimited", hard)
	}
	if u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
		return Ulimit{}, badValue(flag, value, "the soft limit %s is above the hard limit %s", soft, hard)
	}
	return u, nil
}

// ParseSize reads a number of bytes for the named flag: 0 and above, with b, k,
// m, g, t or p after it (powers of 1024).
func ParseSize(flag, value string) (int64, error) {
	n, err := units.RAMInBytes(value)
	if err != nil || n < 0 {
		return 0, badValue(flag, value, "not a size; write bytes or a number with k, m or g, as in 512m")
	}
	return n, nil
}

// ParseMemorySwap reads the value of --memory-swap: bytes as [ParseSize], or -1
// for unlimited swap.
func ParseMemorySwap(value string) (int64, error) {
	if value == "-1" {
		return -1, nil
	}
	n, err := units.RAMInBytes(value)
	if err != nil || n < 0 {
		return 0, badValue("--memory-swap", value, "not a size; write a number with k, m or g, as in 1g, or -1 for unlimited swap")
	}
	return n, nil
}

// ParseCPUs reads the value of --cpus, a decimal number of CPUs, and gives
// 1e-9 CPUs.
func ParseCPUs(value string) (int64, error) {
	const flag = "--cpus"
	whole, frac, _ := strings.Cut(value, ".")
	digits := whole + frac
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, badValue(flag, value, "not a number of CPUs; write one as in 1.5")
	}
	if len(frac) > 9 {
		return 0, badValue(flag, value, "too precise; a thousandth of a CPU is enough, as in 1.500")
	}
	n, err := strconv.ParseInt(digits+strings.Repeat("0", 9-len(frac)), 10, 64)
	if err != nil {
		return 0, badValue(flag, value, "too many CPUs")
	}
	return n, nil
}

// ParseCPUShares reads the value of --cpu-shares, 0 (default) or 2 and above.
func ParseCPUShares(value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return 0, badValue("--cpu-shares", value, "not a weight; write a number, where 1024 is the default weight")
	}
	return n, nil
}

// ParseCPUSet reads the value of --cpuset-cpus or --cpuset-mems, a list as in
// 0-3,7 (cpuset(7), List format).
func ParseCPUSet(flag, value string) (string, error) {
	if value == "" {
		return "", nil
	}
	if _, err := lastOfList(value); err != "" {
		return "", badValue(flag, value, "%s; write a list as in 0-3,7", err)
	}
	return value, nil
}

// lastOfList gives the highest number of a cpuset list, or what is wrong.
func lastOfList(list string) (int, string) {
	last := -1
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		switch {
		case errA != nil || errB != nil:
			return 0, strconv.Quote(part) + " is not a number or a range"
		case a > b:
			return 0, "range " + part + " runs backwards"
		}
		last = max(last, int(b))
	}
	return last, ""
}

// ParseSysctl reads the value of --sysctl, NAME=VALUE, and refuses names that
// no namespace owns. Whether the container has the namespace is for
// [Options.Validate].
func ParseSysctl(value string) (name, val string, err error) {
	const flag = "--sysctl"
	name, val, ok := strings.Cut(value, "=")
	name, val = strings.TrimSpace(name), strings.TrimSpace(val)
	switch {
	case !ok || name == "":
		return "", "", badValue(flag, value, "write NAME=VALUE, as in net.core.somaxconn=256")
	case !isSysctlName(name):
		return "", "", badValue(flag, value, "%q is not the name of a sysctl; write it with dots, as in net.core.somaxconn", name)
	case strings.ContainsAny(val, "\x00\n"):
		return "", "", badValue(flag, value, "the value must be one line")
	case sysctlNamespace(name) == "":
		return "", "", badValue(flag, value, "%s belongs to the whole machine, not to a container; only net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* can be set", name)
	}
	return name, val, nil
}

// isSysctlName accepts components with dots between them. A component may hold
// a slash for a dot (net.ipv4.conf.eth0/1.forwarding, sysctl(8)). Nothing that
// could become ".." in a path passes.
func isSysctlName(s string) bool {
	sep := true
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' || c == '/':
			if sep {
				return false
			}
			sep = true
		case isAlnum(c) || strings.IndexByte("_-:@+", c) >= 0:
			sep = false
		default:
			return false
		}
	}
	return !sep
}

// sysctlNamespace gives the kind of namespace that owns a sysctl: "net", "ipc",
// or "" for none that a container may set.
func sysctlNamespace(name string) string {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return "ipc"
	}
	switch {
	case strings.HasPrefix(name, "net."):
		return "net"
	case strings.HasPrefix(name, "fs.mqueue."):
		return "ipc"
	}
	return ""
}

// hostGateway stands for the host's address in the container's network.
const hostGateway = "host-gateway"

// ParseAddHost reads the value of --add-host, NAME:IP or NAME=IP. An IPv6
// address may stand in brackets, and host-gateway for an address.
func ParseAddHost(value string) (HostEntry, error) {
	const flag = "--add-host"
	sep := strings.IndexAny(value, "=:")
	if sep <= 0 {
		return HostEntry{}, badValue(flag, value, "write NAME:IP, as in db:10.0.0.7")
	}
	name, ip := value[:sep], value[sep+1:]
	if !isHostName(name) {
		return HostEntry{}, badValue(flag, value, "%q is not a host name", name)
	}
	if ip == hostGateway {
		return HostEntry{Name: name, IP: ip}, nil
	}
	if n := len(ip); n > 2 && ip[0] == '[' && ip[n-1] == ']' {
		ip = ip[1 : n-1]
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil || addr.Zone() != "" {
		return HostEntry{}, badValue(flag, value, "%q is not an IP address", ip)
	}
	return HostEntry{Name: name, IP: addr.String()}, nil
}

// isHostName accepts what /etc/hosts may hold as a name: letters, digits, and
// "-", "_" and "." inside.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '-' {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// ParseDNS reads the value of --dns, the IP address of a name server. A zone is
// the name of an interface (resolv.conf(5)).
func ParseDNS(value string) (string, error) {
	addr, err := netip.ParseAddr(value)
	if err != nil || addr.Zone() != "" && !isHostName(addr.Zone()) {
		return "", badValue("--dns", value, "not an IP address")
	}
	return addr.String(), nil
}

// ParseDNSSearch reads the value of --dns-search, a domain, or "." for none.
func ParseDNSSearch(value string) (string, error) {
	if value = strings.TrimSpace(value); value == "." || isHostName(value) {
		return value, nil
	}
	return "", badValue("--dns-search", value, `not a domain; write one as in example.org, or "." for none`)
}

// ParseDNSOption reads the value of --dns-option, a word of resolv.conf(5)'s
// options.
func ParseDNSOption(value string) (string, error) {
	if value == "" || strings.ContainsAny(value, " \t\n\r\x00") {
		return "", badValue("--dns-option", value, "write one option, as in ndots:2")
	}
	return value, nil
}

// ParseHostname reads the value of --hostname: a host name of at most 64 bytes
// (the kernel's __NEW_UTS_LEN).
func ParseHostname(value string) (string, error) {
	switch {
	case len(value) > 64:
		return "", badValue("--hostname", value, "%d characters; Linux allows 64", len(value))
	case !isHostName(value):
		return "", badValue("--hostname", value, "use letters, digits, - and _, with dots between parts of at most 63")
	}
	return value, nil
}

// ParseDomainname reads the value of --domainname, as [ParseHostname].
func ParseDomainname(value string) (string, error) {
	if len(value) > 64 || !isHostName(value) {
		return "", badValue("--domainname", value, "use at most 64 letters, digits, - and _, with dots between parts of at most 63")
	}
	return value, nil
}

// CheckName refuses a name that a container cannot have. Names match
// [a-zA-Z0-9][a-zA-Z0-9_.-]+.
func CheckName(name string) error {
	ok := len(name) >= 2 && isAlnum(name[0])
	for i := 1; ok && i < len(name); i++ {
		ok = isAlnum(name[i]) || strings.IndexByte("_.-", name[i]) >= 0
	}
	if !ok || len(name) > 255 {
		return badValue("--name", name, "use two or more letters, digits, _, . and -, with a letter or digit first")
	}
	return nil
}

// ParseStopSignal reads the value of --stop-signal, a name with or without SIG,
// or a number from 1 to 64.
func ParseStopSignal(value string) (syscall.Signal, error) {
	return ParseSignal("--stop-signal", value)
}

// ParseSignal reads a signal for the named flag, as [ParseStopSignal].
func ParseSignal(flag, value string) (syscall.Signal, error) {
	sig, err := signal.ParseSignal(value)
	if err != nil || sig < 1 || sig > 64 {
		return 0, badValue(flag, value, "not a signal; write a name or number, as in SIGTERM or 15")
	}
	return sig, nil
}

// ParseStopTimeout reads the value of --stop-timeout, seconds; -1 waits for
// ever.
func ParseStopTimeout(value string) (int, error) {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < -1 {
		return 0, badValue("--stop-timeout", value, "not a number of seconds; -1 waits for ever")
	}
	return int(n), nil
}

// ParseOOMScoreAdj reads the value of --oom-score-adj, -1000 to 1000.
func ParseOOMScoreAdj(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < -1000 || n > 1000 {
		return 0, badValue("--oom-score-adj", value, "must be a number from -1000 to 1000")
	}
	return n, nil
}

// ParsePidsLimit reads the value of --pids-limit; 0 and -1 are unlimited.
func ParsePidsLimit(value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < -1 || n > math.MaxInt32 {
		return 0, badValue("--pids-limit", value, "must be a number of processes; -1 is unlimited")
	}
	return n, nil
}

// ParseUser reads the value of --user, name|uid[:group|gid]. Whether the image
// knows the names shows when the container starts.
func ParseUser(value string) (string, error) {
	usr, grp, hasGroup := strings.Cut(value, ":")
	switch {
	case strings.ContainsAny(value, "\x00\n") || strings.Contains(grp, ":"):
		return "", badValue("--user", value, "write name|uid[:group|gid]")
	case hasGroup && usr == "" && grp == "":
		return "", badValue("--user", value, "write name|uid[:group|gid]")
	}
	return value, nil
}

// ParseGroupAdd reads the value of --group-add, the name or number of a group.
// Whether the image knows a name shows when the container starts.
func ParseGroupAdd(value string) (string, error) {
	if value == "" || strings.ContainsAny(value, ":\x00\n") {
		return "", badValue("--group-add", value, "write the name or number of one group")
	}
	return value, nil
}

// ParseWorkdir reads the value of --workdir, an absolute path in the container.
func ParseWorkdir(value string) (string, error) {
	return containerPath("--workdir", value, value)
}

// ParsePID reads the value of --pid.
func ParsePID(value string) (PIDMode, error) {
	if value == "" || value == "private" {
		return "", nil
	}
	if value == modeHost || containerOf(value) != "" {
		return PIDMode(value), nil
	}
	return "", badValue("--pid", value, "%s", unknown("mode", value, []string{"host", "private", "container:NAME"}))
}

// ParseIPC reads the value of --ipc.
func ParseIPC(value string) (IPCMode, error) {
	switch value {
	case "", "private", "shareable", "none", modeHost:
		return IPCMode(value), nil
	}
	if containerOf(value) != "" {
		return IPCMode(value), nil
	}
	return "", badValue("--ipc", value, "%s", unknown("mode", value, []string{"private", "shareable", "none", "host", "container:NAME"}))
}

// ParseUTS reads the value of --uts.
func ParseUTS(value string) (UTSMode, error) {
	switch value {
	case "", "private":
		return "", nil
	case modeHost:
		return modeHost, nil
	}
	return "", badValue("--uts", value, "%s", unknown("mode", value, []string{"host", "private"}))
}

// ParseCgroupns reads the value of --cgroupns.
func ParseCgroupns(value string) (CgroupnsMode, error) {
	switch value {
	case "", "private", modeHost:
		return CgroupnsMode(value), nil
	}
	return "", badValue("--cgroupns", value, "%s", unknown("mode", value, []string{"host", "private"}))
}

// Platform is an operating system and an architecture, in Go's words.
type Platform struct{ OS, Arch, Variant string }

// String gives OS/ARCH[/VARIANT].
func (p Platform) String() string {
	s := p.OS + "/" + p.Arch
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// ParsePlatform reads the value of --platform, [OS/]ARCH[/VARIANT]. The
// machine's words for an architecture (x86_64, aarch64) become Go's.
func ParsePlatform(value string) (Platform, error) {
	const flag = "--platform"
	parts := strings.Split(strings.ToLower(value), "/")
	if len(parts) == 1 {
		parts = []string{"linux", parts[0]}
	}
	for _, part := range parts {
		for i := range len(part) {
			if !isAlnum(part[i]) && strings.IndexByte("_.-", part[i]) < 0 {
				return Platform{}, badValue(flag, value, "write OS/ARCH[/VARIANT], as in linux/arm64")
			}
		}
		if part == "" || len(parts) > 3 {
			return Platform{}, badValue(flag, value, "write OS/ARCH[/VARIANT], as in linux/arm64")
		}
	}
	p := Platform{OS: parts[0], Arch: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	if p.OS != "linux" {
		return Platform{}, badValue(flag, value, "only linux images can run here")
	}
	p.normalize()
	if !slices.Contains(platformArchs(), p.Arch) {
		return Platform{}, badValue(flag, value, "%s", unknown("architecture", p.Arch, platformArchs()))
	}
	return p, nil
}

func platformArchs() []string {
	return []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle",
		"ppc64", "ppc64le", "riscv64", "s390x"}
}

func (p *Platform) normalize() {
	switch p.Arch {
	case "x86_64", "x86-64":
		p.Arch = "amd64"
	case "i386", "i686", "x86":
		p.Arch = "386"
	case "aarch64":
		p.Arch = "arm64"
	case "armhf":
		p.Arch, p.Variant = "arm", "v7"
	case "armel":
		p.Arch, p.Variant = "arm", "v6"
	}
	switch {
	case p.Arch == "arm64" && (p.Variant == "8" || p.Variant == "v8"):
		p.Variant = ""
	case p.Arch == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Arch == "arm" && len(p.Variant) == 1:
		p.Variant = "v" + p.Variant
	}
}

// ParseSecurityOpt reads one value of --security-opt into s. NAME=VALUE and
// NAME:VALUE are the same. The path of a seccomp profile is relative to cwd.
// The last profile named wins, as in Docker.
func ParseSecurityOpt(s *Security, value, cwd string) error {
	const flag = "--security-opt"
	name, val, hasVal := value, "", false
	if i := strings.IndexAny(value, "=:"); i >= 0 {
		name, val, hasVal = value[:i], value[i+1:], true
	}
	known := []string{"seccomp", "no-new-privileges", "apparmor", "label", "systempaths"}
	switch name {
	case "no-new-privileges":
		if !hasVal {
			val = "true"
		}
		return parseBool(&s.NoNewPrivileges, flag, value, name, val)
	case "seccomp", "apparmor", "label", "systempaths":
		if val == "" {
			return badValue(flag, value, "%s needs a value: %s=VALUE", name, name)
		}
	case "disable":
		return badValue(flag, value, "write label=disable")
	case "writable-cgroups", "proc-opts", "mask", "unmask":
		return badValue(flag, value, "%s is not supported", name)
	default:
		return badValue(flag, value, "%s", unknown("option", name, known))
	}
	switch name {
	case "seccomp":
		return s.setSeccomp(flag, value, val, cwd)
	case "apparmor":
		if strings.ContainsAny(val, "\x00\n\t ") {
			return badValue(flag, value, "%q is not the name of an AppArmor profile", val)
		}
		s.AppArmor = val
	case "label":
		if val != "disable" {
			return badValue(flag, value, "SELinux labels are not supported; only label=disable is")
		}
	case "systempaths":
		if val != "unconfined" {
			return badValue(flag, value, "only systempaths=unconfined is known")
		}
		s.SystemPathsUnconfined = true
	}
	return nil
}

func (s *Security) setSeccomp(flag, value, val, cwd string) error {
	switch val {
	case "unconfined", "builtin":
		s.Seccomp = Seccomp{Mode: SeccompMode(val)}
		return nil
	}
	if strings.ContainsRune(val, 0) {
		return badValue(flag, value, "a path cannot hold a NUL byte")
	}
	s.Seccomp = Seccomp{Mode: SeccompFile, Path: hostPath(val, cwd)}
	return nil
}
