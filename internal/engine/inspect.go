package engine

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/volume"
)

// Inspection is what is known of a container, in the shape of Docker's
// "container inspect".
type Inspection struct {
	ID              string `json:"Id"`
	Created         time.Time
	Path            string
	Args            []string
	State           InspectionState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	HostConfig      InspectionHost
	Mounts          []InspectionMount
	Config          InspectionConfig
	NetworkSettings InspectionNetwork
	// SizeRw and SizeRootFs are bytes, filled in on demand.
	SizeRw     *int64 `json:",omitempty"`
	SizeRootFs *int64 `json:",omitempty"`
	// Brig holds what Docker has no place for.
	Brig InspectionBrig
}

// InspectionState is the state.
type InspectionState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	Health     *Health `json:",omitempty"`
}

// InspectionHost is what the user asked of the host.
type InspectionHost struct {
	Binds           []string
	ContainerIDFile string
	LogConfig       struct {
		Type   string
		Config map[string]string
	}
	RestartPolicy struct {
		Name              string
		MaximumRetryCount int
	}
	NetworkMode       string
	PortBindings      map[string][]InspectionPort
	PublishAllPorts   bool
	AutoRemove        bool
	CapAdd            []string
	CapDrop           []string
	CapAmbient        bool
	CgroupnsMode      string
	UsernsMode        string
	Dns               []string
	DnsOptions        []string
	DnsSearch         []string
	ExtraHosts        []string
	GroupAdd          []string
	IpcMode           string
	OomScoreAdj       int
	PidMode           string
	Privileged        bool
	ReadonlyRootfs    bool
	SecurityOpt       []string
	Tmpfs             map[string]string `json:",omitempty"`
	UTSMode           string
	VolumesFrom       []string
	ShmSize           int64
	Sysctls           map[string]string `json:",omitempty"`
	Init              bool
	CpuShares         int64
	Memory            int64
	NanoCpus          int64
	CpusetCpus        string
	CpusetMems        string
	MemoryReservation int64
	MemorySwap        int64
	OomKillDisable    bool
	PidsLimit         int64
	Ulimits           []spec.Ulimit
	Devices           []spec.Device
	Annotations       map[string]string `json:",omitempty"`

	CgroupParent         string
	BlkioWeight          uint16
	BlkioDeviceReadBps   []InspectionRate
	BlkioDeviceWriteBps  []InspectionRate
	BlkioDeviceReadIOps  []InspectionRate
	BlkioDeviceWriteIOps []InspectionRate
	CpuPeriod            int64
	CpuQuota             int64
	CpuRealtimePeriod    int64
	CpuRealtimeRuntime   int64
	MemorySwappiness     *int64
}

// InspectionRate limits one block device.
type InspectionRate struct {
	Path string
	Rate uint64
}

// InspectionConfig is the process to run.
type InspectionConfig struct {
	Hostname     string
	Domainname   string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	User         string
	Tty          bool
	OpenStdin    bool
	Env          []string
	Cmd          []string
	Image        string
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	Labels       map[string]string
	StopSignal   string
	StopTimeout  *int              `json:",omitempty"`
	Healthcheck  *spec.Healthcheck `json:",omitempty"`
}

// InspectionMount is one mount.
type InspectionMount struct {
	Type        string
	Name        string `json:",omitempty"` // of a volume
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// InspectionBrig is what only Brig tells.
type InspectionBrig struct {
	Capabilities []string // of the bounding set
	Seccomp      string
	CgroupPath   string
	Monitor      int // process ID
}

// Inspect tells all that is known of the container.
func (c *Container) Inspect() (*Inspection, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	i := &Inspection{
		ID: c.ID, Created: c.Created, Image: c.ImageID, Name: "/" + c.Name, Driver: "overlay", Platform: "linux",
		ResolvConfPath: c.file("resolv.conf"), HostnamePath: c.file("hostname"), HostsPath: c.file("hosts"), LogPath: c.LogPath(),
		State: InspectionState{
			Status: s.Status, Running: s.Up() || s.Status == StatusRestarting, Paused: s.Status == StatusPaused,
			Restarting: s.Status == StatusRestarting, Health: c.ReadHealth(), OOMKilled: s.OOMKilled, ExitCode: s.ExitCode, Error: s.Error,
			StartedAt: s.StartedAt, FinishedAt: s.FinishedAt,
		},
		HostConfig: c.inspectHost(), Mounts: c.inspectMounts(), Config: c.inspectConfig(),
	}
	if i.NetworkSettings, err = c.inspectNetwork(&s); err != nil {
		return nil, err
	}
	i.Args = []string{}
	if command := c.Command(); len(command) > 0 {
		i.Path, i.Args = command[0], command[1:]
	}
	i.Brig, err = c.inspectBrig()
	i.RestartCount = s.RestartCount
	if s.Up() {
		i.State.Pid = s.PID
	}
	if i.State.Running {
		i.Brig.Monitor = s.Monitor
	}
	return i, err
}

func (c *Container) inspectBrig() (b InspectionBrig, err error) {
	set := c.engine.host().Capabilities
	if !c.Options.Privileged {
		if set, err = capability.Resolve(capability.Default(), c.Options.CapAdd, c.Options.CapDrop); err != nil {
			return b, err
		}
	}
	b.Capabilities, b.CgroupPath = set.Names(), c.cgroupPath()
	switch p := c.Options.Security.Seccomp; {
	case p.Mode == spec.SeccompFile:
		b.Seccomp = p.Path
	case p.Mode == spec.SeccompUnconfined, p.Mode == spec.SeccompDefault && c.Options.Privileged:
		b.Seccomp = "unconfined"
	default:
		b.Seccomp = "builtin"
	}
	return b, nil
}

func (c *Container) inspectHost() InspectionHost {
	o := &c.Options
	h := InspectionHost{
		NetworkMode: string(c.Network()), PortBindings: portBindings(o.Publish), PublishAllPorts: o.PublishAll, AutoRemove: c.AutoRemove, CapAdd: o.CapAdd, CapDrop: o.CapDrop, CapAmbient: o.CapAmbient,
		CgroupnsMode: orPrivate(string(o.Cgroupns)), UsernsMode: o.UserNS.Mode, Dns: list(o.DNS), DnsOptions: list(o.DNSOptions), DnsSearch: list(o.DNSSearch),
		GroupAdd: o.GroupAdd, IpcMode: orPrivate(string(o.IPC)), OomScoreAdj: o.OOMScoreAdj, PidMode: string(o.PID), Privileged: o.Privileged,
		ReadonlyRootfs: o.ReadOnly, UTSMode: string(o.UTS), ShmSize: o.ShmSize, Sysctls: o.Sysctls, Init: o.Init, CpuShares: o.CPUShares,
		Memory: o.Memory, NanoCpus: o.NanoCPUs, CpusetCpus: o.CPUSetCPUs, CpusetMems: o.CPUSetMems, MemoryReservation: o.MemoryReservation,
		MemorySwap: o.MemorySwap, OomKillDisable: o.OOMKillDisable, PidsLimit: o.PidsLimit, Ulimits: o.Ulimits, Devices: o.Devices,
		Annotations: o.Annotations, CgroupParent: o.CgroupParent, BlkioWeight: o.BlkioWeight, CpuPeriod: o.CPUPeriod, CpuQuota: o.CPUQuota,
		CpuRealtimePeriod: o.CPURTPeriod, CpuRealtimeRuntime: o.CPURTRuntime, MemorySwappiness: o.MemorySwappiness,
	}
	h.LogConfig.Type, h.LogConfig.Config = string(o.Log.Name()), o.Log.Options
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	h.RestartPolicy.Name, h.RestartPolicy.MaximumRetryCount = string(o.Restart.Name), o.Restart.MaxRetries
	if o.Restart.Name == spec.RestartNo {
		h.RestartPolicy.Name = "no"
	}
	for to, from := range map[*[]InspectionRate][]spec.DeviceRate{
		&h.BlkioDeviceReadBps: o.DeviceReadBps, &h.BlkioDeviceWriteBps: o.DeviceWriteBps,
		&h.BlkioDeviceReadIOps: o.DeviceReadIOps, &h.BlkioDeviceWriteIOps: o.DeviceWriteIOps,
	} {
		*to = []InspectionRate{}
		for _, d := range from {
			*to = append(*to, InspectionRate{d.Path, d.Rate})
		}
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
	}
	for _, e := range o.AddHost {
		h.ExtraHosts = append(h.ExtraHosts, e.Name+":"+e.IP)
	}
	for _, v := range o.VolumesFrom {
		mode := ""
		if v.ReadOnly {
			mode = ":ro"
		}
		h.VolumesFrom = append(h.VolumesFrom, v.Container+mode)
	}
	for _, m := range o.Mounts {
		if m.Type == spec.MountTmpfs || m.Volume.Anonymous || m.Volume.Implied {
			continue
		}
		mode := m.Mode
		if mode == "" && m.ReadOnly {
			mode = "ro"
		}
		h.Binds = append(h.Binds, strings.TrimSuffix(m.Source+":"+m.Target+":"+mode, ":"))
	}
	h.SecurityOpt = securityOptions(o.Security)
	return h
}

func securityOptions(s spec.Security) (list []string) {
	switch s.Seccomp.Mode {
	case spec.SeccompFile:
		list = append(list, "seccomp="+s.Seccomp.Path)
	case spec.SeccompUnconfined, spec.SeccompBuiltin:
		list = append(list, "seccomp="+string(s.Seccomp.Mode))
	}
	if s.NoNewPrivileges {
		list = append(list, "no-new-privileges")
	}
	if s.AppArmor != "" {
		list = append(list, "apparmor="+s.AppArmor)
	}
	if s.SystemPathsUnconfined {
		list = append(list, "systempaths=unconfined")
	}
	return list
}

func (c *Container) inspectMounts() []InspectionMount {
	mounts := []InspectionMount{}
	for _, m := range c.Options.Mounts {
		i := InspectionMount{Type: string(m.Type), Source: m.Source, Destination: m.Target, Mode: m.Mode, RW: !m.ReadOnly, Propagation: m.Propagation}
		switch {
		case m.Type == spec.MountVolume:
			i.Name, i.Driver, i.Source = m.Source, volume.Driver, c.engine.Volumes().Dir(m.Source)+"/_data"
		case m.Type == spec.MountBind && m.Propagation == "":
			i.Propagation = "rprivate"
		}
		mounts = append(mounts, i)
	}
	return mounts
}

func (c *Container) inspectConfig() InspectionConfig {
	o, img := &c.Options, &c.ImageConfig
	k := InspectionConfig{
		Hostname: o.Hostname, Domainname: o.Domainname, User: o.User, Tty: o.TTY, OpenStdin: o.OpenStdin, Image: c.Image,
		Env: append(slices.Clone(img.Env), o.Env...), Cmd: img.Cmd, Entrypoint: img.Entrypoint, WorkingDir: o.Workdir,
		Labels: c.Labels(), StopSignal: c.StopSignal(), StopTimeout: o.StopTimeout, Healthcheck: c.Health,
	}
	for _, m := range o.Mounts {
		if m.Volume.Anonymous {
			if k.Volumes == nil {
				k.Volumes = map[string]struct{}{}
			}
			k.Volumes[m.Target] = struct{}{}
		}
	}
	for _, p := range spec.Exposed(o, img) {
		if k.ExposedPorts == nil {
			k.ExposedPorts = map[string]struct{}{}
		}
		k.ExposedPorts[p] = struct{}{}
	}
	if k.Hostname == "" && o.Network != spec.NetworkHost {
		k.Hostname = c.ID[:12]
	}
	if k.User == "" {
		k.User = img.User
	}
	if k.WorkingDir == "" {
		k.WorkingDir = img.WorkingDir
	}
	if o.Entrypoint != nil {
		k.Entrypoint, k.Cmd = nil, nil
		if *o.Entrypoint != "" {
			k.Entrypoint = []string{*o.Entrypoint}
		}
	}
	if len(o.Args) > 0 {
		k.Cmd = o.Args
	}
	return k
}

func orPrivate(mode string) string {
	if mode == "" {
		return "private"
	}
	return mode
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// Processes are the process IDs, on the host, of a running container.
func (c *Container) Processes() ([]int, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if !s.Up() {
		return nil, c.notRunning(&s)
	}
	for _, dir := range s.Cgroups {
		if pids, err := cgroup.Procs(dir); err == nil {
			return pids, nil
		}
	}
	return []int{s.PID}, nil
}

// Top writes what ps(1) says of the container's processes. ps is the host's: it
// need not be in the image. Its columns must include the PID, by which the
// processes are found.
func (c *Container) Top(options []string, out io.Writer) error {
	pids, err := c.Processes()
	if err != nil {
		return err
	}
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	ps, err := exec.LookPath("ps")
	if err != nil {
		return fmt.Errorf("list the processes: %w; install ps: apt install procps", err)
	}
	cmd := exec.Command(ps, options...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	b, err := cmd.Output()
	if err != nil {
		if e, ok := err.(*exec.ExitError); ok && len(e.Stderr) > 0 {
			return usage("ps %s: %s", strings.Join(options, " "), bytes.SplitN(e.Stderr, []byte("\n"), 2)[0])
		}
		return fmt.Errorf("run ps: %w", err)
	}
	return filterPS(string(b), pids, out)
}

func filterPS(table string, pids []int, out io.Writer) error {
	column := -1
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if column < 0 {
			if column = slices.Index(fields, "PID"); column < 0 {
				return usage("ps must print the column PID; add it: -o pid,...")
			}
			io.WriteString(out, line)
			continue
		}
		if column >= len(fields) {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
			io.WriteString(out, line)
		}
	}
	return nil
}
