package compose

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/compose-spec/compose-go/v2/graph"
	"github.com/compose-spec/compose-go/v2/types"
)

// upOptions are those of up.
type upOptions struct {
	recreate      bool // also what has not changed
	keep          bool // also what has changed
	removeOrphans bool
	pull          string
	timeout       *int // seconds, for containers that are replaced
	start         bool
}

// up brings a project to the state that its file describes.
type up struct {
	*Brig
	upOptions
	project *types.Project
	args    map[string][]string // of create, by service
	have    map[string][]*container
}

// up makes networks, volumes and containers, and starts them in the order of
// their dependencies.
func (b *Brig) up(ctx context.Context, p *types.Project, o upOptions) error {
	u := &up{Brig: b, upOptions: o, project: p, args: map[string][]string{}, have: map[string][]*container{}}
	// All that can be wrong with the file is found before anything is made.
	for name := range p.Services {
		s := p.Services[name]
		args, err := createArgs(p, &s)
		if err != nil {
			return err
		}
		if scale(&s) > 1 && s.ContainerName != "" {
			return fmt.Errorf("services.%s.container_name: %d containers cannot have one name", name, scale(&s))
		}
		u.args[name] = args
	}
	if err := u.directories(); err != nil {
		return err
	}
	if err := u.objects(ctx); err != nil {
		return err
	}
	all, err := b.containers(ctx, p.Name)
	if err != nil {
		return err
	}
	if err := u.orphans(ctx, all); err != nil {
		return err
	}
	return graph.InDependencyOrder(ctx, p, func(ctx context.Context, name string, s types.ServiceConfig) error {
		if err := u.await(ctx, &s); err != nil {
			return err
		}
		return u.service(ctx, &s)
	})
}

// directories makes the directories of the host that are bound and missing, as
// Docker does unless create_host_path is false.
func (u *up) directories() error {
	for name, s := range u.project.Services {
		for i, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind || v.Bind != nil && !bool(v.Bind.CreateHostPath) {
				continue
			}
			if _, err := os.Stat(v.Source); os.IsNotExist(err) {
				if err := os.MkdirAll(v.Source, 0o755); err != nil {
					return fmt.Errorf("services.%s.volumes[%d]: %w", name, i, err)
				}
			}
		}
	}
	return nil
}

// objects makes the networks and volumes that are missing.
func (u *up) objects(ctx context.Context) error {
	p := u.project
	for _, key := range slices.Sorted(maps.Keys(p.Networks)) {
		n := p.Networks[key]
		if !u.usesNetwork(key) {
			continue
		}
		args, err := networkArgs(p, key, &n)
		if err == nil {
			err = u.object(ctx, "network", n.Name, bool(n.External), args)
		}
		if err != nil {
			return fmt.Errorf("networks.%s: %w", key, err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Volumes)) {
		v := p.Volumes[key]
		args := []string{"volume", "create", "--label=" + labelProject + "=" + p.Name, "--label=" + labelVolume + "=" + key}
		if v.Driver != "" {
			args = append(args, "--driver="+v.Driver)
		}
		for _, o := range slices.Sorted(maps.Keys(v.DriverOpts)) {
			args = append(args, "--opt="+o+"="+v.DriverOpts[o])
		}
		for _, l := range slices.Sorted(maps.Keys(v.Labels)) {
			args = append(args, "--label="+l+"="+v.Labels[l])
		}
		if err := u.object(ctx, "volume", v.Name, bool(v.External), append(args, v.Name)); err != nil {
			return fmt.Errorf("volumes.%s: %w", key, err)
		}
	}
	return nil
}

func (u *up) usesNetwork(key string) bool {
	for _, s := range u.project.Services {
		if _, ok := s.Networks[key]; ok && s.NetworkMode == "" {
			return true
		}
	}
	return false
}

func networkArgs(p *types.Project, key string, n *types.NetworkConfig) ([]string, error) {
	args := []string{"network", "create", "--label=" + labelProject + "=" + p.Name, "--label=" + labelNetwork + "=" + key}
	if n.Ipam.Driver != "" && n.Ipam.Driver != "default" {
		return nil, fmt.Errorf("ipam.driver: %q is not supported; leave it out", n.Ipam.Driver)
	}
	if n.Driver != "" && n.Driver != "bridge" {
		return nil, fmt.Errorf("driver: %q is not supported; use bridge", n.Driver)
	}
	if n.Internal {
		args = append(args, "--internal")
	}
	if n.EnableIPv6 != nil && *n.EnableIPv6 {
		args = append(args, "--ipv6")
	}
	for _, pool := range n.Ipam.Config {
		if len(pool.AuxiliaryAddresses) > 0 {
			return nil, fmt.Errorf("ipam.config: aux_addresses are not supported")
		}
		for _, f := range [][2]string{{"--subnet", pool.Subnet}, {"--gateway", pool.Gateway}, {"--ip-range", pool.IPRange}} {
			if f[1] != "" {
				args = append(args, f[0]+"="+f[1])
			}
		}
	}
	for _, o := range slices.Sorted(maps.Keys(n.DriverOpts)) {
		args = append(args, "--opt="+o+"="+n.DriverOpts[o])
	}
	for _, l := range slices.Sorted(maps.Keys(n.Labels)) {
		args = append(args, "--label="+l+"="+n.Labels[l])
	}
	return append(args, n.Name), nil
}

// object makes a network or volume unless it is there.
func (u *up) object(ctx context.Context, kind, name string, external bool, args []string) error {
	if u.exists(ctx, kind, name) {
		return nil
	}
	if external {
		return fmt.Errorf("there is no %s %s, and external ones are not made here: brig %s create %s", kind, name, kind, name)
	}
	if _, err := u.output(ctx, args...); err != nil {
		return err
	}
	u.told(map[string]string{"network": "Network", "volume": "Volume"}[kind], name, "Created")
	return nil
}

// orphans sorts the containers by service, and finds those of none.
func (u *up) orphans(ctx context.Context, all []*container) error {
	for _, c := range all {
		if _, ok := u.project.Services[c.service()]; ok {
			u.have[c.service()] = append(u.have[c.service()], c)
			continue
		}
		if _, ok := u.project.DisabledServices[c.service()]; ok {
			continue
		}
		if !u.removeOrphans {
			fmt.Fprintf(u.Err, "WARNING: container %s is of no service of this file; --remove-orphans removes it\n", c.name())
			continue
		}
		if err := u.remove(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// removeAfter stops and removes a container.
func (b *Brig) removeAfter(ctx context.Context, c *container, timeout *int, volumes bool) error {
	if err := b.stop(ctx, c, timeout); err != nil {
		return err
	}
	args := []string{"rm", "-f"}
	if volumes {
		args = append(args, "-v")
	}
	if _, err := b.output(ctx, append(args, c.ID)...); err != nil {
		return err
	}
	b.told("Container", c.name(), "Removed")
	return nil
}

func (u *up) remove(ctx context.Context, c *container) error {
	return u.removeAfter(ctx, c, u.timeout, true)
}

func (b *Brig) stop(ctx context.Context, c *container, timeout *int) error {
	if c.State.Status == "exited" || c.State.Status == "created" {
		return nil
	}
	args := []string{"stop"}
	if timeout != nil {
		args = append(args, "-t", strconv.Itoa(*timeout))
	}
	if _, err := b.output(ctx, append(args, c.ID)...); err != nil {
		return err
	}
	b.told("Container", c.name(), "Stopped")
	return nil
}

// await waits for what a service depends on.
func (u *up) await(ctx context.Context, s *types.ServiceConfig) error {
	if !u.start {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.DependsOn)) {
		d := s.DependsOn[name]
		other, ok := u.project.Services[name]
		if !ok || d.Condition == types.ServiceConditionStarted {
			continue
		}
		for n := 1; n <= scale(&other); n++ {
			if err := u.until(ctx, containerName(u.project, &other, n), d.Condition); err != nil {
				if !d.Required {
					fmt.Fprintf(u.Err, "WARNING: %s goes on without %s: %v\n", s.Name, name, err)
					continue
				}
				return fmt.Errorf("services.%s.depends_on.%s: %w", s.Name, name, err)
			}
		}
	}
	return nil
}

// until waits until a container is healthy, or has ended well.
func (u *up) until(ctx context.Context, name, condition string) error {
	if condition == types.ServiceConditionCompletedSuccessfully {
		code, err := u.output(ctx, "wait", name)
		if err == nil && code != "0\n" {
			err = fmt.Errorf("container %s ended with exit code %s", name, code[:max(0, len(code)-1)])
		}
		return err
	}
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		list, err := u.inspect(ctx, name)
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return fmt.Errorf("container %s is gone", name)
		case list[0].State.Health == nil:
			return fmt.Errorf("container %s has no health check", name)
		case list[0].State.Health.Status == "healthy":
			u.told("Container", name, "Healthy")
			return nil
		case list[0].State.Health.Status == "unhealthy":
			return fmt.Errorf("container %s is unhealthy", name)
		case !list[0].State.Running && list[0].State.Status != "restarting":
			return fmt.Errorf("container %s ended with exit code %d", name, list[0].State.ExitCode)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// service makes, replaces, starts and removes containers of a service, until
// there are as many as there should be.
func (u *up) service(ctx context.Context, s *types.ServiceConfig) error {
	want := scale(s)
	present := map[int]*container{}
	for _, c := range u.have[s.Name] {
		if c.number() > want || c.number() < 1 || present[c.number()] != nil {
			if err := u.remove(ctx, c); err != nil {
				return err
			}
			continue
		}
		present[c.number()] = c
	}
	for n := 1; n <= want; n++ {
		if err := u.one(ctx, s, n, present[n]); err != nil {
			return fmt.Errorf("services.%s: %w", s.Name, err)
		}
	}
	return nil
}

func (u *up) one(ctx context.Context, s *types.ServiceConfig, n int, c *container) error {
	name := containerName(u.project, s, n)
	sum := hash(u.args[s.Name])
	if c != nil && !u.keep && (u.recreate || c.Config.Labels[labelHash] != sum) {
		if err := u.remove(ctx, c); err != nil {
			return err
		}
		c = nil
	}
	if c == nil {
		if err := u.create(ctx, s, n, name, sum); err != nil {
			return err
		}
	}
	switch {
	case !u.start:
		return nil
	case c != nil && c.State.Running:
		u.told("Container", name, "Running")
		return nil
	}
	if _, err := u.output(ctx, "start", name); err != nil {
		return err
	}
	u.told("Container", name, "Started")
	return nil
}

func (u *up) create(ctx context.Context, s *types.ServiceConfig, n int, name, sum string) error {
	args := []string{"create", "--quiet", "--name=" + name}
	for _, l := range [][2]string{
		{labelProject, u.project.Name}, {labelService, s.Name}, {labelNumber, strconv.Itoa(n)}, {labelHash, sum},
		{labelDir, u.project.WorkingDir}, {labelFiles, commaList(u.project.ComposeFiles)},
	} {
		args = append(args, "--label="+l[0]+"="+l[1])
	}
	if pull := pullPolicy(u.pull, s.PullPolicy); pull != "" {
		args = append(args, "--pull="+pull)
	}
	if _, err := u.output(ctx, append(args, u.args[s.Name]...)...); err != nil {
		return err
	}
	u.told("Container", name, "Created")
	return nil
}

// pullPolicy joins the flag and the key.
func pullPolicy(flag, key string) string {
	switch {
	case flag != "":
		return flag
	case key == types.PullPolicyIfNotPresent:
		return types.PullPolicyMissing
	case key == types.PullPolicyBuild:
		return types.PullPolicyNever
	}
	return key
}
