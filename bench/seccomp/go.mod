module github.com/brig-run/brig/bench/seccomp

go 1.26.3

require (
	github.com/brig-run/brig v0.0.0
	github.com/elastic/go-seccomp-bpf v1.6.0
	github.com/moby/profiles/seccomp v0.3.0
	golang.org/x/net v0.52.0
	golang.org/x/sys v0.49.0
	gvisor.dev/gvisor v0.0.0-20260701204157-69c2d17aea96
)

require (
	github.com/opencontainers/runtime-spec v1.3.0 // indirect
	golang.org/x/exp v0.0.0-20250711185948-6ae5c78190dc // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace github.com/brig-run/brig => ../..
