package cli

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/seccomp"
)

// convertOptions are the flags of the commands that write profiles.
type convertOptions struct {
	target           targetFlags
	from, to, output string
}

// register adds the flags; to lists the forms to choose from, the first by
// default.
func (o *convertOptions) register(cmd *cobra.Command, to []string) {
	o.target.register(cmd)
	f := cmd.Flags()
	f.StringVar(&o.to, "to", to[0], "form to write: "+orList(to))
	f.StringVarP(&o.output, "output", "o", "", "write to this file, not to standard output")
	cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(to, cobra.ShellCompDirectiveNoFileComp))
}

// write writes the profile.
func (o *convertOptions) write(a *app, p *seccomp.Profile, to []string) error {
	if err := checkForm("--to", o.to, to); err != nil {
		return err
	}
	var t seccomp.Target
	if o.to == seccomp.FormOCI || o.to == seccomp.FormSystemd {
		var err error
		if t, err = o.target.target(); err != nil {
			return err
		}
	}
	data, err := p.Format(o.to, t)
	if err != nil {
		return err
	}
	return a.writeResult(o.output, false, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// checkForm refuses a value that a flag does not take.
func checkForm(flag, form string, forms []string) error {
	if slices.Contains(forms, form) {
		return nil
	}
	return fmt.Errorf("%s %q: use %s", flag, form, orList(forms))
}

const targetHelp = `
The forms oci and systemd hold for one target, which --arch, --cap, --cap-add,
--cap-drop and --kernel describe; by default this machine and the capabilities
of a container.`

func newSeccompFromJSON(a *app) *cobra.Command {
	o := &convertOptions{}
	to := []string{seccomp.FormText, seccomp.FormSystemd, seccomp.FormDocker, seccomp.FormOCI}
	cmd := &cobra.Command{
		Use:   "from-json [flags] FILE",
		Short: "Write a profile that is JSON in another form",
		Long: `Write a profile that is JSON in a short form for people to read and edit, as
SystemCallFilter= and the like of a systemd unit, or as the other kind of JSON.
FILE is Docker's profile, OCI's "linux.seccomp" or a config.json with it, "-" for
standard input, or "default" for the profile that containers get. What a form
cannot say is an error: systemd has no conditions on arguments.
` + targetHelp,
		Example: `  brig seccomp from-json default > profile.seccomp
  brig seccomp from-json --to systemd profile.json
  brig seccomp from-json --to oci --arch arm64 --cap NET_ADMIN profile.json`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, form, err := loadForm(args[0], "")
			if err != nil {
				return err
			}
			if form != seccomp.FormDocker && form != seccomp.FormOCI {
				return fmt.Errorf("%s is not JSON, but has the form %s; see 'brig seccomp to-json --help'", args[0], form)
			}
			return o.write(a, p, to)
		},
		ValidArgsFunction: completeProfiles,
	}
	o.register(cmd, to)
	return cmd
}

func newSeccompToJSON(a *app) *cobra.Command {
	o := &convertOptions{}
	to := []string{seccomp.FormDocker, seccomp.FormOCI}
	cmd := &cobra.Command{
		Use:   "to-json [flags] FILE",
		Short: "Write a profile as JSON",
		Long: `Write a profile as Docker's JSON, or as OCI's "linux.seccomp". FILE is in any form:
Brig's text, a systemd unit with SystemCallFilter=, or JSON; "-" is standard input
and "default" the profile that containers get.
` + targetHelp,
		Example: `  brig seccomp to-json -o profile.json profile.seccomp
  systemctl cat nginx | brig seccomp to-json -
  brig seccomp to-json --to oci default`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, _, err := loadForm(args[0], o.from)
			if err != nil {
				return err
			}
			return o.write(a, p, to)
		},
		ValidArgsFunction: completeProfiles,
	}
	o.register(cmd, to)
	cmd.Flags().StringVar(&o.from, "from", "", "form of FILE, if it is not to be found out: "+orList(seccomp.Forms()))
	cmd.RegisterFlagCompletionFunc("from", cobra.FixedCompletions(seccomp.Forms(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// loadForm reads the profile that an argument names. An empty form is found
// out.
func loadForm(name, form string) (*seccomp.Profile, string, error) {
	switch {
	case name == defaultProfile:
		return seccomp.Default(), seccomp.FormDocker, nil
	case form == "":
		return seccomp.LoadAny(name)
	}
	if err := checkForm("--from", form, seccomp.Forms()); err != nil {
		return nil, "", err
	}
	p, err := seccomp.LoadForm(form, name)
	return p, form, err
}
