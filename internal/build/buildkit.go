package build

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/tree"
)

// buildkitBuilder builds with BuildKit's daemon.
type buildkitBuilder struct{ program, address string }

func (b *buildkitBuilder) build(ctx context.Context, j *job) (string, error) {
	var layouts []layout
	for i, base := range j.bases {
		l, err := j.layout(ctx, i, base)
		if err != nil {
			return "", err
		}
		layouts = append(layouts, l)
	}
	archive := filepath.Join(j.dir, "image.tar")
	args := append([]string{"--addr", b.address}, buildkitArgs(j, layouts, archive)...)
	return archive, j.run(ctx, nil, nil, b.program, args...)
}

// layout is an OCI image layout with one image, for a name in the Dockerfile.
type layout struct{ name, id, dir, digest string }

// buildkitArgs is the command that builds.
func buildkitArgs(j *job, layouts []layout, archive string) []string {
	args := []string{
		"build", "--frontend", "dockerfile.v0", "--local", "context=" + j.Context, "--local", "dockerfile=" + filepath.Dir(j.file),
		"--opt", "filename=" + filepath.Base(j.file), "--output", "type=docker,dest=" + archive,
	}
	opt := func(key, value string) {
		if value != "" {
			args = append(args, "--opt", key+"="+value)
		}
	}
	opt("target", j.Target)
	opt("platform", j.Platform)
	switch j.Network {
	case "", "default":
	default:
		opt("force-network-mode", j.Network)
		if j.Network == "host" {
			args = append(args, "--allow", "network.host")
		}
	}
	for _, a := range j.Args {
		name, _, _ := cut(a)
		if value, ok := j.arg(name); ok {
			args = append(args, "--opt", "build-arg:"+name+"="+value)
		}
	}
	for _, l := range j.Labels {
		name, value, _ := cut(l)
		args = append(args, "--opt", "label:"+name+"="+value)
	}
	for _, h := range j.AddHosts {
		opt("add-hosts", h)
	}
	for _, s := range j.Secrets {
		args = append(args, "--secret", s)
	}
	if j.NoCache {
		args = append(args, "--no-cache")
	}
	if j.Pull {
		opt("image-resolve-mode", "pull")
	}
	for _, l := range layouts {
		args = append(args, "--oci-layout", l.id+"="+l.dir)
		opt("context:"+l.name, "oci-layout://"+l.id+"@"+l.digest)
	}
	return args
}

// layout unpacks an image of the store for buildctl to read.
func (j *job) layout(ctx context.Context, n int, b base) (layout, error) {
	l := layout{name: b.name, id: fmt.Sprintf("base-%d", n)}
	fail := func(err error) (layout, error) {
		return l, fmt.Errorf("hand over the base image %s: %w", b.name, err)
	}
	archive, err := j.save(ctx, b, l.id+".tar", image.SaveOptions{OCIOnly: true})
	if err != nil {
		return l, err
	}
	defer os.Remove(archive)
	f, err := os.Open(archive)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	l.dir = filepath.Join(j.dir, l.id)
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return fail(err)
	}
	root, err := os.Open(l.dir)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	if err := tree.Unpack(ctx, root, f, tree.UnpackOptions{NoLinks: true}); err != nil {
		return fail(err)
	}
	text, err := os.ReadFile(filepath.Join(l.dir, "index.json"))
	var index v1.Index
	if err == nil {
		err = json.Unmarshal(text, &index)
	}
	if err == nil && len(index.Manifests) == 0 {
		err = fmt.Errorf("its index.json names no manifest")
	}
	if err != nil {
		return fail(err)
	}
	l.digest = string(index.Manifests[0].Digest)
	return l, nil
}
