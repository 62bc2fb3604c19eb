package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/tree"
)

// openContext makes a directory of what is on standard input, if that is the
// context or the Dockerfile.
func (j *job) openContext(ctx context.Context) error {
	switch {
	case j.Context == "-" && j.File == "-":
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	case j.Context == "-":
		return j.unpackContext(ctx)
	case strings.Contains(j.Context, "://") || strings.HasPrefix(j.Context, "git@"):
		return fmt.Errorf("context %q: name a directory, or - for an archive on standard input; fetch it first, with git clone or curl", j.Context)
	}
	fi, err := os.Stat(j.Context)
	if err != nil {
		return fmt.Errorf("unable to prepare context: path %q not found", j.Context)
	}
	if !fi.IsDir() {
		return fmt.Errorf("unable to prepare context: %q is not a directory; send an archive with: brig build - < %s", j.Context, j.Context)
	}
	j.Context, err = filepath.Abs(j.Context)
	return err
}

// unpackContext reads an archive, or a Dockerfile without a context.
func (j *job) unpackContext(ctx context.Context) error {
	dir := filepath.Join(j.dir, "context")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	in := bufio.NewReaderSize(j.Stdin, 4096)
	head, err := in.Peek(512)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the context: %w", err)
	}
	if len(head) == 0 {
		return errors.New("standard input is empty: send an archive or a Dockerfile")
	}
	j.Context = dir
	if !isArchive(head) {
		if j.File != "" {
			return errors.New("-f names a file of the context, but standard input is no archive")
		}
		j.File = "-"
		j.Stdin = in
		return nil
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	z, err := image.Decompress(in)
	if err != nil {
		return fmt.Errorf("read the context: %w", err)
	}
	defer z.Close()
	if err := tree.Unpack(ctx, root, z, tree.UnpackOptions{NoLinks: true}); err != nil {
		return fmt.Errorf("read the context: %w", err)
	}
	if j.File != "" && !filepath.IsLocal(j.File) {
		return fmt.Errorf("-f %q: with a context on standard input it is a path within that", j.File)
	}
	if j.File != "" {
		j.File = filepath.Join(dir, j.File)
	}
	return nil
}

// isArchive knows tar, plain or in one of the usual compressions, by its first
// bytes.
func isArchive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return len(head) >= 262 && string(head[257:262]) == "ustar"
}

// findFile finds the Dockerfile.
func (j *job) findFile() error {
	switch j.File {
	case "-":
		j.file = filepath.Join(j.dir, "Dockerfile")
		f, err := os.OpenFile(j.file, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, io.LimitReader(j.Stdin, maxDockerfile))
		return errors.Join(err, f.Close())
	case "":
		for _, name := range []string{"Dockerfile", "Containerfile"} {
			j.file = filepath.Join(j.Context, name)
			if _, err := os.Stat(j.file); err == nil {
				return nil
			}
		}
		return fmt.Errorf("there is no Dockerfile in %s; name one with -f", j.Context)
	}
	var err error
	if j.file, err = filepath.Abs(j.File); err != nil {
		return err
	}
	if fi, err := os.Stat(j.file); err != nil || fi.IsDir() {
		return fmt.Errorf("-f %s: there is no such Dockerfile", j.File)
	}
	return nil
}
