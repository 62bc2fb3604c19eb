// Package inspect looks into seccomp filters: those that are in files and those
// that are in force in running processes. It writes them in words, runs them
// for a call, and has their figures. It takes any filter, whoever made it, and
// knows no containers.
package inspect
