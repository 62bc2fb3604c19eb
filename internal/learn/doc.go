// Package learn finds out what a container needs: it runs the image while the
// kernel records, makes a policy of what was seen, runs the image again under
// that policy, and takes one thing away at a time to see what breaks. It judges
// by a probe, a command of the user's that fails when the container does not do
// its work; an exit status alone proves nothing.
//
// It owns the order of the runs and their verdicts. How a container runs is the
// business of package engine, what was used that of package record, and what a
// policy is that of package policy.
package learn
