package spec

import v1 "github.com/opencontainers/image-spec/specs-go/v1"

// Options is everything that a user may ask for of one container. The zero
// value is a container with Docker's defaults. It survives JSON unchanged, so
// that a container created now starts the same way later.
//
// Values come from this package's parsers; [Options.Validate] checks them
// against each other.
type Options struct {
	// Entrypoint replaces the image's entrypoint and drops the image's
	// command; a pointer to "" only clears. Nil keeps the image's.
	Entrypoint *string `json:"entrypoint,omitempty"`
	// Args follow the entrypoint; empty keeps the image's command.
	Args []string `json:"args,omitempty"`
	// Env holds NAME=value, or NAME alone to remove the image's variable.
	Env []string `json:"env,omitempty"`
	// Workdir is an absolute path in the container, "" for the image's.
	Workdir string `json:"workdir,omitempty"`
	// User is name|uid[:group|gid], "" for the image's.
	User string `json:"user,omitempty"`
	// GroupAdd are names or numbers of additional groups.
	GroupAdd    []string `json:"groupAdd,omitempty"`
	TTY         bool     `json:"tty,omitempty"`
	OpenStdin   bool     `json:"openStdin,omitempty"`
	Init        bool     `json:"init,omitempty"`
	StopSignal  string   `json:"stopSignal,omitempty"`
	StopTimeout *int     `json:"stopTimeout,omitempty"` // seconds; -1 waits for ever

	Restart RestartPolicy `json:"restart,omitzero"`
	// Health replaces parts of the image's health check.
	Health *Healthcheck `json:"health,omitempty"`
	Log    LogConfig    `json:"log,omitzero"`

	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	Hostname   string      `json:"hostname,omitempty"`
	Domainname string      `json:"domainname,omitempty"`
	AddHost    []HostEntry `json:"addHost,omitempty"`
	DNS        []string    `json:"dns,omitempty"` // addresses of name servers
	DNSSearch  []string    `json:"dnsSearch,omitempty"`
	DNSOptions []string    `json:"dnsOptions,omitempty"`

	Network NetworkMode `json:"network,omitempty"`
	// Endpoints are the networks that the container is in, and what it wants of
	// them. None, with a mode for networks, is the default network.
	Endpoints  []Endpoint `json:"endpoints,omitempty"`
	Publish    []Publish  `json:"publish,omitempty"`
	PublishAll bool       `json:"publishAll,omitempty"`
	Expose     []string   `json:"expose,omitempty"` // as "80/tcp"

	PID      PIDMode      `json:"pid,omitempty"`
	IPC      IPCMode      `json:"ipc,omitempty"`
	UTS      UTSMode      `json:"uts,omitempty"`
	Cgroupns CgroupnsMode `json:"cgroupns,omitempty"`
	UserNS   UserNS       `json:"userns,omitzero"`

	Mounts []Mount `json:"mounts,omitempty"`
	// VolumesFrom are the containers whose mounts are part of Mounts since the
	// container was created.
	VolumesFrom []VolumesFrom `json:"volumesFrom,omitempty"`
	ReadOnly    bool          `json:"readOnly,omitempty"` // the root file system
	ShmSize     int64         `json:"shmSize,omitempty"`  // bytes; 0 is 64 MiB

	Memory            int64  `json:"memory,omitempty"`            // bytes; 0 is unlimited
	MemorySwap        int64  `json:"memorySwap,omitempty"`        // bytes with Memory; 0 is twice Memory, -1 unlimited
	MemoryReservation int64  `json:"memoryReservation,omitempty"` // bytes
	NanoCPUs          int64  `json:"nanoCPUs,omitempty"`          // 1e-9 CPUs; 0 is unlimited
	CPUShares         int64  `json:"cpuShares,omitempty"`
	CPUSetCPUs        string `json:"cpusetCPUs,omitempty"`
	CPUSetMems        string `json:"cpusetMems,omitempty"`
	PidsLimit         int64  `json:"pidsLimit,omitempty"` // 0 and -1 are unlimited
	OOMScoreAdj       int    `json:"oomScoreAdj,omitempty"`
	OOMKillDisable    bool   `json:"oomKillDisable,omitempty"`
	MemorySwappiness  *int64 `json:"memorySwappiness,omitempty"` // 0 to 100, cgroup v1
	CPUPeriod         int64  `json:"cpuPeriod,omitempty"`        // microseconds; 0 is the kernel's
	CPUQuota          int64  `json:"cpuQuota,omitempty"`         // microseconds in each period; 0 is unlimited
	CPURTPeriod       int64  `json:"cpuRTPeriod,omitempty"`      // microseconds, cgroup v1
	CPURTRuntime      int64  `json:"cpuRTRuntime,omitempty"`     // microseconds, cgroup v1
	BlkioWeight       uint16 `json:"blkioWeight,omitempty"`      // 10 to 1000; 0 is the kernel's
	// BlkioWeightDevice and the four others limit single block devices.
	BlkioWeightDevice []DeviceRate `json:"blkioWeightDevice,omitempty"`
	DeviceReadBps     []DeviceRate `json:"deviceReadBps,omitempty"` // bytes a second
	DeviceWriteBps    []DeviceRate `json:"deviceWriteBps,omitempty"`
	DeviceReadIOps    []DeviceRate `json:"deviceReadIOps,omitempty"` // operations a second
	DeviceWriteIOps   []DeviceRate `json:"deviceWriteIOps,omitempty"`
	// CgroupParent is the path below which the container's cgroup lies; "" is
	// Brig's own.
	CgroupParent string `json:"cgroupParent,omitempty"`
	// DeviceCgroupRules let devices through that have no node of --device.
	DeviceCgroupRules []DeviceRule `json:"deviceCgroupRules,omitempty"`

	Devices []Device          `json:"devices,omitempty"`
	Ulimits []Ulimit          `json:"ulimits,omitempty"`
	Sysctls map[string]string `json:"sysctls,omitempty"`

	Privileged bool     `json:"privileged,omitempty"`
	CapAdd     []string `json:"capAdd,omitempty"`
	CapDrop    []string `json:"capDrop,omitempty"`
	// CapAmbient gives a process that is not root the capabilities that
	// CapAdd names, through the ambient set. It is Brig's own.
	CapAmbient bool     `json:"capAmbient,omitempty"`
	Security   Security `json:"security,omitzero"`
}

// Security is what --security-opt asks for.
type Security struct {
	Seccomp         Seccomp `json:"seccomp,omitzero"`
	NoNewPrivileges bool    `json:"noNewPrivileges,omitempty"`
	// AppArmor is a profile's name, "unconfined", or "" for none named.
	AppArmor string `json:"appArmor,omitempty"`
	// SystemPathsUnconfined leaves no path of /proc and /sys masked or
	// read-only.
	SystemPathsUnconfined bool `json:"systemPathsUnconfined,omitempty"`
}

// SeccompMode says where a container's seccomp profile comes from.
type SeccompMode string

const (
	// SeccompDefault means that the user named no profile: the built-in one,
	// or none for a privileged container.
	SeccompDefault    SeccompMode = ""
	SeccompBuiltin    SeccompMode = "builtin"
	SeccompUnconfined SeccompMode = "unconfined"
	SeccompFile       SeccompMode = "file"
)

// Seccomp names a seccomp profile.
type Seccomp struct {
	Mode SeccompMode `json:"mode,omitempty"`
	Path string      `json:"path,omitempty"` // absolute, for SeccompFile only
}

// PIDMode is the value of --pid: "" (own namespace), "host" or "container:ID".
type PIDMode string

// IPCMode is the value of --ipc: "" or "private", "shareable", "none", "host"
// or "container:ID".
type IPCMode string

// UTSMode is the value of --uts: "" (own namespace) or "host".
type UTSMode string

// CgroupnsMode is the value of --cgroupns: "" or "private", or "host".
type CgroupnsMode string

const modeHost = "host"

// Host reports whether the container stays in the host's namespace.
func (m PIDMode) Host() bool { return m == modeHost }

// Host reports whether the container stays in the host's namespace.
func (m IPCMode) Host() bool { return m == modeHost }

// Host reports whether the container stays in the host's namespace.
func (m UTSMode) Host() bool { return m == modeHost }

// Host reports whether the container stays in the host's namespace.
func (m CgroupnsMode) Host() bool { return m == modeHost }

// Container gives the name or ID of the container to join, or "".
func (m PIDMode) Container() string { return containerOf(string(m)) }

// Container gives the name or ID of the container to join, or "".
func (m IPCMode) Container() string { return containerOf(string(m)) }

// MountType is the kind of a [Mount].
type MountType string

const (
	MountBind   MountType = "bind"
	MountTmpfs  MountType = "tmpfs"
	MountVolume MountType = "volume"
)

// Mount is a mount that the user asked for.
type Mount struct {
	Type MountType `json:"type"`
	// Source is an absolute path on the host, for a bind; a volume's name, empty
	// for an anonymous one until it has a name.
	Source   string `json:"source,omitempty"`
	Target   string `json:"target"` // absolute and clean path in the container
	ReadOnly bool   `json:"readOnly,omitempty"`
	// NonRecursive binds without the mounts below the source.
	NonRecursive bool `json:"nonRecursive,omitempty"`
	// ReadOnlyNonRecursive leaves the mounts below a read-only source writable.
	ReadOnlyNonRecursive bool `json:"readOnlyNonRecursive,omitempty"`
	// Propagation is one of [r]private, [r]slave, [r]shared; "" is rprivate.
	Propagation string `json:"propagation,omitempty"`
	// CreateSource says that a missing source becomes a directory (-v), where
	// --mount refuses. Whoever mounts does it.
	CreateSource bool `json:"createSource,omitempty"`
	// Options are a tmpfs's options, in the order given.
	Options []string `json:"options,omitempty"`
	// Mode is the third part of -v, as it was given.
	Mode string `json:"mode,omitempty"`
	// Volume is for volumes only.
	Volume VolumeMount `json:"volume,omitzero"`
}

// VolumeMount is what concerns the mount of a volume.
type VolumeMount struct {
	NoCopy  bool   `json:"noCopy,omitempty"` // leave it empty, whatever the image has there
	Subpath string `json:"subpath,omitempty"`
	// Driver, DriverOptions and Labels make the volume, if it is not there.
	Driver        string            `json:"driver,omitempty"`
	DriverOptions map[string]string `json:"driverOptions,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	// Anonymous says that the user gave no name: the volume goes with the
	// container if the container is removed with its volumes.
	Anonymous bool `json:"anonymous,omitempty"`
	// Implied marks what the image or another container asks for.
	Implied bool `json:"implied,omitempty"`
}

// VolumesFrom names a container whose volumes and binds are mounted, too.
type VolumesFrom struct {
	Container string `json:"container"` // name or ID
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// Device is a device node, or a directory of them, of the host.
type Device struct {
	Host        string `json:"host"`        // absolute path on the host
	Container   string `json:"container"`   // absolute path in the container
	Permissions string `json:"permissions"` // some of r, w and m
}

// DeviceRate is a limit, or a weight, for one block device.
type DeviceRate struct {
	Path string `json:"path"` // absolute path of the device on the host
	Rate uint64 `json:"rate"`
}

// DeviceRule lets devices through the devices cgroup.
type DeviceRule struct {
	Type         string `json:"type"` // a, b or c
	Major, Minor int64  // -1 is any
	Permissions  string `json:"permissions"` // some of r, w and m
}

// Ulimit is a resource limit; -1 is unlimited.
type Ulimit struct {
	Name string `json:"name"` // as in "nofile"
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// HostEntry is a line of /etc/hosts.
type HostEntry struct {
	Name string `json:"name"`
	IP   string `json:"ip"` // an address, or "host-gateway"
}

// ImageConfig is the part of an image's configuration that matters to a
// container. Its JSON form is that of the image-spec's "config" object, which
// is Docker's too.
type ImageConfig = v1.ImageConfig
