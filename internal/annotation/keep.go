package annotation

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/record"
)

// keeper keeps what is recorded of one container.
type keeper struct {
	subject *Subject
	dir     *os.File // for the policy; nil without
	name    string   // of the policy; "" before the first one is written
	before  *policy.Policy
	last    *record.Recording // of which a policy was written
}

// keep is called with what was recorded by now, and at the end.
func (k *keeper) keep(dir string, rec *record.Recording, ended bool) {
	if k.subject == nil {
		s, err := readSubject(dir)
		if err != nil {
			return // nobody knows the container any more
		}
		k.subject = s
	}
	// Who never executed a program has shown nothing that it needs.
	if k.dir != nil && len(rec.Syscalls) > 0 && (ended || k.grew(rec)) {
		if err := k.writePolicy(rec, ended); err != nil {
			rec.Notes = append(rec.Notes, fmt.Sprintf("the policy could not be written: %v", err))
		}
		k.last = rec
	}
	if ended {
		k.tell(rec)
	}
}

// grew reports whether there is more for a policy than there was.
func (k *keeper) grew(rec *record.Recording) bool {
	if k.last == nil {
		return true
	}
	news := rec.Since(k.last)
	return len(news.Syscalls)+len(news.Denials) > 0 || len(rec.Capabilities) != len(k.last.Capabilities)
}

// runID names a run of a container: one that is started again has its ID again.
func (k *keeper) runID(rec *record.Recording) string {
	return k.subject.ID + "@" + rec.Started.UTC().Format("20060102T150405.000")
}

// writePolicy writes what the container has used, and has used in runs before.
func (k *keeper) writePolicy(rec *record.Recording, ended bool) error {
	if k.name == "" {
		k.choose()
		if k.before == nil {
			k.makeRoom()
		}
	}
	p, err := k.policyOf(rec, ended)
	if err == nil && k.before != nil {
		p, err = policy.Merge(k.before, p)
	}
	if err != nil {
		return err
	}
	if n := len(p.Runs); n > maxRuns && p.Runs[n-1].New == 0 {
		return nil
	}
	b, err := p.Encode()
	if err != nil {
		return err
	}
	return k.replace(b)
}

// maxRuns bounds the runs in the policy of a container that is started again and
// again: beyond, one that brought nothing new is left out.
const maxRuns = 100

func (k *keeper) policyOf(rec *record.Recording, ended bool) (*policy.Policy, error) {
	s := k.subject
	under := "unconfined"
	if s.Seccomp != nil {
		under = "the container's own profile"
	}
	p, err := policy.FromRecording(rec, policy.Run{ID: k.runID(rec), Purpose: policy.PurposeLearn, Under: under})
	if err != nil {
		return nil, err
	}
	p.Command, p.User = s.Command, s.User
	if s.Image != "" {
		p.Image = &policy.Image{Reference: s.Image}
	}
	if !ended {
		p.Notes = append(p.Notes, "the container "+s.ID+" still ran when this was written")
	}
	return p, nil
}

// choose decides the policy's file: the one that was asked for, unless it is there
// and another container's, then one with the container's ID in its name. An earlier
// policy of the container itself is gone on with: Docker and podman start a
// container again under its ID.
func (k *keeper) choose() {
	k.name = k.subject.Policy
	own := k.subject.ID + suffix
	have, err := k.read(k.name)
	if err != nil && !os.IsNotExist(err) || err == nil && !k.ours(have) {
		if k.name != own {
			k.name = strings.TrimSuffix(k.name, suffix) + "." + own
			have, err = k.read(k.name)
		}
	}
	if err == nil && k.ours(have) {
		have.Notes = slices.DeleteFunc(have.Notes, func(n string) bool { return strings.HasSuffix(n, "still ran when this was written") })
		k.before = have
	}
}

// ours reports whether all runs of a policy are of this container and image.
func (k *keeper) ours(p *policy.Policy) bool {
	image := ""
	if p.Image != nil {
		image = p.Image.Reference
	}
	return image == k.subject.Image && !slices.ContainsFunc(p.Runs, func(r policy.Run) bool { return !strings.HasPrefix(r.ID, k.subject.ID+"@") })
}

func (k *keeper) read(name string) (*policy.Policy, error) {
	fd, err := unix.Openat(int(k.dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	return policy.Load(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// maxPolicies bounds the policies in a directory: where containers come and go, each
// leaves one, which brig collect has long joined with those of its image.
const maxPolicies = 4096

// makeRoom removes the oldest policies, so that there is room for one more.
func (k *keeper) makeRoom() {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", k.dir.Fd()))
	if err != nil || len(entries) < maxPolicies {
		return
	}
	var old []os.FileInfo
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && strings.HasSuffix(fi.Name(), suffix) {
			old = append(old, fi)
		}
	}
	slices.SortFunc(old, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for len(old) >= maxPolicies {
		unix.Unlinkat(int(k.dir.Fd()), old[0].Name(), 0)
		old = old[1:]
	}
}

// replace writes the policy's file. A reader sees the old or the new one.
func (k *keeper) replace(b []byte) error {
	dir, tmp := int(k.dir.Fd()), "."+k.name
	unix.Unlinkat(dir, tmp, 0)
	fd, err := unix.Openat(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: tmp, Err: err}
	}
	f := os.NewFile(uintptr(fd), tmp)
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	f.Close()
	if err == nil {
		err = unix.Renameat(dir, tmp, dir, k.name)
	}
	if err != nil {
		unix.Unlinkat(dir, tmp, 0)
	}
	return err
}
