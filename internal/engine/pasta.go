package engine

import (
	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/network/undo"
	"github.com/brig-run/brig/internal/pasta"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/spec"
)

// attachPasta makes the network namespace of an ordinary user's container and has
// pasta connect it.
func (s *starter) attachPasta() error {
	c := s.c
	// The ports are tried here, because this can say which one is in use, and find
	// a free one; pasta binds them anew.
	ports, held, err := network.Bind(portWishes(spec.Published(&c.Options, &c.ImageConfig)))
	if err != nil {
		return err
	}
	for _, f := range held {
		f.Close()
	}
	if s.userns != nil {
		s.net.ns, err = runtime.NewNetworkNamespace(s.userns)
	} else {
		s.net.ns, err = network.NewNamespace()
	}
	if err != nil {
		return err
	}
	s.keep(s.net.ns)
	if err := pasta.Start(s.net.ns, pastaPorts(ports), c.dir(), func(p pasta.Process) error {
		var log undo.Log
		log.Process(p.PID, p.Start)
		return log.Write(c.dir())
	}); err != nil {
		return err
	}
	return c.writeRecord(&network.Record{Ports: ports})
}

func pastaPorts(ports []network.Port) (list []pasta.Port) {
	for _, p := range ports {
		list = append(list, pasta.Port{Protocol: p.Protocol, HostIP: p.HostIP, Host: p.HostPort, Port: p.Port})
	}
	return list
}
