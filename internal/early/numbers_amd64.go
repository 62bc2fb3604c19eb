package early

// Numbers of system calls.
const (
	sysRead        = 0
	sysClose       = 3
	sysSigprocmask = 14
	sysExecve      = 59
	sysStatfs      = 137
	sysOpenat      = 257
	sysPrlimit64   = 302
)
