package compose

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// builder turns a service into the flags of brig create.
type builder struct {
	project *types.Project
	service *types.ServiceConfig
	flags   []string
}

// createArgs returns the arguments of brig create for a container of a service,
// but for its name and labels: flags, image and command. A key that Brig cannot
// follow is an error that names it.
func createArgs(p *types.Project, s *types.ServiceConfig) ([]string, error) {
	if err := checkKeys(s); err != nil {
		return nil, err
	}
	b := &builder{project: p, service: s}
	steps := []func() error{b.process, b.privileges, b.limits, b.files, b.network, b.health, b.lifecycle, b.deploy}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("services.%s.%w", s.Name, err)
		}
	}
	return b.command()
}

// supported are the keys of a service that are followed, here or by the commands.
func supported() []string {
	return []string{
		"annotations", "attach", "build", "cap_add", "cap_drop", "cgroup", "command", "configs", "container_name", "cpu_shares",
		"cpus", "cpuset", "depends_on", "deploy", "develop", "devices", "dns", "dns_opt", "dns_search", "domainname", "entrypoint",
		"env_file", "environment", "expose", "extends", "extra_hosts", "group_add", "healthcheck", "hostname", "image", "init", "ipc",
		"label_file", "labels", "links", "logging", "mac_address", "mem_limit", "mem_reservation", "memswap_limit", "network_mode",
		"networks", "oom_kill_disable", "oom_score_adj", "pid", "pids_limit", "platform", "ports", "privileged", "profiles",
		"pull_policy", "read_only", "restart", "scale", "secrets", "security_opt", "shm_size", "stdin_open", "stop_grace_period",
		"stop_signal", "sysctls", "tmpfs", "tty", "ulimits", "user", "userns_mode", "uts", "volumes", "volumes_from", "working_dir",
	}
}

// checkKeys refuses what would have no effect: a restriction that is left out in
// silence is one that somebody relies on.
func checkKeys(s *types.ServiceConfig) error {
	known := supported()
	var check func(v reflect.Value) error
	check = func(v reflect.Value) error {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Anonymous {
				if err := check(v.Field(i)); err != nil {
					return err
				}
				continue
			}
			key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if key == "" || key == "-" || strings.HasPrefix(key, "#") || key == "name" || v.Field(i).IsZero() || slices.Contains(known, key) {
				continue
			}
			return fmt.Errorf("services.%s.%s: Brig does not support this key; take it out", s.Name, key)
		}
		return nil
	}
	return check(reflect.ValueOf(s).Elem())
}

// add adds a flag with each value that is not empty.
func (b *builder) add(flag string, values ...string) {
	for _, v := range values {
		if v != "" {
			b.flags = append(b.flags, flag+"="+v)
		}
	}
}

func (b *builder) number(flag string, v int64) {
	if v != 0 {
		b.add(flag, strconv.FormatInt(v, 10))
	}
}

func (b *builder) bool(flag string, v bool) {
	if v {
		b.flags = append(b.flags, flag)
	}
}

// pairs adds a flag for each key of a map, in a fixed order.
func pairs[M ~map[string]string](b *builder, flag string, m M) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b.flags = append(b.flags, flag+"="+k+"="+m[k])
	}
}

func (b *builder) process() error {
	s := b.service
	b.bool("--tty", s.Tty)
	b.bool("--interactive", s.StdinOpen)
	for _, k := range slices.Sorted(maps.Keys(s.Environment)) {
		if v := s.Environment[k]; v != nil {
			b.flags = append(b.flags, "--env="+k+"="+*v)
		} // else it was to be passed on, and is not set
	}
	b.add("--workdir", s.WorkingDir)
	b.add("--user", s.User)
	b.add("--group-add", s.GroupAdd...)
	b.bool("--init", s.Init != nil && *s.Init)
	b.add("--hostname", s.Hostname)
	b.add("--domainname", s.DomainName)
	b.add("--platform", s.Platform)
	return nil
}

func (b *builder) privileges() error {
	s := b.service
	b.add("--cap-add", s.CapAdd...)
	b.add("--cap-drop", s.CapDrop...)
	b.bool("--privileged", s.Privileged)
	for _, o := range s.SecurityOpt {
		if path, ok := strings.CutPrefix(strings.Replace(o, "seccomp:", "seccomp=", 1), "seccomp="); ok {
			o = "seccomp=" + path
			if path != "unconfined" && path != "builtin" {
				o = "seccomp=" + b.project.RelativePath(path)
			}
		}
		b.add("--security-opt", o)
	}
	for _, d := range s.Devices {
		spec := d.Source
		if d.Target != "" {
			spec += ":" + d.Target
		}
		if d.Permissions != "" {
			spec += ":" + d.Permissions
		}
		b.add("--device", spec)
	}
	pairs(b, "--sysctl", s.Sysctls)
	b.add("--userns", s.UserNSMode)
	b.add("--uts", s.Uts)
	b.add("--cgroupns", s.Cgroup)
	for _, n := range []struct{ key, mode string }{{"pid", s.Pid}, {"ipc", s.Ipc}} {
		mode, err := b.shared(n.key, n.mode)
		if err != nil {
			return err
		}
		b.add("--"+n.key, mode)
	}
	return nil
}

// shared translates a namespace that is another service's.
func (b *builder) shared(key, mode string) (string, error) {
	name, ok := strings.CutPrefix(mode, "service:")
	if !ok {
		return mode, nil
	}
	other, ok := b.project.Services[name]
	if !ok {
		return "", fmt.Errorf("%s: there is no service %q", key, name)
	}
	return "container:" + containerName(b.project, &other, 1), nil
}

func (b *builder) limits() error {
	s := b.service
	b.number("--memory", int64(s.MemLimit))
	b.number("--memory-reservation", int64(s.MemReservation))
	b.number("--memory-swap", int64(s.MemSwapLimit))
	if s.CPUS != 0 {
		b.add("--cpus", strconv.FormatFloat(float64(s.CPUS), 'g', -1, 32))
	}
	b.number("--cpu-shares", s.CPUShares)
	b.add("--cpuset-cpus", s.CPUSet)
	b.number("--pids-limit", s.PidsLimit)
	b.number("--oom-score-adj", s.OomScoreAdj)
	b.bool("--oom-kill-disable", s.OomKillDisable)
	b.number("--shm-size", int64(s.ShmSize))
	for _, name := range slices.Sorted(maps.Keys(s.Ulimits)) {
		u := s.Ulimits[name]
		if u.Single != 0 {
			b.add("--ulimit", fmt.Sprintf("%s=%d", name, u.Single))
		} else {
			b.add("--ulimit", fmt.Sprintf("%s=%d:%d", name, u.Soft, u.Hard))
		}
	}
	return nil
}

func (b *builder) files() error {
	s := b.service
	b.bool("--read-only", s.ReadOnly)
	b.add("--tmpfs", s.Tmpfs...)
	for i := range s.Volumes {
		fields, err := b.mount(&s.Volumes[i])
		if err != nil {
			return fmt.Errorf("volumes[%d].%w", i, err)
		}
		b.add("--mount", commaList(fields))
	}
	for _, from := range s.VolumesFrom {
		from, err := b.volumesFrom(from)
		if err != nil {
			return err
		}
		b.add("--volumes-from", from)
	}
	for _, c := range s.Secrets {
		if err := b.object("secrets", types.FileReferenceConfig(c), "/run/secrets/", types.FileObjectConfig(b.project.Secrets[c.Source])); err != nil {
			return err
		}
	}
	for _, c := range s.Configs {
		if err := b.object("configs", types.FileReferenceConfig(c), "/", types.FileObjectConfig(b.project.Configs[c.Source])); err != nil {
			return err
		}
	}
	return nil
}

// mount returns the fields of a --mount flag.
func (b *builder) mount(v *types.ServiceVolumeConfig) ([]string, error) {
	fields := []string{"type=" + v.Type}
	source := v.Source
	switch v.Type {
	case types.VolumeTypeBind, types.VolumeTypeTmpfs:
	case types.VolumeTypeVolume:
		if named, ok := b.project.Volumes[source]; ok {
			source = named.Name
		}
	default:
		return nil, fmt.Errorf("type: %q is not supported; use bind, volume or tmpfs", v.Type)
	}
	if source != "" {
		fields = append(fields, "source="+source)
	}
	fields = append(fields, "target="+v.Target)
	if v.ReadOnly {
		fields = append(fields, "readonly")
	}
	if o := v.Bind; o != nil {
		if o.Propagation != "" {
			fields = append(fields, "bind-propagation="+o.Propagation)
		}
		if o.Recursive != "" {
			fields = append(fields, "bind-recursive="+o.Recursive)
		}
	}
	if o := v.Volume; o != nil {
		if o.NoCopy {
			fields = append(fields, "volume-nocopy")
		}
		if o.Subpath != "" {
			fields = append(fields, "volume-subpath="+o.Subpath)
		}
	}
	if o := v.Tmpfs; o != nil {
		if o.Size != 0 {
			fields = append(fields, fmt.Sprintf("tmpfs-size=%d", o.Size))
		}
		if o.Mode != 0 {
			fields = append(fields, fmt.Sprintf("tmpfs-mode=%o", o.Mode))
		}
	}
	return fields, nil
}

// commaList writes fields as --mount reads them: as a line of CSV.
func commaList(fields []string) string {
	var line strings.Builder
	w := csv.NewWriter(&line)
	w.Write(fields) // a strings.Builder does not fail
	w.Flush()
	return strings.TrimSuffix(line.String(), "\n")
}

func (b *builder) volumesFrom(from string) (string, error) {
	name, mode, _ := strings.Cut(from, ":")
	if name == "container" {
		return mode, nil
	}
	other, ok := b.project.Services[name]
	if !ok {
		return "", fmt.Errorf("volumes_from: there is no service %q; another container is named container:NAME", name)
	}
	if mode != "" {
		mode = ":" + mode
	}
	return containerName(b.project, &other, 1) + mode, nil
}

// object binds the file of a secret or a configuration.
func (b *builder) object(key string, ref types.FileReferenceConfig, dir string, o types.FileObjectConfig) error {
	if o.File == "" {
		return fmt.Errorf("%s: %s is not made of a file; only \"file:\" is supported", key, ref.Source)
	}
	if ref.UID != "" || ref.GID != "" || ref.Mode != nil {
		return fmt.Errorf("%s: %s: uid, gid and mode are those of the file %s; take them out", key, ref.Source, o.File)
	}
	target := ref.Target
	if target == "" {
		target = ref.Source
	}
	if !strings.HasPrefix(target, "/") {
		target = dir + target
	}
	b.add("--mount", commaList([]string{"type=bind", "source=" + o.File, "target=" + target, "readonly"}))
	return nil
}

func (b *builder) network() error {
	s := b.service
	for _, l := range s.Links {
		if name, alias, ok := strings.Cut(l, ":"); ok && alias != name {
			return fmt.Errorf("links: %s: name the alias in that service's networks.NETWORK.aliases", l)
		}
	}
	mode, err := b.shared("network_mode", s.NetworkMode)
	if err != nil {
		return err
	}
	b.add("--network", mode)
	if mode == "" {
		if err := b.networks(); err != nil {
			return err
		}
	}
	for _, p := range s.Ports {
		b.add("--publish", published(&p))
	}
	b.add("--expose", s.Expose...)
	for _, name := range slices.Sorted(maps.Keys(s.ExtraHosts)) {
		for _, ip := range s.ExtraHosts[name] {
			b.add("--add-host", name+":"+ip)
		}
	}
	b.add("--dns", s.DNS...)
	b.add("--dns-option", s.DNSOpts...)
	b.add("--dns-search", s.DNSSearch...)
	b.add("--mac-address", s.MacAddress)
	return nil
}

// networks joins the service's networks, those of a higher priority first.
func (b *builder) networks() error {
	s := b.service
	names := slices.SortedFunc(maps.Keys(s.Networks), func(a, c string) int {
		return cmp.Or(orZero(s.Networks[c]).Priority-orZero(s.Networks[a]).Priority, cmp.Compare(a, c))
	})
	if len(names) == 0 {
		b.add("--network", "none")
	}
	for _, name := range names {
		n := orZero(s.Networks[name])
		if len(n.DriverOpts) > 0 || len(n.LinkLocalIPs) > 0 || n.InterfaceName != "" || n.GatewayPriority != 0 {
			return fmt.Errorf("networks.%s: only aliases, addresses, mac_address and priority are supported", name)
		}
		fields := []string{"name=" + b.project.Networks[name].Name, "alias=" + s.Name}
		for _, alias := range n.Aliases {
			fields = append(fields, "alias="+alias)
		}
		for _, f := range [][2]string{{"ip", n.Ipv4Address}, {"ip6", n.Ipv6Address}, {"mac-address", n.MacAddress}} {
			if f[1] != "" {
				fields = append(fields, f[0]+"="+f[1])
			}
		}
		b.add("--network", commaList(fields))
	}
	return nil
}

func orZero(n *types.ServiceNetworkConfig) *types.ServiceNetworkConfig {
	if n == nil {
		return &types.ServiceNetworkConfig{}
	}
	return n
}

// published writes a port as --publish reads it: IP:HOST:CONTAINER/PROTOCOL.
func published(p *types.ServicePortConfig) string {
	text := strconv.FormatUint(uint64(p.Target), 10)
	if p.Published != "" || p.HostIP != "" {
		text = p.Published + ":" + text
	}
	if p.HostIP != "" {
		ip := p.HostIP
		if strings.Contains(ip, ":") {
			ip = "[" + ip + "]"
		}
		text = ip + ":" + text
	}
	if p.Protocol != "" {
		text += "/" + p.Protocol
	}
	return text
}

func (b *builder) health() error {
	h := b.service.HealthCheck
	switch {
	case h == nil:
		return nil
	case h.Disable || len(h.Test) > 0 && h.Test[0] == "NONE":
		b.bool("--no-healthcheck", true)
		return nil
	case len(h.Test) > 1 && h.Test[0] == "CMD-SHELL":
		b.add("--health-cmd", h.Test[1])
	case len(h.Test) > 1 && h.Test[0] == "CMD":
		b.add("--health-cmd", shellWords(h.Test[1:]))
	case len(h.Test) > 0:
		return fmt.Errorf("healthcheck.test: begins with %q; use NONE, CMD or CMD-SHELL", h.Test[0])
	}
	for _, f := range []struct {
		flag string
		v    *types.Duration
	}{{"--health-interval", h.Interval}, {"--health-timeout", h.Timeout}, {"--health-start-period", h.StartPeriod}, {"--health-start-interval", h.StartInterval}} {
		if f.v != nil {
			b.add(f.flag, time.Duration(*f.v).String())
		}
	}
	if h.Retries != nil {
		b.add("--health-retries", strconv.FormatUint(*h.Retries, 10))
	}
	return nil
}

// shellWords quotes words for sh(1).
func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

func (b *builder) lifecycle() error {
	s := b.service
	b.add("--restart", s.Restart)
	b.add("--stop-signal", s.StopSignal)
	if g := s.StopGracePeriod; g != nil {
		b.add("--stop-timeout", strconv.Itoa(int(time.Duration(*g).Round(time.Second).Seconds())))
	}
	if l := s.Logging; l != nil {
		b.add("--log-driver", l.Driver)
		pairs(b, "--log-opt", l.Options)
	}
	pairs(b, "--annotation", s.Annotations)
	pairs(b, "--label", s.Labels)
	return nil
}

// deploy follows the parts that mean something on one machine.
func (b *builder) deploy() error {
	d := b.service.Deploy
	if d == nil {
		return nil
	}
	if r := d.Resources.Limits; r != nil {
		if r.NanoCPUs != 0 {
			b.add("--cpus", strconv.FormatFloat(float64(r.NanoCPUs), 'g', -1, 32))
		}
		b.number("--memory", int64(r.MemoryBytes))
		b.number("--pids-limit", r.Pids)
	}
	if r := d.Resources.Reservations; r != nil {
		if len(r.Devices) > 0 || len(r.GenericResources) > 0 {
			return fmt.Errorf("deploy.resources.reservations: only memory is supported")
		}
		b.number("--memory-reservation", int64(r.MemoryBytes))
	}
	if r := d.RestartPolicy; r != nil && b.service.Restart == "" {
		policy, ok := map[string]string{"": "always", "any": "always", "none": "no", "on-failure": "on-failure"}[r.Condition]
		if !ok {
			return fmt.Errorf("deploy.restart_policy.condition: %q is not known; use none, on-failure or any", r.Condition)
		}
		if r.MaxAttempts != nil && policy == "on-failure" {
			policy += fmt.Sprintf(":%d", *r.MaxAttempts)
		}
		b.add("--restart", policy)
	}
	return nil
}

// command ends the arguments: image and command.
func (b *builder) command() ([]string, error) {
	s := b.service
	if s.Image == "" {
		return nil, fmt.Errorf("services.%s: there is no image; images are not built here: brig build -t NAME DIR, then name it with \"image:\"", s.Name)
	}
	if s.Command != nil && len(s.Command) == 0 && s.Entrypoint == nil {
		return nil, fmt.Errorf("services.%s.command: an empty command is not supported; set an entrypoint too", s.Name)
	}
	args := b.flags
	var rest []string
	if s.Entrypoint != nil {
		first := ""
		if len(s.Entrypoint) > 0 {
			first, rest = s.Entrypoint[0], s.Entrypoint[1:]
		}
		args = append(args, "--entrypoint="+first)
	}
	args = append(args, s.Image)
	return append(append(args, rest...), s.Command...), nil
}
