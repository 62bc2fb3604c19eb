package early

// Numbers of system calls.
const (
	sysRead        = 63
	sysClose       = 57
	sysSigprocmask = 135
	sysExecve      = 221
	sysStatfs      = 43
	sysOpenat      = 56
	sysPrlimit64   = 261
)
