package engine

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// CreateOptions is what a container is made from.
type CreateOptions struct {
	Image      string
	Resolved   *image.Image // what Image names, found by the caller
	Name       string       // empty: one is made up
	Platform   string
	Options    spec.Options
	AutoRemove bool
	Detached   bool
	// Profile is the text of the seccomp profile that Options names by a path,
	// where the caller has it: the file is not read again.
	Profile []byte
	// Policy is the policy file that Options and Profile were made of, if any.
	Policy string
	// Explain makes a witness record what the container is denied, at each of
	// its starts.
	Explain bool
	// Observe is told the directory of the container's v2 cgroup before anything
	// runs in it, so that an observer misses nothing; "" on hosts without v2. An
	// error makes the start fail. Of use to Run only.
	Observe func(cgroup string) error
	// Leash kills the container when the Run's client is closed, or the process
	// that holds it dies. Of use to Run only.
	Leash bool
}

// Create makes a container that does not run yet.
func (e *Engine) Create(o CreateOptions) (*Container, error) {
	c, l, err := e.create(o, false)
	if err != nil {
		return nil, err
	}
	l.Close()
	return c, nil
}

// Run creates a container and starts it.
func (e *Engine) Run(o CreateOptions, attach monitor.Streams, size ConsoleSize) (*Run, error) {
	m := e.boot(o.Explain) // boots while the container is made
	c, l, err := e.create(o, true)
	if err != nil {
		m.cancel()
		return nil, err
	}
	return c.start(l, m, attach, size)
}

// create leaves the new container locked.
func (e *Engine) create(o CreateOptions, starting bool) (*Container, *os.File, error) {
	if err := settleNetwork(&o.Options); err != nil {
		return nil, nil, err
	}
	if err := o.Options.Validate(); err != nil {
		return nil, nil, err
	}
	c := &Container{
		ID: newID(), Name: o.Name, Created: time.Now().UTC(), Image: o.Image, ImageID: o.Resolved.ID, Layers: o.Resolved.Layers,
		ImageConfig: o.Resolved.Config, Options: o.Options, AutoRemove: o.AutoRemove, Starting: starting,
		Detached: o.Detached, Platform: o.Platform, engine: e, Policy: o.Policy, Explain: o.Explain, observe: o.Observe, leash: o.Leash,
	}
	if err := c.planIDs(); err != nil {
		return nil, nil, err
	}
	if err := c.planVolumes(); err != nil {
		return nil, nil, err
	}
	c.Health = spec.MergeHealth((*spec.Healthcheck)(o.Resolved.Healthcheck), o.Options.Health)
	if c.Health != nil {
		c.Shell = o.Resolved.Shell
	}
	profile, err := c.check(o.Profile)
	if err != nil {
		return nil, nil, err
	}
	c.profile = profile
	l, err := c.makeLocked()
	if err != nil {
		return nil, nil, fmt.Errorf("create container: %w", err)
	}
	var made []string
	if err = c.name(o.Name == ""); err == nil {
		made, err = c.makeVolumes()
	}
	if err == nil {
		err = c.write(profile)
	}
	if err == nil {
		c.Event("create")
	}
	if err != nil {
		c.doomed = true
		c.discard()
		for _, v := range made {
			c.engine.Volumes().Release(v, c.ID, true)
		}
		l.Close()
		return nil, nil, err
	}
	return c, l, nil
}

// write puts the container on disk.
func (c *Container) write(profile []byte) error {
	durable := !c.AutoRemove // what a crash may take is not worth waiting for the disk
	var err error
	if profile != nil {
		err = writeAtomic(c.file(profileFile), profile, durable)
	}
	if err == nil {
		err = c.save(durable)
	}
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	return nil
}

// check refuses, before anything is made, what the start would refuse. It
// gives the seccomp profile that the user named, if any; profile is its text if
// the caller has it.
func (c *Container) check(profile []byte) ([]byte, error) {
	if c.Options.Entrypoint == nil && len(c.Options.Args)+len(c.ImageConfig.Entrypoint)+len(c.ImageConfig.Cmd) == 0 {
		return nil, spec.ErrNoCommand
	}
	if _, err := capability.Resolve(capability.Default(), c.Options.CapAdd, c.Options.CapDrop); err != nil {
		return nil, err
	}
	if err := c.bindSources(false); err != nil {
		return nil, err
	}
	if err := c.checkNetworks(); err != nil {
		return nil, err
	}
	if err := spec.CheckBlockIO(&c.Options); err != nil {
		return nil, err
	}
	if c.AutoRemove && c.Options.Restart.Name != spec.RestartNo {
		return nil, usage("conflicting options: --restart and --rm; drop one of them")
	}
	if c.Health != nil {
		if _, err := c.Health.Command(c.Shell); err != nil {
			return nil, err
		}
	}
	if _, err := c.logTarget(); err != nil {
		return nil, err
	}
	return readProfile(c.Options.Security.Seccomp, profile)
}

// name takes the wanted name, or makes one up that is free.
func (c *Container) name(madeUp bool) error {
	for try := 0; ; try++ {
		if madeUp {
			c.Name = randomName(try)
		}
		err := c.takeName()
		var taken *UsageError
		if !madeUp || !errors.As(err, &taken) || try > 20 {
			if err != nil && !madeUp {
				c.Name = "" // it is another's
			}
			return err
		}
	}
}

// randomName makes up a name of two words, with a number once that has failed
// a few times.
func randomName(try int) string {
	id := newID()
	pick := func(list string, at string) string {
		words := strings.Fields(list)
		n := 0
		for _, c := range []byte(at) {
			n = n*31 + int(c)
		}
		return words[uint(n)%uint(len(words))]
	}
	name := pick(nameAdjectives, id[:16]) + "_" + pick(nameShips, id[16:32])
	if try > 2 {
		name += id[32:36]
	}
	return name
}

// The words of made-up names: what a brig may be like, and what is on one.
const (
	nameAdjectives = `able ample apt bold brave bright brisk calm candid clear clever crisp deft eager
		early easy even fair fast fine firm fleet fond free fresh frank gentle glad golden good grand
		hale handy happy hardy honest humble ideal just keen kind lean light lively loyal lucid mellow
		merry mild modest neat nimble noble open patient plain plucky polite prime prompt proud pure
		quick quiet ready robust serene sharp silent sleek smart smooth snug sober solid sound spry
		stable steady stout strong sunny sure swift tidy trim true trusty upbeat vivid warm wise witty`
	nameShips = `anchor backstay ballast beacon bell binnacle block boom bosun bowline bowsprit brace
		buoy cable capstan cleat compass crew crosstree davit deck fathom fender forecastle foremast
		foresail gaff galley gangway gunwale halyard harbor hatch hawser helm hull jib keel lanyard
		lantern lateen leeward log lookout mainmast mainsail mast mizzen mooring oar pennant pilot port
		prow pulley quay quarterdeck ratline reef rigging rudder sail schooner sextant sheet shroud skiff
		spar splice stay stern stem tackle tide tiller topmast topsail transom trysail wake wharf
		winch windlass yard`
)
