// Package annotation does what annotations ask of the OCI runtime for a container
// of any engine: a recorder that stays with the container, the policy that it
// learns (dev.brig.learn), and the explanation of what it was denied
// (dev.brig.explain).
//
// Annotations come from the users of a cluster, who must not get at files of the
// node by them: this package owns where results may lie. It knows no life of
// containers: package oci says when the cgroup is there and what started.
//
// On disk, below Places.Explained, for each container that was recorded:
//
//	ID/subject.json   what the container is, and is held by
//	ID/witness.sock   answers with the recording so far
//	ID/witness.json   the recording, once the container has ended
//
// These outlive the container, and the oldest make room. Beside them, .witness.json
// and .recorder.json are the recorder's programs as they fit this kernel.
package annotation

import (
	"errors"
	"fmt"
	"strconv"
)

// The annotations.
const (
	Learn   = "dev.brig.learn"   // true, false, or where the policy is to be
	Explain = "dev.brig.explain" // true or false
	Image   = "dev.brig.image"   // the image's reference, where the engine does not say it
)

// Request is what the annotations of a container ask for.
type Request struct {
	Learn   string // "" for nothing, "true", or a path
	Explain bool
}

// Any reports whether anything is to be recorded.
func (r Request) Any() bool { return r.Learn != "" || r.Explain }

// Parse reads a container's annotations. A pod's sandbox is given those of the
// pod, and asks for nothing.
func Parse(annotations map[string]string) (r Request, err error) {
	learn, learns := annotations[Learn]
	explain, explains := annotations[Explain]
	if !learns && !explains {
		return Request{}, nil
	}
	if learns {
		switch on, err := strconv.ParseBool(learn); {
		case learn == "":
			return Request{}, fmt.Errorf("annotation %s: is empty; want true, false, or a path", Learn)
		case err != nil:
			r.Learn = learn
		case on:
			r.Learn = "true"
		}
	}
	if explains {
		if r.Explain, err = strconv.ParseBool(explain); err != nil {
			return Request{}, fmt.Errorf("annotation %s: %q is neither true nor false", Explain, explain)
		}
	}
	if sandbox(annotations) {
		return Request{}, nil
	}
	return r, nil
}

// sandbox reports whether the container is one that holds a pod's namespaces, by
// the words of containerd and CRI-O.
func sandbox(annotations map[string]string) bool {
	return annotations["io.kubernetes.cri.container-type"] == "sandbox" || annotations["io.kubernetes.cri-o.ContainerType"] == "sandbox"
}

// ErrNone says that a container was not recorded.
var ErrNone = errors.New("it was not recorded")
