package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Bounds of the message of a runtime.
const (
	maxState       = 64 << 10 // bytes
	maxDescriptors = 16
)

// SendListener sends a listener's descriptor to an agent, as a runtime does to
// the socket that a profile names as listenerPath: one message with state in
// JSON, and the descriptor (runtime-spec, config-linux.md, "Container process
// state"). The descriptor stays open.
func SendListener(conn *net.UnixConn, state *specs.ContainerProcessState, f *os.File) error {
	s := *state
	s.Fds = []string{specs.SeccompFdName}
	text, err := json.Marshal(&s)
	if err != nil {
		return fmt.Errorf("send the seccomp listener: %w", err)
	}
	if len(text) > maxState {
		return fmt.Errorf("send the seccomp listener: the container process state has %d bytes; at most %d are possible", len(text), maxState)
	}
	n, _, err := conn.WriteMsgUnix(text, unix.UnixRights(int(f.Fd())), nil)
	if err == nil && n < len(text) {
		_, err = conn.Write(text[n:]) // a stream takes a part at a time
	}
	if err != nil {
		return fmt.Errorf("send the seccomp listener: %w", err)
	}
	return nil
}

// ReceiveListener receives what [SendListener] or a runtime sends. It waits for
// the peer as long as the deadline of conn allows.
func ReceiveListener(conn *net.UnixConn) (*Listener, *specs.ContainerProcessState, error) {
	l, state, err := receive(conn)
	if err != nil {
		return nil, nil, fmt.Errorf("receive a seccomp listener: %w", err)
	}
	return l, state, nil
}

func receive(conn *net.UnixConn) (*Listener, *specs.ContainerProcessState, error) {
	text, oob := make([]byte, maxState), make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, oobn, flags, _, err := conn.ReadMsgUnix(text, oob)
	// Descriptors may be there with an error too: an empty message counts as
	// the end.
	files, ferr := descriptors(oob[:oobn])
	defer func() {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}()
	var state specs.ContainerProcessState
	switch {
	case err != nil:
		return nil, nil, err
	case ferr != nil:
		return nil, nil, ferr
	case flags&unix.MSG_CTRUNC != 0:
		return nil, nil, fmt.Errorf("the message has more than %d descriptors", maxDescriptors)
	case flags&unix.MSG_TRUNC != 0:
		return nil, nil, tooLong()
	}
	if err := readState(conn, text[:n], &state); err != nil {
		return nil, nil, err
	}
	at := slices.Index(state.Fds, specs.SeccompFdName)
	if at < 0 || at >= len(files) {
		return nil, nil, errors.New("the message has no " + specs.SeccompFdName)
	}
	l, err := New(files[at])
	files[at] = nil // taken over
	return l, &state, err
}

func tooLong() error { return fmt.Errorf("the message is longer than %d bytes", maxState) }

// readState decodes a state that begins with text. A stream gives at first what
// came in one piece with the descriptors, and then the rest.
func readState(conn *net.UnixConn, text []byte, state *specs.ContainerProcessState) error {
	rest, stream := io.LimitedReader{R: conn}, conn.LocalAddr().Network() == "unix"
	if stream {
		rest.N = int64(maxState - len(text))
	}
	dec := json.NewDecoder(io.MultiReader(bytes.NewReader(text), &rest))
	err := dec.Decode(state)
	switch {
	case stream && rest.N == 0 && errors.Is(err, io.ErrUnexpectedEOF):
		return tooLong()
	case err != nil:
		return fmt.Errorf("the container process state: %w", err)
	}
	after, err := io.ReadAll(dec.Buffered())
	if err == nil && len(bytes.TrimSpace(after)) > 0 {
		err = errors.New("there is more after its end")
	}
	if err != nil {
		return fmt.Errorf("the container process state: %w", err)
	}
	return nil
}

// descriptors returns the files that came with a message.
func descriptors(oob []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		if h := messages[i].Header; h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_RIGHTS {
			continue // such as the sender's credentials, for which the socket was set up
		}
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}
