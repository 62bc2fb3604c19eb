package oci

// needsSetup says whether something is to be done to the child from outside,
// once it is in its namespaces.
func (c *creation) needsSetup() bool { return false }

func (c *creation) setup(pid int) error { return nil }

// removeRdt removes the container's group of resctrl.
func (c *Container) removeRdt() {}
