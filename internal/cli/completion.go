package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/engine"
)

// completing says whether the shell asks what could follow on the line.
func completing(args []string) bool {
	return len(args) > 0 && strings.HasPrefix(args[0], "__complete")
}

// addCompletions tells the shell about the names of containers, images and
// capabilities. It is done only when the shell asks.
func addCompletions(a *app, root *cobra.Command) {
	for _, c := range root.Commands() {
		for _, sub := range c.Commands() {
			switch c.Name() + " " + sub.Name() {
			case "volume rm", "volume inspect":
				sub.ValidArgsFunction = a.completeVolumes
			case "image rm", "image inspect", "image push", "image tag", "image save", "image history":
				sub.ValidArgsFunction = a.completeImages
			}
		}
		switch c.Name() {
		case "start":
			c.ValidArgsFunction = a.completeContainers(engine.StatusCreated, engine.StatusExited)
		case "unpause":
			c.ValidArgsFunction = a.completeContainers(engine.StatusPaused)
		case "stop", "kill":
			c.ValidArgsFunction = a.completeContainers(engine.StatusRunning, engine.StatusPaused, engine.StatusRestarting)
		case "exec", "attach", "top", "pause":
			c.ValidArgsFunction = a.completeContainers(engine.StatusRunning)
		case "rm", "logs", "wait", "update", "restart", "rename", "stats", "diff", "commit", "export":
			c.ValidArgsFunction = a.completeContainers()
		case "run", "create", "push", "rmi", "tag", "save", "history":
			c.ValidArgsFunction = a.completeImages
		case "port":
			c.ValidArgsFunction = a.completeContainers(engine.StatusRunning)
		case "network":
			for _, sub := range c.Commands() {
				switch sub.Name() {
				case "inspect", "rm", "connect", "disconnect":
					sub.ValidArgsFunction = a.completeNetworks
				}
			}
		case "capabilities":
			c.ValidArgsFunction = completeCapabilities
		}
		for _, flag := range []string{"cap-add", "cap-drop"} {
			if c.Flags().Lookup(flag) != nil {
				c.RegisterFlagCompletionFunc(flag, completeCapabilities)
			}
		}
		if c.Flags().Lookup("network") != nil {
			c.RegisterFlagCompletionFunc("network", a.completeNetworkModes)
		}
		for flag, values := range map[string][]string{
			"pull": {"missing", "always", "never"}, "cgroupns": {"private", "host"},
			"restart": {"no", "on-failure", "always", "unless-stopped"}, "log-driver": {"json-file", "local", "journald", "none"},
			"ipc": {"private", "host"}, "pid": {"host"}, "uts": {"host"},
			"security-opt": {"no-new-privileges", "seccomp=", "seccomp=builtin", "seccomp=unconfined", "systempaths=unconfined"},
		} {
			if c.Flags().Lookup(flag) != nil {
				c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
			}
		}
	}
}

// completeNetworkModes gives what --network can be.
func (a *app) completeNetworkModes(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, _ := a.completeNetworks(c, nil, typed)
	return append([]string{"bridge", "none", "private", "host"}, names...), cobra.ShellCompDirectiveNoFileComp
}

// completeContainers gives the names of containers in one of the states, or of
// all.
func (a *app) completeContainers(states ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		e, err := a.engine()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, _ := e.List()
		var names []string
		for _, c := range list {
			s, err := c.State()
			if err != nil {
				continue
			}
			if len(states) == 0 || slices.Contains(states, s.Status) {
				names = append(names, c.Name+"\t"+c.Image)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeImages gives the names of images for the first argument; what follows
// is the container's own business.
func (a *app) completeImages(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && (c.Name() == "run" || c.Name() == "create") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	e, err := a.engine()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	images, err := e.Images()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := images.List()
	var names []string
	for _, i := range list {
		names = append(names, i.RepoTags...)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeVolumes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	s, err := a.volumes()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := s.List()
	var names []string
	for _, v := range list {
		names = append(names, v.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func completeCapabilities(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names := []string{"ALL\tevery capability"}
	for _, c := range capability.Kernel().List() {
		names = append(names, c.Short()+"\t"+c.Allows())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
