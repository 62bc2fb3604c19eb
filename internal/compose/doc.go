// Package compose runs the services of compose files by commands of Brig, as
// "docker compose" runs them by its engine.
//
// It owns the meaning of a compose file's keys, the names and labels of what a
// project makes, and the order of things. It knows Brig's command line and
// nothing behind it. Compose files are read by compose-go, whose start takes
// longer than that of a container's first process: so this package is linked into
// a program of its own, brig-compose, and never into brig.
package compose
