package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/spec"
)

// immutable is the seed's rule of capabilities and Docker's of the rest.
const immutable = "You cannot modify the capabilities of an already running container"

func newUpdate(a *app) *cobra.Command {
	var add, drop, security []string
	var privileged bool
	var changes []func(*spec.Options)
	cmd := &cobra.Command{
		Use:   "update [flags] CONTAINER [CONTAINER...]",
		Short: "Change limits of resources and the restart policy",
		Long: `Change limits of resources, at once if the container runs, and the restart
policy. Privileges are fixed when a container is created: no flag changes them
later.`,
		Example: `  brig update -m 512m --cpus 2 web
  brig update --restart on-failure:3 web
  brig update --cap-add NET_ADMIN web   # refused: make a new container`,
		Args: minArgs(1),
	}
	f := cmd.Flags()
	f.SortFlags = false
	change := func(c func(*spec.Options)) { changes = append(changes, c) }
	parsed(f, "memory", "m", "bytes", "limit of memory, as 512m", size("--memory"), func(v int64) { change(func(o *spec.Options) { o.Memory = v }) })
	parsed(f, "memory-swap", "", "bytes", "limit of memory and swap together; -1 for no limit of swap", spec.ParseMemorySwap,
		func(v int64) { change(func(o *spec.Options) { o.MemorySwap = v }) })
	parsed(f, "memory-reservation", "", "bytes", "soft limit of memory", size("--memory-reservation"),
		func(v int64) { change(func(o *spec.Options) { o.MemoryReservation = v }) })
	parsed(f, "cpus", "", "number", "number of CPUs, as 1.5", spec.ParseCPUs, func(v int64) { change(func(o *spec.Options) { o.NanoCPUs = v }) })
	parsed(f, "cpu-shares", "c", "weight", "CPU weight against other containers", spec.ParseCPUShares, func(v int64) { change(func(o *spec.Options) { o.CPUShares = v }) })
	for name, to := range map[string]func(*spec.Options) *int64{
		"cpu-period": func(o *spec.Options) *int64 { return &o.CPUPeriod }, "cpu-quota": func(o *spec.Options) *int64 { return &o.CPUQuota },
		"cpu-rt-period": func(o *spec.Options) *int64 { return &o.CPURTPeriod }, "cpu-rt-runtime": func(o *spec.Options) *int64 { return &o.CPURTRuntime },
	} {
		parsed(f, name, "", "microseconds", "as of brig run", func(v string) (int64, error) { return spec.ParseMicroseconds("--"+name, v) },
			func(v int64) { change(func(o *spec.Options) { *to(o) = v }) })
	}
	for name, to := range map[string]func(*spec.Options) *string{
		"cpuset-cpus": func(o *spec.Options) *string { return &o.CPUSetCPUs }, "cpuset-mems": func(o *spec.Options) *string { return &o.CPUSetMems },
	} {
		parsed(f, name, "", "list", "CPUs or memory nodes that may be used, as 0-2,4", func(v string) (string, error) { return spec.ParseCPUSet("--"+name, v) },
			func(v string) { change(func(o *spec.Options) { *to(o) = v }) })
	}
	parsed(f, "blkio-weight", "", "weight", "weight of block I/O, 10 to 1000", spec.ParseBlkioWeight, func(v uint16) { change(func(o *spec.Options) { o.BlkioWeight = v }) })
	parsed(f, "pids-limit", "", "number", "limit of processes; -1 for none", spec.ParsePidsLimit, func(v int64) { change(func(o *spec.Options) { o.PidsLimit = v }) })
	parsed(f, "restart", "", "policy", "no, on-failure[:N], always or unless-stopped", spec.ParseRestart,
		func(v spec.RestartPolicy) { change(func(o *spec.Options) { o.Restart = v }) })
	f.StringArrayVar(&add, "cap-add", nil, "refused")
	f.StringArrayVar(&drop, "cap-drop", nil, "refused")
	f.StringArrayVar(&security, "security-opt", nil, "refused")
	f.BoolVar(&privileged, "privileged", false, "refused")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, n := range args {
			if _, err := a.container(n); err != nil {
				return err
			}
		}
		switch {
		case len(add)+len(drop) > 0 || privileged:
			return fmt.Errorf("%s; create another one: brig run with --cap-add and --cap-drop", immutable)
		case len(security) > 0:
			return errors.New("the seccomp profile of an already running container cannot be modified; create another one: brig run --security-opt seccomp=FILE")
		case len(changes) == 0:
			return errors.New("you must provide one or more flags when using this command")
		}
		return a.update(args, changes)
	}
	return cmd
}

func (a *app) update(names []string, changes []func(*spec.Options)) error {
	return a.forEach(names, func(name string) error {
		c, err := a.container(name)
		if err != nil {
			return err
		}
		warnings, err := c.Update(func(o *spec.Options) {
			for _, change := range changes {
				change(o)
			}
		})
		a.warn(warnings)
		return err
	})
}
