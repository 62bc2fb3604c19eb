package runtime

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// environ is a process's environment as other runtimes give it: each variable
// once, with the last of its values, and HOME from the container's /etc/passwd
// if it is not set, or empty. find opens (O_PATH) a file of the container.
func environ(proc *specs.Process, find func(name string) (*os.File, error)) []string {
	var env []string
	seen := map[string]bool{}
	hasHome := false
	for _, kv := range slices.Backward(proc.Env) {
		key, value, _ := strings.Cut(kv, "=")
		if seen[key] {
			continue
		}
		seen[key] = true
		if key == "HOME" {
			if value == "" {
				continue
			}
			hasHome = true
		}
		env = append(env, kv)
	}
	slices.Reverse(env)
	if !hasHome {
		env = append(env, "HOME="+homeOf(proc.User.UID, find))
	}
	return env
}

// homeOf is the home directory of a user by passwd(5); "/" if there is none.
func homeOf(uid uint32, find func(name string) (*os.File, error)) string {
	const none = "/"
	f, err := find("/etc/passwd")
	if err != nil {
		return none
	}
	defer f.Close()
	text, err := reopenRegular(f)
	if err != nil {
		return none
	}
	defer text.Close()
	const most = 8 << 20 // of a file that a stranger has written
	lines := bufio.NewScanner(io.LimitReader(text, most))
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) < 6 || f[5] == "" {
			continue
		}
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil && uint32(id) == uid && !hasNUL(f[5]) {
			return f[5]
		}
	}
	return none
}

// reopenRegular opens for reading what f (O_PATH) holds, if it is a regular
// file: to open anything else can have effects, or wait.
func reopenRegular(f *os.File) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// setProcess takes the process to start, with its whole environment.
func (p *planner) setProcess(proc *specs.Process, find func(name string) (*os.File, error)) {
	full := *proc
	full.Env = environ(proc, find)
	p.run = &full
}
