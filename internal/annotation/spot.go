package annotation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// suffix ends the names of policies, by which brig collect finds them.
const suffix = ".policy.json"

// spot is where a policy will be: a directory that is held open, so that nobody
// can put another in its place, and a name in it.
type spot struct {
	dir  *os.File
	name string
	made []string // directories that were made for it, with those above first
}

// spotPath is the path below root that an annotation asks for: ID.policy.json for
// "true" and in a directory (a path that ends in "/"), else the path itself, with
// .policy.json added if it ends otherwise.
func spotPath(root, value, id string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", fmt.Errorf("annotation %s: %q %s; want true, or a path below %s", Learn, value, why, root)
	}
	rel := value
	switch {
	case value == "true":
		rel = id
	case strings.HasPrefix(value, "/"):
		var below bool
		if rel, below = strings.CutPrefix(value, strings.TrimRight(root, "/")+"/"); !below {
			return refuse("is not below the directory for policies")
		}
	}
	if rel == "" || strings.HasSuffix(rel, "/") {
		rel += id
	}
	if !strings.HasSuffix(rel, suffix) {
		rel += suffix
	}
	for part := range strings.SplitSeq(rel, "/") {
		switch {
		case part == "..":
			return refuse("leads out of directories")
		case strings.HasPrefix(part, "."):
			return refuse("has a name that is empty or begins with a dot")
		case part == "":
			return refuse("has an empty name")
		case strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return refuse("has a control character")
		case len(part) > unix.NAME_MAX-len("."+suffix):
			return refuse("has a name that is too long")
		}
	}
	if strings.Count(rel, "/") > maxDepth {
		return refuse(fmt.Sprintf("has more than %d directories", maxDepth))
	}
	return rel, nil
}

// maxDepth bounds the directories of a path.
const maxDepth = 8

// openSpot opens the directory of a path below root, and makes what is missing.
// No link is followed below root.
func openSpot(root, value, id string) (_ *spot, err error) {
	rel, err := spotPath(root, value, id)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory for policies: %w", err)
	}
	d, err := os.Open(root)
	if err != nil {
		return nil, fmt.Errorf("open the directory for policies: %w", err)
	}
	s := &spot{dir: d, name: filepath.Base(rel)}
	defer func() {
		if err != nil {
			s.undo()
		}
	}()
	at := root
	for part := range strings.SplitSeq(filepath.Dir(rel), "/") {
		if part == "." {
			break
		}
		at = filepath.Join(at, part)
		if err := s.enter(part, at); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", Learn, err)
		}
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(s.dir.Fd()), s.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return s, nil
	case err != nil:
		return nil, &os.PathError{Op: "look at", Path: filepath.Join(at, s.name), Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("annotation %s: %s is there and no regular file", Learn, filepath.Join(at, s.name))
	}
	return s, nil
}

// enter goes one directory down.
func (s *spot) enter(part, at string) error {
	err := unix.Mkdirat(int(s.dir.Fd()), part, 0o700)
	if err == nil {
		s.made = append(s.made, at)
	} else if err != unix.EEXIST {
		return &os.PathError{Op: "mkdir", Path: at, Err: err}
	}
	fd, err := unix.Openat2(int(s.dir.Fd()), part, &unix.OpenHow{
		Flags: unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch err {
	case nil:
	case unix.ELOOP:
		return fmt.Errorf("%s is a symbolic link, which is not followed below the directory for policies", at)
	default:
		return &os.PathError{Op: "open", Path: at, Err: err}
	}
	s.dir.Close()
	s.dir = os.NewFile(uintptr(fd), at)
	return nil
}

func (s *spot) close() { s.dir.Close() }

// undo removes the directories that were made and that nobody uses.
func (s *spot) undo() {
	s.close()
	for _, dir := range slices.Backward(s.made) {
		os.Remove(dir)
	}
}
