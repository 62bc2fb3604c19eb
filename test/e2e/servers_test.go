package e2e

import (
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// server is a real server, how to ask it something, and what it needs.
type server struct {
	name    string
	flags   []string
	command []string
	ask     []string // run in the container
	want    string   // in the answer
	needs   []string // all capabilities that it cannot do without
}

func servers() []server {
	return []server{
		{
			name: "nginx", flags: []string{"--stop-signal", "QUIT"}, command: []string{"nginx", "-g", "daemon off; error_log stderr;"},
			ask: []string{"curl", "-sS", "--max-time", "5", "http://127.0.0.1/"}, want: "Welcome to nginx",
			needs: []string{"CHOWN", "SETGID", "SETUID", "NET_BIND_SERVICE"},
		},
		{
			name: "redis as its user", flags: []string{"-u", "redis"}, command: []string{"redis-server", "--dir", "/tmp"},
			ask: []string{"redis-cli", "set", "key", "value"}, want: "OK",
		},
		{
			name:    "redis from root",
			command: []string{"setpriv", "--reuid=redis", "--regid=redis", "--init-groups", "redis-server", "--dir", "/tmp"},
			ask:     []string{"redis-cli", "ping"}, want: "PONG",
			needs: []string{"SETGID", "SETUID"},
		},
		{
			name: "postgres", flags: []string{"-u", "postgres", "--stop-signal", "INT"},
			command: []string{"sh", "-c", "cd /usr/lib/postgresql/*/bin && ./initdb -D /tmp/db >/dev/null && exec ./postgres -D /tmp/db -k /tmp"},
			ask:     []string{"psql", "-h", "127.0.0.1", "-Atc", "select 6 * 7"}, want: "42",
		},
		{
			name: "python", flags: []string{"-u", "nobody", "-w", "/srv", "--stop-signal", "INT"}, command: []string{"python3", "-m", "http.server", "80"},
			ask: []string{"curl", "-sS", "--max-time", "5", "http://127.0.0.1/"}, want: "Directory listing",
			needs: []string{"NET_BIND_SERVICE"},
		},
	}
}

func TestServers(t *testing.T) {
	r := store(t, "debian")
	for _, s := range servers() {
		t.Run(s.name, func(t *testing.T) {
			t.Run("default policy", func(t *testing.T) { s.answers(t, r) })
			t.Run("no more than it needs", func(t *testing.T) { s.answers(t, r, s.least("")...) })
			for _, c := range s.needs {
				t.Run("without "+c, func(t *testing.T) { s.isSilent(t, r, s.least(c)...) })
			}
		})
	}
}

// least are the flags that give the server what it needs, without one.
func (s *server) least(without string) []string {
	flags := []string{"--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/var/log",
		"--tmpfs", "/var/log/nginx", "--tmpfs", "/var/lib/nginx", "--security-opt", "no-new-privileges"}
	for _, c := range s.needs {
		if c != without {
			// For those that do not run as root; it changes nothing for root.
			flags = append(flags, "--cap-add", c, "--cap-ambient")
		}
	}
	return flags
}

// start runs the server in the background.
func (s *server) start(t *testing.T, r *harness.Root, flags []string) (id string) {
	t.Helper()
	args := append([]string{"run", "-d"}, append(append(flags, s.flags...), "debian")...)
	id = strings.TrimSpace(r.Must(t, append(args, s.command...)...))
	t.Cleanup(func() { r.Run("rm", "-f", id) })
	return id
}

// answers starts the server, asks it, and stops it in good order.
func (s *server) answers(t *testing.T, r *harness.Root, flags ...string) {
	t.Helper()
	id := s.start(t, r, flags)
	var last harness.Result
	err := harness.Eventually("the server answers", func() bool {
		last = r.Run(append([]string{"exec", id}, s.ask...)...)
		return last.Code == 0 && strings.Contains(last.Stdout, s.want)
	})
	if err != nil {
		t.Fatalf("%v: %s%s\nits log: %+v", err, last.Stdout, last.Stderr, r.Run("logs", id))
	}
	r.Must(t, "stop", "-t", "20", id)
	status := strings.TrimSpace(r.Must(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", id))
	if !strings.HasPrefix(status, "exited ") || strings.Contains(status, "137") {
		t.Errorf("after stop: %s", status)
	}
}

// isSilent starts a server that lacks something and finds that it does not
// work: it has ended, or it does not answer.
func (s *server) isSilent(t *testing.T, r *harness.Root, flags ...string) {
	t.Helper()
	id := s.start(t, r, flags)
	// It has ended with an error, or said in its log what it was refused.
	err := harness.Eventually("the server complains", func() bool {
		if status := r.Run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", id).Stdout; strings.HasPrefix(status, "exited") && strings.TrimSpace(status) != "exited 0" {
			return true
		}
		log := r.Run("logs", id)
		return strings.Contains(log.Stdout+log.Stderr, "not permitted")
	})
	if err != nil {
		t.Fatal(err)
	}
	if res := r.Run(append([]string{"exec", id}, s.ask...)...); res.Code == 0 && strings.Contains(res.Stdout, s.want) {
		t.Errorf("it works all the same: %s", res.Stdout)
	}
}
