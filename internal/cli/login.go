package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/brig-run/brig/internal/image"
)

func newLogin(a *app) *cobra.Command {
	var c image.Credentials
	var fromStdin bool
	var reg registryFlags
	cmd := &cobra.Command{
		Use:   "login [flags] [REGISTRY]",
		Short: "Log in to a registry",
		Long: `Log in to a registry, Docker Hub by default. The credentials are checked, and
kept where docker login keeps them: with the credential helper that Docker's
config.json names, or in that file.`,
		Example: `  brig login
  brig login -u me --password-stdin registry.example.com < token`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			domain, err := registryArg(args)
			if err != nil {
				return err
			}
			if fromStdin && c.Password != "" {
				return errors.New("--password and --password-stdin exclude each other")
			}
			if fromStdin && c.Username == "" {
				return errors.New("--password-stdin needs --username")
			}
			if c.Password != "" {
				fmt.Fprintln(a.err, "WARNING: a password on the command line is seen by everybody on this machine; use --password-stdin")
			}
			if err := a.askCredentials(domain, &c, fromStdin); err != nil {
				return err
			}
			where, err := image.Login(cmd.Context(), domain, c, reg.options())
			if err != nil {
				return err
			}
			if strings.HasPrefix(where, "/") {
				fmt.Fprintf(a.err, "WARNING: the password is stored unencrypted in %s; a credential helper avoids that\n", where)
			}
			fmt.Fprintln(a.out, "Login Succeeded")
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.Username, "username", "u", "", "user name")
	f.StringVarP(&c.Password, "password", "p", "", "password or token")
	f.BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	reg.add(f)
	return cmd
}

func newLogout(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "logout [REGISTRY]",
		Short:   "Log out from a registry",
		Example: "  brig logout registry.example.com",
		Args:    atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			domain, err := registryArg(args)
			if err != nil {
				return err
			}
			found, err := image.Logout(domain)
			if err != nil {
				return err
			}
			if !found {
				fmt.Fprintf(a.out, "Not logged in to %s\n", domain)
				return nil
			}
			fmt.Fprintf(a.out, "Removing login credentials for %s\n", domain)
			return nil
		},
	}
}

func atMostOne(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return argsError(c, "at most 1 argument")
	}
	return nil
}

func registryArg(args []string) (string, error) {
	if len(args) == 0 {
		return image.ParseRegistry("")
	}
	return image.ParseRegistry(args[0])
}

// askCredentials asks for what the flags have not given.
func (a *app) askCredentials(domain string, c *image.Credentials, fromStdin bool) error {
	if fromStdin {
		b, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		c.Password = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	} else if (c.Username == "" || c.Password == "") && !xterm.IsTerminal(int(a.in.Fd())) {
		return errors.New("standard input is not a terminal: give -u NAME and --password-stdin")
	}
	if c.Username == "" {
		saved := image.SavedUsername(domain)
		prompt := "Username: "
		if saved != "" {
			prompt = fmt.Sprintf("Username (%s): ", saved)
		}
		fmt.Fprint(a.out, prompt)
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil {
			return fmt.Errorf("read the user name: %w", err)
		}
		if c.Username = strings.TrimSpace(line); c.Username == "" {
			c.Username = saved
		}
		if c.Username == "" {
			return errors.New("the user name is empty")
		}
	}
	if c.Password == "" && !fromStdin {
		fmt.Fprint(a.out, "Password: ")
		b, err := xterm.ReadPassword(int(a.in.Fd()))
		fmt.Fprintln(a.out)
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		c.Password = string(b)
	}
	if c.Password == "" {
		return errors.New("the password is empty")
	}
	return nil
}
