package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/learn"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/spec"
)

// createFlags are the flags that run and create share.
type createFlags struct {
	o          spec.Options
	first      spec.Endpoint // wishes of the first network
	name       string
	cidFile    string
	pull       string
	platform   spec.Platform
	quiet      bool
	autoRemove bool
	noHealth   bool
	attach     []string
	registry   registryFlags

	entrypoint string
	policy     string // file
	cwd        string
	stopAfter  int
	// Environment: files come before -e, whatever the order on the line.
	envFiles, envs, labelFiles, labels []string
}

// parsed adds a flag whose values a parser turns into something else; it may
// be given more than once if the parser's taker appends.
func parsed[T any](f *pflag.FlagSet, name, short, kind, help string, parse func(string) (T, error), take func(T)) {
	f.VarP(&parsedValue{kind: kind, set: func(v string) error {
		t, err := parse(v)
		if err == nil {
			take(t)
		}
		return err
	}}, name, short, help)
}

// parsedValue is a pflag.Value around a function.
type parsedValue struct {
	kind, text string
	set        func(string) error
}

func (v *parsedValue) String() string { return v.text }
func (v *parsedValue) Type() string   { return v.kind }
func (v *parsedValue) Set(s string) error {
	v.text = s
	return v.set(s)
}

// size makes a parser of sizes that names its flag in errors.
func size(flag string) func(string) (int64, error) {
	return func(v string) (int64, error) { return spec.ParseSize(flag, v) }
}

// pair is a key with its value.
type pair struct{ key, value string }

func (c *createFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the image is the command's
	f.SortFlags = false
	f.Bool("help", false, "show this help") // without -h, which is the host name
	c.cwd, _ = os.Getwd()
	c.addProcess(f)
	c.addPrivileges(f)
	c.addFiles(f)
	c.addNetwork(f)
	c.addNamespaces(f)
	c.addLimits(f)
	c.addBlockIO(f)
	c.addLifecycle(f)
	c.addHealth(f)
	c.addLog(f)
	addRefused(f)
}

// addRefused refuses flags of Docker's that Brig will not have, or that mean
// nothing here.
func addRefused(f *pflag.FlagSet) {
	for _, r := range []struct{ name, why string }{
		{"gpus", "GPUs need their maker's hook; give the devices with --device, as --device /dev/dri"},
		{"kernel-memory", "the kernel has no such limit any more; use --memory"},
		{"runtime", "Brig is its own runtime"},
		{"storage-opt", "the overlay driver has no options"},
		{"isolation", "this is for Windows"},
		{"volume-driver", "there are no plug-ins for volumes; mount the directory, then name it with -v"},
	} {
		f.VarP(&parsedValue{kind: "value", set: func(string) error {
			return fmt.Errorf("--%s is not supported: %s", r.name, r.why)
		}}, r.name, "", r.why)
		f.MarkHidden(r.name)
	}
	// Nothing is ever checked against a notary.
	f.Bool("disable-content-trust", true, "accepted for Docker's sake")
	f.MarkHidden("disable-content-trust")
}

func (c *createFlags) addProcess(f *pflag.FlagSet) {
	o := &c.o
	f.BoolVarP(&o.OpenStdin, "interactive", "i", false, "keep the standard input open, even if not attached")
	f.BoolVarP(&o.TTY, "tty", "t", false, "give the container a terminal")
	f.StringArrayVarP(&c.attach, "attach", "a", nil, "attach to stdin, stdout or stderr only")
	f.StringVar(&c.entrypoint, "entrypoint", "", "program to run instead of the image's entrypoint")
	f.StringArrayVarP(&c.envs, "env", "e", nil, "set a variable: NAME=VALUE, or NAME to pass the one here on")
	f.StringArrayVar(&c.envFiles, "env-file", nil, "read variables from a file, one a line")
	parsed(f, "workdir", "w", "path", "working directory in the container", spec.ParseWorkdir, func(v string) { o.Workdir = v })
	parsed(f, "user", "u", "name|uid[:group|gid]", "user and group of the process", spec.ParseUser, func(v string) { o.User = v })
	parsed(f, "group-add", "", "group", "additional group, by name or number", spec.ParseGroupAdd, func(v string) { o.GroupAdd = append(o.GroupAdd, v) })
	f.BoolVar(&o.Init, "init", false, "run a small init as PID 1, which forwards signals and reaps zombies")
}

func (c *createFlags) addPrivileges(f *pflag.FlagSet) {
	o := &c.o
	f.StringArrayVar(&o.CapAdd, "cap-add", nil, "add capabilities: names, comma-separated, or ALL")
	f.StringArrayVar(&o.CapDrop, "cap-drop", nil, "drop capabilities: names, comma-separated, or ALL")
	f.BoolVar(&o.CapAmbient, "cap-ambient", false, "give what --cap-add names to a process that is not root, too")
	parsed(f, "security-opt", "", "option", "seccomp=FILE|builtin|unconfined, no-new-privileges, systempaths=unconfined",
		func(v string) (string, error) { return v, spec.ParseSecurityOpt(&o.Security, v, c.cwd) }, func(string) {})
	f.StringVar(&c.policy, "policy", "", "hold the container to a policy file, as brig learn writes them")
	f.BoolVar(&o.Privileged, "privileged", false, "give all capabilities and devices, and no seccomp filter")
	parsed(f, "device-cgroup-rule", "", "rule", "let devices through that --device does not name: \"c 189:* rwm\"", spec.ParseDeviceRule,
		func(v spec.DeviceRule) { o.DeviceCgroupRules = append(o.DeviceCgroupRules, v) })
	parsed(f, "device", "", "path", "give a device of the host: HOST[:CONTAINER[:rwm]]", spec.ParseDevice, func(v spec.Device) { o.Devices = append(o.Devices, v) })
}

func (c *createFlags) addFiles(f *pflag.FlagSet) {
	o := &c.o
	mount := func(m spec.Mount) { o.Mounts = append(o.Mounts, m) }
	parsed(f, "volume", "v", "mount", "mount a volume, directory or file: NAME|SOURCE:TARGET[:ro]; TARGET alone is an anonymous volume",
		func(v string) (spec.Mount, error) { return spec.ParseVolume(v, c.cwd) }, mount)
	parsed(f, "mount", "", "mount", "mount: type=volume|bind|tmpfs,source=NAME|PATH,target=PATH[,readonly]",
		func(v string) (spec.Mount, error) { return spec.ParseMount(v, c.cwd) }, mount)
	parsed(f, "volumes-from", "", "container", "mount the volumes and directories of another container, too: NAME[:ro]",
		spec.ParseVolumesFrom, func(v spec.VolumesFrom) { o.VolumesFrom = append(o.VolumesFrom, v) })
	parsed(f, "tmpfs", "", "path", "mount a tmpfs: PATH[:OPTIONS]", spec.ParseTmpfs, mount)
	f.BoolVar(&o.ReadOnly, "read-only", false, "mount the root file system read-only")
	parsed(f, "shm-size", "", "bytes", "size of /dev/shm (default 64m)", size("--shm-size"), func(v int64) { o.ShmSize = v })
}

func (c *createFlags) addNetwork(f *pflag.FlagSet) {
	o := &c.o
	network := func(v string) (string, error) { return v, o.AddNetwork(v) }
	parsed(f, "network", "", "network", "network to be in: bridge (the default), a network's name, none, private (none, with its own name), host or container:NAME", network, func(string) {})
	parsed(f, "net", "", "network", "the same as --network", network, func(string) {})
	f.MarkHidden("net")
	parsed(f, "publish", "p", "port", "let the host's clients reach a port: [[IP:][HOSTPORT]:]PORT[/udp], with ranges",
		spec.ParsePublish, func(v []spec.Publish) { o.Publish = append(o.Publish, v...) })
	f.BoolVarP(&o.PublishAll, "publish-all", "P", false, "publish all exposed ports to free ports of the host")
	parsed(f, "expose", "", "port", "say that the container has a port: PORT[-PORT][/udp]", spec.ParseExpose, func(v []string) { o.Expose = append(o.Expose, v...) })
	addEndpoint(f, &c.first)
	parsed(f, "network-alias", "", "name", "further name in the network", spec.ParseNetworkAlias, func(v string) { c.first.Aliases = append(c.first.Aliases, v) })
	parsed(f, "net-alias", "", "name", "the same as --network-alias", spec.ParseNetworkAlias, func(v string) { c.first.Aliases = append(c.first.Aliases, v) })
	f.MarkHidden("net-alias")
	parsed(f, "mac-address", "", "address", "Ethernet address in the network",
		func(v string) (string, error) { return spec.ParseMAC("--mac-address", v) }, func(v string) { c.first.MAC = v })
}

// addEndpoint adds the flags for a container's addresses in a network.
func addEndpoint(f *pflag.FlagSet, e *spec.Endpoint) {
	parsed(f, "ip", "", "address", "IPv4 address in the network",
		func(v string) (netip.Addr, error) { return spec.ParseIP("--ip", v, false) }, func(v netip.Addr) { e.IPv4 = v })
	parsed(f, "ip6", "", "address", "IPv6 address in the network",
		func(v string) (netip.Addr, error) { return spec.ParseIP("--ip6", v, true) }, func(v netip.Addr) { e.IPv6 = v })
}

func (c *createFlags) addNamespaces(f *pflag.FlagSet) {
	o := &c.o
	parsed(f, "hostname", "h", "name", "host name in the container", spec.ParseHostname, func(v string) { o.Hostname = v })
	parsed(f, "domainname", "", "name", "NIS domain name in the container", spec.ParseDomainname, func(v string) { o.Domainname = v })
	parsed(f, "add-host", "", "name:ip", "add a line to /etc/hosts", spec.ParseAddHost, func(v spec.HostEntry) { o.AddHost = append(o.AddHost, v) })
	parsed(f, "dns", "", "address", "name server", spec.ParseDNS, func(v string) { o.DNS = append(o.DNS, v) })
	parsed(f, "dns-search", "", "domain", "search domain", spec.ParseDNSSearch, func(v string) { o.DNSSearch = append(o.DNSSearch, v) })
	option := func(v string) { o.DNSOptions = append(o.DNSOptions, v) }
	parsed(f, "dns-option", "", "option", "resolver option", spec.ParseDNSOption, option)
	parsed(f, "dns-opt", "", "option", "the same as --dns-option", spec.ParseDNSOption, option)
	f.MarkHidden("dns-opt")
	parsed(f, "pid", "", "mode", "PID namespace: host or container:NAME", spec.ParsePID, func(v spec.PIDMode) { o.PID = v })
	parsed(f, "ipc", "", "mode", "IPC namespace: private, host or container:NAME", spec.ParseIPC, func(v spec.IPCMode) { o.IPC = v })
	parsed(f, "uts", "", "mode", "UTS namespace: host", spec.ParseUTS, func(v spec.UTSMode) { o.UTS = v })
	parsed(f, "userns", "", "mode", "user namespace: host, auto[:size=N], or keep-id for an ordinary user", spec.ParseUserns,
		func(v spec.UserNS) { o.UserNS.Mode, o.UserNS.Size = v.Mode, v.Size })
	for _, m := range []struct {
		flag string
		list *[]spec.IDMap
	}{{"uidmap", &o.UserNS.UIDs}, {"gidmap", &o.UserNS.GIDs}} {
		parsed(f, m.flag, "", "container:host:size", "a range of IDs of the container's own user namespace; repeatable",
			func(v string) (spec.IDMap, error) { return spec.ParseIDMap("--"+m.flag, v) },
			func(v spec.IDMap) { *m.list = append(*m.list, v) })
	}
	parsed(f, "cgroupns", "", "mode", "cgroup namespace: private or host", spec.ParseCgroupns, func(v spec.CgroupnsMode) { o.Cgroupns = v })
	parsed(f, "sysctl", "", "name=value", "kernel parameter of the container's namespaces",
		func(v string) (p pair, err error) {
			p.key, p.value, err = spec.ParseSysctl(v)
			return p, err
		}, func(p pair) {
			if o.Sysctls == nil {
				o.Sysctls = map[string]string{}
			}
			o.Sysctls[p.key] = p.value
		})
}

func (c *createFlags) addLimits(f *pflag.FlagSet) {
	o := &c.o
	parsed(f, "memory", "m", "bytes", "limit of memory, as 512m", size("--memory"), func(v int64) { o.Memory = v })
	parsed(f, "memory-swap", "", "bytes", "limit of memory and swap together; -1 for no limit of swap", spec.ParseMemorySwap, func(v int64) { o.MemorySwap = v })
	parsed(f, "memory-reservation", "", "bytes", "soft limit of memory", size("--memory-reservation"), func(v int64) { o.MemoryReservation = v })
	parsed(f, "cpus", "", "number", "number of CPUs, as 1.5", spec.ParseCPUs, func(v int64) { o.NanoCPUs = v })
	parsed(f, "cpu-shares", "c", "weight", "CPU weight against other containers", spec.ParseCPUShares, func(v int64) { o.CPUShares = v })
	parsed(f, "cpuset-cpus", "", "list", "CPUs that may be used, as 0-2,4",
		func(v string) (string, error) { return spec.ParseCPUSet("--cpuset-cpus", v) }, func(v string) { o.CPUSetCPUs = v })
	parsed(f, "cpuset-mems", "", "list", "memory nodes that may be used",
		func(v string) (string, error) { return spec.ParseCPUSet("--cpuset-mems", v) }, func(v string) { o.CPUSetMems = v })
	parsed(f, "pids-limit", "", "number", "limit of processes; -1 for none", spec.ParsePidsLimit, func(v int64) { o.PidsLimit = v })
	parsed(f, "ulimit", "", "name=soft[:hard]", "limit of resources, as nofile=1024:2048", spec.ParseUlimit, func(v spec.Ulimit) { o.Ulimits = append(o.Ulimits, v) })
	parsed(f, "oom-score-adj", "", "number", "preference of the out-of-memory killer, -1000 to 1000", spec.ParseOOMScoreAdj, func(v int) { o.OOMScoreAdj = v })
	f.BoolVar(&o.OOMKillDisable, "oom-kill-disable", false, "do not kill when out of memory (cgroup v1)")
	parsed(f, "memory-swappiness", "", "number", "how readily memory is swapped out, 0 to 100 (cgroup v1)", spec.ParseSwappiness, func(v *int64) { o.MemorySwappiness = v })
	microseconds := func(name, help string, to *int64) {
		parsed(f, name, "", "microseconds", help, func(v string) (int64, error) { return spec.ParseMicroseconds("--"+name, v) }, func(v int64) { *to = v })
	}
	microseconds("cpu-period", "period of --cpu-quota, 1000 to 1000000", &o.CPUPeriod)
	microseconds("cpu-quota", "time on the CPUs in each period", &o.CPUQuota)
	microseconds("cpu-rt-period", "period of --cpu-rt-runtime (cgroup v1)", &o.CPURTPeriod)
	microseconds("cpu-rt-runtime", "real-time in each period (cgroup v1)", &o.CPURTRuntime)
	parsed(f, "cgroup-parent", "", "path", "cgroup below which the container's lies", spec.ParseCgroupParent, func(v string) { o.CgroupParent = v })
}

func (c *createFlags) addBlockIO(f *pflag.FlagSet) {
	o := &c.o
	parsed(f, "blkio-weight", "", "weight", "weight of block I/O against other containers, 10 to 1000", spec.ParseBlkioWeight, func(v uint16) { o.BlkioWeight = v })
	rate := func(name, help string, to *[]spec.DeviceRate) {
		parsed(f, name, "", "path:rate", help, func(v string) (spec.DeviceRate, error) { return spec.ParseDeviceRate("--"+name, v) },
			func(v spec.DeviceRate) { *to = append(*to, v) })
	}
	rate("blkio-weight-device", "weight for one device", &o.BlkioWeightDevice)
	rate("device-read-bps", "limit of bytes a second read from a device, as /dev/sda:1mb", &o.DeviceReadBps)
	rate("device-write-bps", "limit of bytes a second written to a device", &o.DeviceWriteBps)
	rate("device-read-iops", "limit of reads a second from a device", &o.DeviceReadIOps)
	rate("device-write-iops", "limit of writes a second to a device", &o.DeviceWriteIOps)
}

// addHealth adds the flags of the health check. What is not given is the
// image's.
func (c *createFlags) addHealth(f *pflag.FlagSet) {
	health := func() *spec.Healthcheck {
		if c.o.Health == nil {
			c.o.Health = &spec.Healthcheck{}
		}
		return c.o.Health
	}
	f.VarP(&parsedValue{kind: "command", set: func(v string) error {
		health().Test = []string{"CMD-SHELL", v}
		if v == "" || v == "none" { // podman's
			health().Test = []string{"NONE"}
		}
		return nil
	}}, "health-cmd", "", "shell command that fails when the container does not do its work")
	duration := func(name, help string, to func() *time.Duration) {
		parsed(f, name, "", "duration", help, func(v string) (time.Duration, error) { return spec.ParseHealthDuration("--"+name, v) },
			func(v time.Duration) { *to() = v })
	}
	duration("health-interval", "time between two looks (default 30s)", func() *time.Duration { return &health().Interval })
	duration("health-timeout", "time that a look may take (default 30s)", func() *time.Duration { return &health().Timeout })
	duration("health-start-period", "time at the start in which failures do not count", func() *time.Duration { return &health().StartPeriod })
	duration("health-start-interval", "time between two looks in the start period (default 5s)", func() *time.Duration { return &health().StartInterval })
	parsed(f, "health-retries", "", "number", "failures in a row that make it unhealthy (default 3)", spec.ParseHealthRetries, func(v int) { health().Retries = v })
	f.BoolVar(&c.noHealth, "no-healthcheck", false, "do without the image's health check")
}

func (c *createFlags) addLog(f *pflag.FlagSet) {
	l := &c.o.Log
	parsed(f, "log-driver", "", "driver", "where output goes: json-file (default), local, journald or none", spec.ParseLogDriver, func(v spec.LogDriver) { l.Driver = v })
	parsed(f, "log-opt", "", "name=value", "option of the driver: max-size=10m, max-file=3, compress=true, labels=, env=, tag=",
		func(v string) (p pair, err error) {
			p.key, p.value, err = spec.ParseLogOpt(v)
			return p, err
		}, func(p pair) {
			if l.Options == nil {
				l.Options = map[string]string{}
			}
			l.Options[p.key] = p.value
		})
}

func (c *createFlags) addLifecycle(f *pflag.FlagSet) {
	o := &c.o
	f.StringVar(&c.name, "name", "", "name of the container")
	f.BoolVar(&c.autoRemove, "rm", false, "remove the container when it ends")
	parsed(f, "restart", "", "policy", "start it anew when it ends: no, on-failure[:N], always, unless-stopped", spec.ParseRestart, func(v spec.RestartPolicy) { o.Restart = v })
	f.StringVar(&c.cidFile, "cidfile", "", "write the container's ID to a file, which must not exist yet")
	f.StringArrayVarP(&c.labels, "label", "l", nil, "set a label: KEY=VALUE")
	f.StringArrayVar(&c.labelFiles, "label-file", nil, "read labels from a file, one a line")
	parsed(f, "annotation", "", "key=value", "set an OCI annotation",
		func(v string) (p pair, err error) {
			p.key, p.value, err = spec.ParseLabel("--annotation", v)
			return p, err
		}, func(p pair) {
			if o.Annotations == nil {
				o.Annotations = map[string]string{}
			}
			o.Annotations[p.key] = p.value
		})
	parsed(f, "stop-signal", "", "signal", "signal that asks the container to end (default SIGTERM)",
		func(v string) (string, error) {
			_, err := spec.ParseStopSignal(v)
			return v, err
		}, func(v string) { o.StopSignal = v })
	parsed(f, "stop-timeout", "", "seconds", "how long stop waits before it kills (default 10)", spec.ParseStopTimeout, func(v int) { o.StopTimeout = &v })
	f.StringVar(&c.pull, "pull", "missing", "when to pull the image: missing, always or never")
	parsed(f, "platform", "", "os/arch", "platform of the image", spec.ParsePlatform, func(v spec.Platform) { c.platform = v })
	f.BoolVarP(&c.quiet, "quiet", "q", false, "print no progress of the pull")
	c.registry.add(f)
}

// options turns the flags and arguments into what the engine creates.
func (c *createFlags) options(cmd *cobra.Command, args []string) (engine.CreateOptions, error) {
	if cmd.Flags().Changed("entrypoint") {
		c.o.Entrypoint = &c.entrypoint
	}
	c.o.Args = args[1:]
	if err := c.o.ApplyFirst(c.first); err != nil {
		return engine.CreateOptions{}, err
	}
	if err := c.environment(); err != nil {
		return engine.CreateOptions{}, err
	}
	if c.name != "" {
		if err := spec.CheckName(c.name); err != nil {
			return engine.CreateOptions{}, err
		}
	}
	if !slices.Contains([]string{"missing", "always", "never"}, c.pull) {
		return engine.CreateOptions{}, fmt.Errorf("--pull %q: use missing, always or never", c.pull)
	}
	if c.noHealth {
		if c.o.Health != nil {
			return engine.CreateOptions{}, errors.New("--no-healthcheck conflicts with --health-* options; drop one of them")
		}
		c.o.Health = &spec.Healthcheck{Test: []string{"NONE"}}
	}
	o := engine.CreateOptions{Image: args[0], Name: c.name, Options: c.o, AutoRemove: c.autoRemove}
	if c.platform.Arch != "" || c.platform.OS != "" {
		o.Platform = c.platform.String()
	}
	if c.policy != "" {
		if err := c.enforcePolicy(cmd, &o); err != nil {
			return o, err
		}
	}
	return o, o.Options.Validate()
}

// enforcePolicy takes capabilities and the seccomp profile from the policy file,
// which nothing else may widen.
func (c *createFlags) enforcePolicy(cmd *cobra.Command, o *engine.CreateOptions) error {
	for _, name := range []string{"cap-add", "cap-drop", "privileged"} {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--policy and --%s exclude each other: the policy says what the container may do; change it there", name)
		}
	}
	if c.o.Security.Seccomp.Mode != spec.SeccompDefault {
		return errors.New("--policy and --security-opt seccomp exclude each other: the policy has a seccomp profile")
	}
	p, err := policy.Load(c.policy)
	if err != nil {
		return err
	}
	path := c.policy
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.cwd, path)
	}
	return learn.Enforce(o, path, p)
}

// environment gathers variables and labels: files first, then flags.
func (c *createFlags) environment() error {
	for _, name := range c.envFiles {
		list, err := spec.ReadEnvFile(name, os.LookupEnv)
		if err != nil {
			return err
		}
		c.o.Env = append(c.o.Env, list...)
	}
	for _, v := range c.envs {
		e, err := spec.ParseEnv(v, os.LookupEnv)
		if err != nil {
			return err
		}
		if strings.Contains(e, "=") || e != "" {
			c.o.Env = append(c.o.Env, e)
		}
	}
	var labels []string
	for _, name := range c.labelFiles {
		list, err := spec.ReadLabelFile(name)
		if err != nil {
			return err
		}
		labels = append(labels, list...)
	}
	for _, l := range append(labels, c.labels...) {
		k, v, err := spec.ParseLabel("--label", l)
		if err != nil {
			return err
		}
		if c.o.Labels == nil {
			c.o.Labels = map[string]string{}
		}
		c.o.Labels[k] = v
	}
	return nil
}

// streams are the standard streams that -a names, or by default output and
// errors, and the input with -i.
func (c *createFlags) streams() (monitor.Streams, error) {
	if len(c.attach) == 0 {
		s := monitor.Stdout | monitor.Stderr
		if c.o.OpenStdin {
			s |= monitor.Stdin
		}
		return s, nil
	}
	var s monitor.Streams
	for _, a := range c.attach {
		switch strings.ToLower(a) {
		case "stdin":
			s |= monitor.Stdin
		case "stdout":
			s |= monitor.Stdout
		case "stderr":
			s |= monitor.Stderr
		default:
			return 0, fmt.Errorf("--attach %q: use stdin, stdout or stderr", a)
		}
	}
	return s, nil
}

// cidFile reserves the file for the ID before the container is made, so that
// an existing one stops the command early; the returned function fills it in,
// or with "" takes it away.
func (c *createFlags) reserveCIDFile() (func(id string) error, error) {
	if c.cidFile == "" {
		return func(string) error { return nil }, nil
	}
	f, err := os.OpenFile(c.cidFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("--cidfile %s: the file exists: make sure the other container isn't running, or delete it", c.cidFile)
	}
	if err != nil {
		return nil, fmt.Errorf("--cidfile: %w", err)
	}
	return func(id string) error {
		defer f.Close()
		if id == "" {
			return os.Remove(c.cidFile)
		}
		_, err := f.WriteString(id)
		return err
	}, nil
}
