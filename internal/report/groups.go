package report

import (
	"strings"
	"sync"
)

// group is a set of system calls that serve one purpose.
type group struct {
	id, title, about string
	members          string // names, separated by spaces
}

// groups are in the order of the page: what programs use every day comes first,
// what only hosts use last. They have every call of x86-64, of x32, of arm64 and
// of i386, but for names that groupOf finds through another's.
var groups = [...]group{
	{"io", "Reading and writing", "Descriptors and the bytes that go through them", "" +
		"read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek _llseek close close_range " +
		"dup dup2 dup3 fcntl ioctl flock pipe pipe2 sendfile splice tee vmsplice copy_file_range readahead " +
		"fadvise64 fallocate fsync fdatasync sync syncfs sync_file_range sync_file_range2 cachestat"},
	{"files", "Files and directories", "Paths, metadata, permissions, links, change notices", "" +
		"open openat openat2 creat stat fstat lstat newfstatat fstatat64 statx oldstat oldfstat oldlstat statfs fstatfs " +
		"access faccessat faccessat2 readlink readlinkat getdents getdents64 readdir getcwd chdir fchdir " +
		"mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat " +
		"truncate ftruncate chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask mknod mknodat " +
		"utime utimes futimesat utimensat file_getattr file_setattr name_to_handle_at open_by_handle_at " +
		"setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat " +
		"listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat " +
		"inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_init fanotify_mark"},
	{"memory", "Memory", "Address space, protection, locking, placement", "" +
		"brk mmap mmap2 munmap mremap mprotect pkey_mprotect pkey_alloc pkey_free madvise process_madvise mincore " +
		"msync mlock mlock2 mlockall munlock munlockall mseal remap_file_pages memfd_create memfd_secret " +
		"map_shadow_stack membarrier mbind set_mempolicy set_mempolicy_home_node get_mempolicy migrate_pages " +
		"move_pages process_mrelease userfaultfd"},
	{"process", "Processes and threads", "Start, end, wait, schedule, lock", "" +
		"fork vfork clone clone3 execve execveat exit exit_group wait4 waitid waitpid " +
		"getpid getppid gettid getpgid getpgrp setpgid getsid setsid set_tid_address pidfd_open " +
		"prctl arch_prctl set_thread_area get_thread_area set_robust_list get_robust_list rseq rseq_slice_yield " +
		"futex futex_wait futex_wake futex_waitv futex_requeue restart_syscall " +
		"sched_yield sched_setaffinity sched_getaffinity sched_setparam sched_getparam sched_setscheduler " +
		"sched_getscheduler sched_setattr sched_getattr sched_get_priority_max sched_get_priority_min " +
		"sched_rr_get_interval getpriority setpriority nice ioprio_set ioprio_get personality modify_ldt"},
	{"identity", "Users and privileges", "Who a process is and what it may do", "" +
		"getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid " +
		"setresgid setfsuid setfsgid setgroups capget capset"},
	{"network", "Network", "Sockets of all families", "" +
		"socket socketpair socketcall bind listen accept accept4 connect shutdown getsockname getpeername " +
		"setsockopt getsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg"},
	{"events", "Waiting for events", "Readiness of descriptors", "" +
		"poll ppoll select _newselect pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait " +
		"epoll_pwait2 epoll_ctl_old epoll_wait_old eventfd eventfd2"},
	{"signals", "Signals", "Handlers, masks, sending", "" +
		"rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo " +
		"rt_sigsuspend sigaltstack signal sigaction sigprocmask sigreturn sigpending sigsuspend sgetmask ssetmask " +
		"kill tkill tgkill pidfd_send_signal pause signalfd signalfd4"},
	{"time", "Time", "Clocks, timers, sleep", "" +
		"time gettimeofday settimeofday stime adjtimex clock_gettime clock_settime clock_getres clock_adjtime " +
		"clock_nanosleep nanosleep getitimer setitimer alarm timer_create timer_settime timer_gettime " +
		"timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime times"},
	{"ipc", "Between processes", "System V objects and message queues", "" +
		"ipc shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl " +
		"mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"},
	{"aio", "Asynchronous I/O", "Work that the kernel does beside the program", "" +
		"io_setup io_destroy io_getevents io_pgetevents io_submit io_cancel " +
		"io_uring_setup io_uring_enter io_uring_register"},
	{"system", "Limits and information", "About the machine and the process's share of it", "" +
		"uname olduname oldolduname sysinfo getrusage getrlimit setrlimit prlimit64 ugetrlimit getcpu getrandom " +
		"sysfs ustat statmount listmount listns"},
	{"sandbox", "Sandboxing and keys", "Restrictions that programs put on themselves, keyrings", "" +
		"seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr " +
		"lsm_set_self_attr lsm_list_modules add_key request_key keyctl"},
	{"namespaces", "Mounts and namespaces", "What a process sees of the system", "" +
		"mount umount umount2 pivot_root chroot unshare setns mount_setattr move_mount open_tree open_tree_attr " +
		"fsopen fsconfig fsmount fspick sethostname setdomainname"},
	{"debug", "Tracing other processes", "Their memory, registers, descriptors; code in the kernel", "" +
		"ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd perf_event_open bpf uprobe uretprobe " +
		"lookup_dcookie"},
	{"admin", "Running the host", "Modules, disks, ports, shutdown", "" +
		"init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl " +
		"quotactl_fd syslog vhangup iopl ioperm nfsservctl vm86 vm86old"},
	{"obsolete", "Obsolete", "Gone from the kernel, or never there", "" +
		"_sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg putpmsg gtty stty idle lock " +
		"mpx prof profil query_module security tuxcall ulimit uselib vserver"},
	{"other", "Others", "Calls that this report does not know", ""},
}

// groupIndex maps the names in groups to the index of their group.
var groupIndex = sync.OnceValue(func() map[string]int {
	m := make(map[string]int, 512)
	for i := range groups {
		for name := range strings.FieldsSeq(groups[i].members) {
			m[name] = i
		}
	}
	return m
})

// groupOf returns the index of a call's group. Calls of 32-bit ABIs with wider
// arguments are where the plain ones are: stat64, chown32, futex_time64.
func groupOf(name string) int {
	index := groupIndex()
	for _, suffix := range [...]string{"", "_time64", "_64", "64", "32"} {
		if plain, ok := strings.CutSuffix(name, suffix); ok {
			if i, ok := index[plain]; ok {
				return i
			}
		}
	}
	return len(groups) - 1
}
