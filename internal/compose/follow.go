package compose

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"
)

// attached says how up ends that shows the output.
type attached struct {
	since    time.Time
	abort    bool
	exitFrom string
	timeout  *int
}

// follow shows the output of a project's containers until all have ended, or one
// has, or the user ends it; then it stops all.
func (a *app) follow(ctx context.Context, p *types.Project, o attached) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	all, err := a.containers(ctx, p.Name)
	if err != nil {
		return err
	}
	var list []*container
	for _, c := range all {
		if s, ok := p.Services[c.service()]; ok && (s.Attach == nil || *s.Attach) {
			list = append(list, c)
		}
	}
	ended := a.showLogs(ctx, list, []string{"-f", "--since", o.since.Format(time.RFC3339Nano)}, true)
	for n := 0; n < len(list); {
		select {
		case c := <-ended:
			n++
			code, err := a.output(ctx, "wait", c.ID)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.Err, "%s exited with code %s", c.name(), code)
			if !o.abort && n < len(list) {
				continue
			}
			if o.abort {
				if err := a.stopAll(ctx, nil, o.timeout); err != nil {
					return err
				}
			}
			return a.exitFrom(ctx, p, o.exitFrom)
		case <-signals:
			fmt.Fprintln(a.Err, "stopping; once more to kill")
			stopped := make(chan error, 1)
			go func() { stopped <- a.stopAll(ctx, nil, o.timeout) }()
			select {
			case err := <-stopped:
				if err == nil {
					err = &ExitError{Code: 130}
				}
				return err
			case <-signals:
				now := 0
				a.stopAll(ctx, nil, &now)
				return &ExitError{Code: 130}
			}
		}
	}
	return nil
}

// exitFrom is the exit code of a service's first container.
func (a *app) exitFrom(ctx context.Context, p *types.Project, service string) error {
	if service == "" {
		return nil
	}
	s, err := p.GetService(service)
	if err != nil {
		return fmt.Errorf("--exit-code-from: %w", err)
	}
	list, err := a.inspect(ctx, containerName(p, &s, 1))
	if err != nil || len(list) == 0 || list[0].State.ExitCode == 0 {
		return err
	}
	return &ExitError{Code: list[0].State.ExitCode}
}

func (a *app) logsCommand() *cobra.Command {
	var follow, times, noPrefix bool
	var tail, since, until string
	cmd := &cobra.Command{
		Use:     "logs [flags] [SERVICE...]",
		Short:   "Show the output of containers",
		Example: `  brig compose logs -f --tail 10 web`,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, list, err := a.of(cmd.Context(), args)
			if err != nil {
				return err
			}
			flags := logArgs(tail, since, until, times)
			if follow {
				flags = append(flags, "-f")
			}
			ended := a.showLogs(cmd.Context(), list, flags, !noPrefix)
			for range list {
				<-ended
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on until the containers end")
	f.BoolVarP(&times, "timestamps", "t", false, "with times")
	f.BoolVar(&noPrefix, "no-log-prefix", false, "without the containers' names")
	f.StringVarP(&tail, "tail", "n", "", "last lines only")
	f.StringVar(&since, "since", "", "from a time on")
	f.StringVar(&until, "until", "", "up to a time")
	return cmd
}

// showLogs shows what containers print, each line behind the container's name, and
// tells of each whose output has ended.
func (a *app) showLogs(ctx context.Context, list []*container, flags []string, prefix bool) <-chan *container {
	ended := make(chan *container, len(list))
	width := 0
	for _, c := range list {
		width = max(width, len(c.name()))
	}
	for _, c := range list {
		head := ""
		if prefix {
			head = pad(c.name(), width) + "  | "
		}
		go func() {
			a.showLog(ctx, c, flags, head)
			ended <- c
		}()
	}
	return ended
}

func (a *app) showLog(ctx context.Context, c *container, flags []string, head string) {
	cmd := a.command(ctx, append(append([]string{"logs"}, flags...), c.ID))
	// Ctrl-C is for this process, which then stops the containers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return
	}
	errs, err := cmd.StderrPipe()
	if err != nil || cmd.Start() != nil {
		return
	}
	var done sync.WaitGroup
	for _, s := range []struct {
		from io.Reader
		to   io.Writer
	}{{out, a.Out}, {errs, a.Err}} {
		done.Go(func() { a.lines(s.from, s.to, head) })
	}
	done.Wait()
	cmd.Wait()
}

// lines copies whole lines, so that those of two containers do not mix.
func (a *app) lines(from io.Reader, to io.Writer, head string) {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			if line[len(line)-1] != '\n' {
				line += "\n"
			}
			a.mu.Lock()
			io.WriteString(to, head+line)
			a.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}
