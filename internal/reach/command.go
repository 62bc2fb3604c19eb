package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ErrRunsOthers is wrapped by the error of Command for programs that exist to
// run others: what they reach says little. Tree has all programs.
var ErrRunsOthers = errors.New("it runs other programs")

// runners are programs whose code is not what a container is for.
var runners = []string{
	"ash", "bash", "busybox", "catatonit", "chpst", "dash", "docker-entrypoint.sh", "dumb-init", "env", "gosu", "s6-svscan",
	"setpriv", "sh", "su-exec", "sudo", "supervisord", "tini", "zsh",
}

// Command finds the program that a command runs, in the directories of searchPath
// (as in $PATH) if its name has no slash. The error wraps ErrRunsOthers for
// shells, scripts and the like, and fs.ErrNotExist if there is none.
func Command(fsys fs.FS, command []string, searchPath string) (string, error) {
	if len(command) == 0 {
		return "", errors.New("there is no command")
	}
	name := command[0]
	candidates := []string{path.Clean("/" + name)}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, dir := range strings.Split(searchPath, ":") {
			candidates = append(candidates, path.Clean("/"+dir+"/"+name))
		}
	}
	for _, c := range candidates {
		head, err := firstBytes(fsys, c)
		if err != nil {
			continue
		}
		if slices.Contains(runners, path.Base(c)) || head == "#!" {
			return c, fmt.Errorf("%s: %w", c, ErrRunsOthers)
		}
		return c, nil
	}
	return "", fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// firstBytes reads two bytes of a file, through links within the tree.
func firstBytes(fsys fs.FS, name string) (string, error) {
	f, err := fsys.Open(strings.TrimPrefix(name, "/"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", fs.ErrNotExist
	}
	var b [2]byte
	n, err := f.Read(b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}
