// Package collect joins the policies that the containers of a machine leave in
// a directory into one for each image, as all replicas together need it.
//
// It owns what belongs together and in which order. It knows no containers and
// writes nothing: it returns what is to be written.
package collect

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/policy/export"
)

// Suffix ends the names of the files that are read.
const Suffix = ".policy.json"

// maxFile bounds a file in bytes; a policy has some 20 KiB.
const maxFile = 16 << 20

// Group is the policy of one image.
type Group struct {
	Image  string   // its reference; "" for a policy that names none
	Name   string   // for files and objects: lower-case letters, digits and "-"
	From   []string // the files, in the order of their runs
	Policy *policy.Policy
}

// Collect reads the policies below dir and joins those of each image. Files
// that cannot be used are left out, and each is one of the faults; err is for
// the directory itself. No link is followed out of dir.
func Collect(dir string) (groups []Group, faults []error, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("collect policies: %w", err)
	}
	defer root.Close()
	found, faults, err := load(root.FS(), dir)
	if err != nil {
		return nil, nil, fmt.Errorf("collect policies: %w", err)
	}
	groups, more := join(found)
	name(groups)
	return groups, append(faults, more...), nil
}

// State tells whether files that Collect would read have come, gone or changed: it
// is another then.
func State(dir string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("collect policies: %w", err)
	}
	defer root.Close()
	sum := sha256.New()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil && name == "." {
			return err
		}
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(name, Suffix) {
			return nil
		}
		if info, err := d.Info(); err == nil {
			inode := uint64(0) // a policy is replaced by renaming
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				inode = st.Ino
			}
			fmt.Fprintf(sum, "%q %d %d %d\n", name, info.Size(), info.ModTime().UnixNano(), inode)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("collect policies: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// loaded is a policy with the file it came from.
type loaded struct {
	file   string
	policy *policy.Policy
}

func load(tree fs.FS, dir string) (found []loaded, faults []error, err error) {
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if name == "." {
				return err
			}
			faults = append(faults, err)
			return nil
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(name, Suffix) {
			return nil
		}
		file := path.Join(dir, name)
		p, err := read(tree, name, file)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since the directory was read
		case err != nil:
			faults = append(faults, err)
		default:
			found = append(found, loaded{file, p})
		}
		return nil
	})
	return found, faults, err
}

func read(tree fs.FS, name, file string) (*policy.Policy, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return policy.Parse(file, data)
}

// join merges the policies of each image in the order of time, so that the
// result can say whether the last ones brought anything new.
func join(found []loaded) (groups []Group, faults []error) {
	slices.SortStableFunc(found, func(a, b loaded) int {
		return cmp.Or(begun(a.policy).Compare(begun(b.policy)), cmp.Compare(a.file, b.file))
	})
	place := map[string]int{}
	for _, l := range found {
		key := l.file // without an image nothing says what belongs together
		image := ""
		if l.policy.Image != nil && l.policy.Image.Reference != "" {
			image = l.policy.Image.Reference
			key = "image " + image
		}
		i, ok := place[key]
		if !ok {
			place[key] = len(groups)
			groups = append(groups, Group{Image: image, From: []string{l.file}, Policy: l.policy})
			continue
		}
		if err := groups[i].add(l); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", l.file, err))
		}
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Image, b.Image), cmp.Compare(a.From[0], b.From[0]))
	})
	return groups, faults
}

// begun is when the first run of a policy began.
func begun(p *policy.Policy) (first time.Time) {
	for _, r := range p.Runs {
		if first.IsZero() || r.Started.Before(first) {
			first = r.Started
		}
	}
	return first
}

// add joins another policy of the same image. A copy of one that is there
// already adds nothing.
func (g *Group) add(l loaded) error {
	if copied(g.Policy, l.policy) {
		return nil
	}
	merged, err := policy.Merge(g.Policy, l.policy)
	if err != nil {
		return err
	}
	// Merge keeps an image that is the same to the digest; here a new digest
	// under the same name is the same program still.
	if merged.Image == nil {
		merged.Image = &policy.Image{Reference: g.Image}
	}
	g.Policy, g.From = merged, append(g.From, l.file)
	return nil
}

func copied(have, p *policy.Policy) bool {
	return len(p.Runs) > 0 && !slices.ContainsFunc(p.Runs, func(r policy.Run) bool {
		return r.Purpose == policy.PurposeLearn &&
			!slices.ContainsFunc(have.Runs, func(h policy.Run) bool { return h.ID == r.ID })
	})
}

// name gives each group a name of its own, the shortest that says what it is:
// nginx-1-27 for docker.io/library/nginx:1.27.
func name(groups []Group) {
	taken := map[string]bool{}
	for i := range groups {
		g := &groups[i]
		from := g.Image
		if from == "" {
			from = strings.TrimSuffix(path.Base(g.From[0]), Suffix)
		}
		from, _, _ = strings.Cut(from, "@")
		short := strings.TrimPrefix(strings.TrimPrefix(from, "docker.io/"), "library/")
		g.Name = export.CleanName(short)
		if taken[g.Name] {
			sum := sha256.Sum256([]byte(cmp.Or(g.Image, g.From[0])))
			g.Name = export.CleanName(hex.EncodeToString(sum[:4]) + "-" + g.Name)
		}
		taken[g.Name] = true
	}
}
