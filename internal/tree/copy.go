package tree

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
)

// Copy copies what is in the directory from, an O_PATH descriptor, into the
// directory to, with owners, modes, times, extended attributes, holes and hard
// links, and gives to the attributes of from.
func Copy(ctx context.Context, from, to *os.File) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		t := tar.NewWriter(w)
		err := Pack(ctx, t, from, PackOptions{})
		if err == nil {
			err = t.Close()
		}
		w.CloseWithError(err)
		done <- err
	}()
	err := Unpack(ctx, to, r, UnpackOptions{NoLinks: true})
	r.CloseWithError(errors.New("the copy has ended"))
	if perr := <-done; err == nil {
		err = perr
	}
	return err
}
