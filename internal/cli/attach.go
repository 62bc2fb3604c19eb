package cli

import (
	"github.com/spf13/cobra"
)

func newAttach(a *app) *cobra.Command {
	var noStdin, sigProxy bool
	var keys string
	cmd := &cobra.Command{
		Use:   "attach [flags] CONTAINER",
		Short: "Attach to a running container's input and output",
		Example: `  brig attach shell
  brig attach --no-stdin web`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := parseDetachKeys(keys)
			if err != nil {
				return err
			}
			return a.attach(args[0], &session{a: a, stdin: !noStdin, sigProxy: sigProxy, detach: d})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&noStdin, "no-stdin", false, "do not attach to the input")
	f.BoolVar(&sigProxy, "sig-proxy", true, "forward signals to the container")
	f.StringVar(&keys, "detach-keys", defaultDetachKeys, "keys that leave a terminal and let the container run")
	return cmd
}

func (a *app) attach(name string, s *session) error {
	c, err := a.container(name)
	if err != nil {
		return err
	}
	streams, err := s.with(c)
	if err != nil {
		return err
	}
	m, err := c.Attach(streams)
	if err != nil {
		return err
	}
	defer m.Close()
	code, err := s.attached(m, c.ExitOf)
	return leave(a, code, err)
}
