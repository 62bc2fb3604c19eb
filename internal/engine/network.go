package engine

import (
	"errors"
	"sync"

	"github.com/brig-run/brig/internal/network"
)

// Networks are the networks of this root.
func (e *Engine) Networks() *network.Store { return e.networks() }

func (e *Engine) openNetworks() func() *network.Store {
	return sync.OnceValue(func() *network.Store {
		return network.Open(e.path("networks"), e.Root == DefaultRoot, e.holdsAddress)
	})
}

// holdsAddress says whether a container may still need its addresses: it runs,
// or somebody works on it.
func (e *Engine) holdsAddress(id string) bool {
	c, err := e.load(id)
	if err != nil {
		var missing *NotFoundError
		return !errors.As(err, &missing)
	}
	l, err := c.lock()
	if err == errLocked {
		return true
	}
	if err != nil {
		return false
	}
	defer l.Close()
	s, err := c.readState()
	return err != nil || s != nil && s.Running && alive(s)
}
