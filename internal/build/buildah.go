package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/brig-run/brig/internal/early"
	"github.com/brig-run/brig/internal/image"
)

// buildahBuilder builds with buildah, in a store of its own: its layers are kept
// for the next build, and nobody else's are touched.
type buildahBuilder struct {
	program string
	env     []string
}

// global are the flags that come before buildah's command.
func (b *buildahBuilder) global(j *job, args ...string) []string {
	return append([]string{"--root", filepath.Join(j.Cache, "storage"), "--runroot", filepath.Join(j.dir, "run")}, args...)
}

func (b *buildahBuilder) build(ctx context.Context, j *job) (string, error) {
	if err := b.shortNames(j); err != nil {
		return "", err
	}
	if err := b.ownRuntime(j); err != nil {
		return "", err
	}
	for i, base := range j.bases {
		if err := b.handOver(ctx, j, i, base); err != nil {
			return "", err
		}
	}
	iid := filepath.Join(j.dir, "iid")
	if err := j.run(ctx, b.env, ownMounts(), b.program, b.global(j, buildahArgs(j, iid)...)...); err != nil {
		return "", err
	}
	id, err := os.ReadFile(iid)
	if err != nil {
		return "", fmt.Errorf("buildah named no image: %w", err)
	}
	archive := filepath.Join(j.dir, "image.tar")
	out, err := b.output(ctx, j, "push", "--quiet", strings.TrimSpace(string(id)), "docker-archive:"+archive)
	if err != nil {
		return "", fmt.Errorf("take what buildah built: %w: %s", err, out)
	}
	return archive, nil
}

// ownRuntime has RUN performed by Brig's own OCI runtime, unless the user has
// chosen one: it is there, and takes hosts that others do not.
func (b *buildahBuilder) ownRuntime(j *job) error {
	if os.Getenv("BUILDAH_RUNTIME") != "" {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	link := filepath.Join(j.dir, early.Link)
	if err := os.Symlink(self, link); err != nil {
		return err
	}
	b.env = append(b.env, "BUILDAH_RUNTIME="+link)
	return nil
}

// buildahArgs is the command that builds.
func buildahArgs(j *job, iid string) []string {
	args := []string{"build", "--format", "docker", "--layers", "--force-rm", "--iidfile", iid, "--file", j.file}
	if j.Pull {
		args = append(args, "--pull=always")
	} else {
		args = append(args, "--pull=false") // only what is missing
	}
	if j.NoCache {
		args = append(args, "--no-cache")
	}
	if j.Quiet {
		args = append(args, "--quiet")
	}
	for _, f := range []struct{ flag, value string }{{"--target", j.Target}, {"--platform", j.Platform}, {"--network", j.Network}} {
		if f.value != "" {
			args = append(args, f.flag, f.value)
		}
	}
	for _, f := range []struct {
		flag   string
		values []string
	}{{"--build-arg", j.Args}, {"--label", j.Labels}, {"--secret", j.Secrets}, {"--add-host", j.AddHosts}} {
		for _, v := range f.values {
			args = append(args, f.flag, v)
		}
	}
	return append(args, j.Context)
}

// handOver puts an image of Brig's store into buildah's, unless it is there.
func (b *buildahBuilder) handOver(ctx context.Context, j *job, n int, base base) error {
	ref, err := image.ParseReference(base.name)
	if err != nil || ref.Tag == "" {
		return nil // by ID or digest: buildah looks for itself
	}
	if out, err := b.output(ctx, j, "images", "--quiet", "--no-trunc", ref.String()); err == nil && strings.TrimSpace(string(out)) == base.ID {
		return nil
	}
	archive, err := j.save(ctx, base, fmt.Sprintf("base-%d.tar", n), image.SaveOptions{})
	if err != nil {
		return err
	}
	defer os.Remove(archive)
	if out, err := b.output(ctx, j, "pull", "--quiet", "docker-archive:"+archive); err != nil {
		return fmt.Errorf("hand over the base image %s: %w: %s", base.name, err, out)
	}
	if out, err := b.output(ctx, j, "tag", base.ID, ref.String()); err != nil {
		return fmt.Errorf("hand over the base image %s: %w: %s", base.name, err, out)
	}
	return nil
}

// output runs a command of buildah's that prints little.
func (b *buildahBuilder) output(ctx context.Context, j *job, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, b.program, b.global(j, args...)...)
	cmd.Env = append(os.Environ(), b.env...)
	cmd.SysProcAttr = ownMounts()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		var said tail
		said.Write(errs.Bytes())
		return []byte(said.String()), err
	}
	return out, nil
}

// ownMounts gives a builder a mount namespace of its own: what it mounts and
// forgets, also when it is killed, goes with it.
func ownMounts() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
}

// shortNames makes "debian" mean Docker Hub's, as in every Dockerfile, where the
// host's configuration says nothing of short names.
func (b *buildahBuilder) shortNames(j *job) error {
	const file = "/etc/containers/registries.conf"
	have, err := os.ReadFile(file)
	if os.Getenv("CONTAINERS_REGISTRIES_CONF") != "" || err != nil && !os.IsNotExist(err) {
		return nil
	}
	for line := range strings.Lines(string(have)) {
		if strings.HasPrefix(strings.TrimSpace(line), "unqualified-search-registries") {
			return nil
		}
	}
	path := filepath.Join(j.dir, "registries.conf")
	text := "unqualified-search-registries = [\"docker.io\"]\n" + string(have)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	b.env = append(b.env, "CONTAINERS_REGISTRIES_CONF="+path)
	return nil
}
