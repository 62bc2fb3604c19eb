// Package build has images built by a builder that is installed, BuildKit or
// buildah, and takes the result into the image store.
//
// It owns what is handed over: the context, the base images that only Brig's
// store has, the flags in the builder's words. It does not know what a Dockerfile's
// instructions mean, but for the names of images in it, and builds nothing itself.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/image"
)

// Options say what is built, in the words of docker build.
type Options struct {
	Context  string // a directory, or "-" for standard input
	File     string // Dockerfile; "" is that of the context, "-" standard input
	Tags     []string
	Args     []string // NAME=VALUE, or NAME for the variable of the environment
	Labels   []string
	Secrets  []string
	AddHosts []string
	Target   string
	Platform string
	Network  string
	NoCache  bool
	Pull     bool // also base images that are here
	Quiet    bool
	Builder  string // Buildah or BuildKit; "" for whichever there is
	// Cache is a directory for what the builder keeps between builds.
	Cache string
	Stdin io.Reader
	// Progress gets what the builder prints.
	Progress io.Writer
}

// The builders.
const (
	Buildah  = "buildah"
	BuildKit = "buildkit"
)

// builder is a program that builds.
type builder interface {
	// build makes an archive of the image, which image.Store.Load reads.
	build(ctx context.Context, j *job) (archive string, err error)
}

// job is a build under way.
type job struct {
	Options
	store *image.Store
	dir   string // temporary
	file  string // path of the Dockerfile
	bases []base
}

// base is an image that the Dockerfile names and the store has.
type base struct {
	name string
	*image.Image
}

// FailedError says that the builder failed; it has told why.
type FailedError struct {
	Builder string
	Err     error
}

func (e *FailedError) Error() string { return fmt.Sprintf("build: %s failed: %s", e.Builder, e.Err) }
func (e *FailedError) Unwrap() error { return e.Err }

// Run builds an image and returns its ID in the store.
func Run(ctx context.Context, store *image.Store, o Options) (id string, err error) {
	for _, t := range o.Tags {
		ref, err := image.ParseReference(t)
		if err == nil && ref.Digest != "" {
			err = fmt.Errorf("invalid image reference %q: a digest follows from the content, leave it out", t)
		}
		if err != nil {
			return "", fmt.Errorf("--tag: %w", err)
		}
	}
	b, err := find(o.Builder)
	if err != nil {
		return "", err
	}
	dir, err := workDir(o.Cache)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	defer os.RemoveAll(dir.Name())
	j := &job{Options: o, store: store, dir: dir.Name()}
	if err := j.prepare(ctx); err != nil {
		return "", err
	}
	archive, err := b.build(ctx, j)
	if err != nil {
		return "", err
	}
	return j.load(ctx, archive)
}

// workDir makes a directory for one build, locked as long as it is open, and
// removes those of builds that were killed.
func workDir(cache string) (*os.File, error) {
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	const prefix = "job-"
	lock := func(path string) (*os.File, error) {
		f, err := os.Open(path)
		if err == nil {
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
				f.Close()
			}
		}
		return f, err
	}
	old, _ := filepath.Glob(filepath.Join(cache, prefix+"*"))
	for _, path := range old {
		fi, err := os.Stat(path)
		if err != nil || time.Since(fi.ModTime()) < time.Minute { // perhaps not locked yet
			continue
		}
		if f, err := lock(path); err == nil {
			os.RemoveAll(path)
			f.Close()
		}
	}
	path, err := os.MkdirTemp(cache, prefix)
	if err != nil {
		return nil, err
	}
	return lock(path)
}

// find chooses the builder.
func find(want string) (builder, error) {
	buildah, aerr := exec.LookPath("buildah")
	buildctl, kerr := exec.LookPath("buildctl")
	address, running := buildkitd()
	switch {
	case want == Buildah && aerr != nil:
		return nil, errors.New("--builder buildah: there is none; install it: apt install buildah")
	case want == BuildKit && kerr != nil:
		return nil, errors.New("--builder buildkit: there is no buildctl in the PATH; it comes with BuildKit")
	case want == BuildKit && !running:
		return nil, fmt.Errorf("--builder buildkit: no buildkitd listens at %s; start it, or name another in BUILDKIT_HOST", address)
	case want == BuildKit, want == "" && kerr == nil && running:
		return &buildkitBuilder{buildctl, address}, nil
	case want == Buildah, want == "" && aerr == nil:
		return &buildahBuilder{program: buildah}, nil
	case want == "" && kerr == nil:
		return nil, fmt.Errorf("brig build needs a builder: buildctl is here, but no buildkitd listens at %s; start it, or install buildah: apt install buildah", address)
	case want == "":
		return nil, errors.New("brig build needs a builder, and there is none; install buildah (apt install buildah), or BuildKit's buildctl and buildkitd")
	}
	return nil, fmt.Errorf("--builder %q: use buildah or buildkit", want)
}

// buildkitd is the address of BuildKit's daemon, and whether something is there.
func buildkitd() (string, bool) {
	address := os.Getenv("BUILDKIT_HOST")
	if address == "" {
		address = "unix:///run/buildkit/buildkitd.sock"
	}
	path, local := strings.CutPrefix(address, "unix://")
	if !local {
		return address, true
	}
	_, err := os.Stat(path)
	return address, err == nil
}

// prepare finds the context and the Dockerfile, and the base images of it that
// the store has.
func (j *job) prepare(ctx context.Context) error {
	if err := j.openContext(ctx); err != nil {
		return err
	}
	if err := j.findFile(); err != nil {
		return err
	}
	f, err := os.Open(j.file)
	if err != nil {
		return err
	}
	defer f.Close()
	if j.Pull {
		return nil
	}
	var platform *v1.Platform
	if j.Platform != "" {
		os, rest, _ := strings.Cut(j.Platform, "/")
		arch, variant, _ := strings.Cut(rest, "/")
		platform = &v1.Platform{OS: os, Architecture: arch, Variant: variant}
	}
	names, err := Images(io.LimitReader(f, maxDockerfile), j.arg)
	if err != nil {
		return fmt.Errorf("%s: %w", j.file, err)
	}
	for _, name := range names {
		if i, err := j.store.Resolve(name, platform); err == nil {
			j.bases = append(j.bases, base{name, i})
		}
	}
	return nil
}

// maxDockerfile is far above any that people write.
const maxDockerfile = 16 << 20

// arg is the value of a --build-arg.
func (j *job) arg(name string) (string, bool) {
	for _, a := range slices.Backward(j.Args) {
		k, v, valued := strings.Cut(a, "=")
		if k == name && valued {
			return v, true
		}
		if k == name {
			return os.LookupEnv(name)
		}
	}
	return "", false
}

// load takes the archive into the store and gives the image its names.
func (j *job) load(ctx context.Context, archive string) (string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer f.Close()
	loaded, err := j.store.Load(ctx, f, image.LoadOptions{})
	if err != nil {
		return "", fmt.Errorf("take over what was built: %w", err)
	}
	if len(loaded) != 1 {
		return "", fmt.Errorf("take over what was built: %d images came, one was expected; build for one platform at a time", len(loaded))
	}
	for _, t := range j.Tags {
		if err := j.store.Tag(loaded[0].ID, t); err != nil {
			return "", err
		}
	}
	return loaded[0].ID, nil
}

// save writes an image of the store to an archive in the temporary directory.
func (j *job) save(ctx context.Context, b base, name string, o image.SaveOptions) (string, error) {
	path := filepath.Join(j.dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	err = j.store.Save(ctx, f, []string{b.name}, o)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("hand over the base image %s: %w", b.name, err)
	}
	return path, nil
}

// run runs the builder; what it prints is progress.
func (j *job) run(ctx context.Context, env []string, attr *syscall.SysProcAttr, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.SysProcAttr = append(os.Environ(), env...), attr
	var said tail
	cmd.Stdout, cmd.Stderr = j.Progress, j.Progress
	if j.Quiet {
		cmd.Stdout, cmd.Stderr = &said, &said
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if text := said.String(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return &FailedError{filepath.Base(program), err}
	}
	return nil
}

// tail keeps the end of what a quiet builder prints, for its error.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	if len(t.b) > 4096 {
		t.b = t.b[len(t.b)-2048:]
	}
	return len(b), nil
}

// String is the last line.
func (t *tail) String() string {
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return image.Printable(lines[len(lines)-1], 500)
}
