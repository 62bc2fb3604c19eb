/*
 * width asks the kernel how many bits of an argument it looks at. For each of
 * its cases it makes a system call with one more bit set in one argument, and
 * prints a line "ABI CALL INDEX BIT SAME": SAME is 1 if the call did what it
 * does without that bit.
 *
 * It is for x86-64. i386 calls are made through int 0x80, whose registers the
 * kernel cuts to 32 bits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;

static char *page; /* below 4 GiB, with nothing mapped behind it */
static const char *path;
static int file, dir, pipes[2];

static void fail(const char *what)
{
	fprintf(stderr, "width: %s: %s\n", what, strerror(errno));
	exit(1);
}

#define sys(...) syscall(__VA_ARGS__)

static int closed(long fd)
{
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int socket0(u64 x) { return closed(sys(SYS_socket, AF_UNIX | x, SOCK_STREAM, 0)); }
static int socket1(u64 x) { return closed(sys(SYS_socket, AF_UNIX, SOCK_STREAM | x, 0)); }
static int socket2(u64 x) { return closed(sys(SYS_socket, AF_UNIX, SOCK_STREAM, 0 | x)); }
static int personality0(u64 x)
{
	return sys(SYS_personality, 0xffffffff | x) == PER_LINUX && sys(SYS_personality, 0xffffffff) == PER_LINUX;
}
static int close0(u64 x)
{
	int fd = dup(file), same = sys(SYS_close, fd | x) == 0;
	if (!same)
		close(fd);
	return same;
}
static int lseek1(u64 x) { return sys(SYS_lseek, file, 0 | x, SEEK_SET) == 0; }
static int lseek2(u64 x) { return sys(SYS_lseek, file, 0, SEEK_SET | x) == 0; }
static int mprotect0(u64 x) { return sys(SYS_mprotect, (u64)page | x, 4096, PROT_READ | PROT_WRITE) == 0; }
static int mprotect1(u64 x) { return sys(SYS_mprotect, page, 4096 | x, PROT_READ | PROT_WRITE) == 0; }
static int mprotect2(u64 x) { return sys(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE | x) == 0; }
static int munmap0(u64 x)
{
	unsigned char resident;
	int same = sys(SYS_munmap, (u64)page | x, 4096) == 0 && mincore(page, 4096, &resident) != 0;
	if (same && mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page)
		fail("map again");
	return same;
}
static int unmapped(long p)
{
	if (p != -1)
		munmap((void *)p, 4096);
	return p != -1;
}
static int mmap3(u64 x) { return unmapped(sys(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED_VALIDATE | x, file, 0)); }
static int mmap4(u64 x) { return unmapped(sys(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, file | x, 0)); }
static int mremap3(u64 x) { return sys(SYS_mremap, page, 4096, 4096, 0 | x) == (long)page; }
static struct iovec vec(void) { return (struct iovec){page, 1}; }
static int readv0(u64 x) { struct iovec v = vec(); lseek(file, 0, SEEK_SET); return sys(SYS_readv, file | x, &v, 1) == 1; }
static int readv2(u64 x) { struct iovec v = vec(); lseek(file, 0, SEEK_SET); return sys(SYS_readv, file, &v, 1 | x) == 1; }
static int writev0(u64 x) { struct iovec v = vec(); lseek(file, 0, SEEK_SET); return sys(SYS_writev, file | x, &v, 1) == 1; }
static int preadv0(u64 x) { struct iovec v = vec(); return sys(SYS_preadv, file | x, &v, 1, 0, 0) == 1; }
static int pwritev0(u64 x) { struct iovec v = vec(); return sys(SYS_pwritev, file | x, &v, 1, 0, 0) == 1; }
static int preadv20(u64 x) { struct iovec v = vec(); return sys(SYS_preadv2, file | x, &v, 1, 0, 0, 0) == 1; }
static int preadv25(u64 x) { struct iovec v = vec(); return sys(SYS_preadv2, file, &v, 1, 0, 0, 0 | x) == 1; }
static int pwritev20(u64 x) { struct iovec v = vec(); return sys(SYS_pwritev2, file | x, &v, 1, 0, 0, 0) == 1; }
static int pread3(u64 x) { return sys(SYS_pread64, file, page, 1, 0 | x) == 1; }
static int read2(u64 x) { lseek(file, 0, SEEK_SET); return sys(SYS_read, file, page, 1 | x) == 1; }
static int kill0(u64 x) { return sys(SYS_kill, getpid() | x, 0) == 0; }
static int kill1(u64 x) { return sys(SYS_kill, getpid(), 0 | x) == 0; }
static int getpriority0(u64 x) { return sys(SYS_getpriority, PRIO_PROCESS | x, 0) > 0; }
static int getpriority1(u64 x) { return sys(SYS_getpriority, PRIO_PROCESS, 0 | x) > 0; }
static int ioctl1(u64 x) { return sys(SYS_ioctl, pipes[0], FIONREAD | x, page) == 0; }
static int ioctl2(u64 x) { return sys(SYS_ioctl, pipes[0], FIONREAD, (u64)page | x) == 0; }
static int fcntl0(u64 x) { return sys(SYS_fcntl, file | x, F_GETFL) >= 0; }
static int fcntl1(u64 x) { return sys(SYS_fcntl, file, F_GETFL | x) >= 0; }
static int prctl0(u64 x) { return sys(SYS_prctl, PR_GET_DUMPABLE | x, 0, 0, 0, 0) == 1; }
static int prctl1(u64 x) { return sys(SYS_prctl, PR_SET_DUMPABLE, 1 | x, 0, 0, 0) == 0; }
static int openat0(u64 x) { return closed(sys(SYS_openat, dir | x, ".", O_RDONLY)); }
static int clock_gettime0(u64 x) { struct timespec ts; return sys(SYS_clock_gettime, CLOCK_REALTIME | x, &ts) == 0; }
static int futex1(u64 x) { return sys(SYS_futex, page, FUTEX_WAKE | x, 1, 0, 0, 0) == 0; }
static int getrandom2(u64 x) { return sys(SYS_getrandom, page, 1, 0 | x) == 1; }
static int seccomp0(u64 x) { uint32_t a = SECCOMP_RET_ALLOW; return sys(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL | x, 0, &a) == 0; }
static int seccomp1(u64 x) { uint32_t a = SECCOMP_RET_ALLOW; return sys(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0 | x, &a) == 0; }
static int mbind2(u64 x) { return sys(SYS_mbind, page, 4096, 0 | x, 0, 0, 0) == 0; }
static int mbind5(u64 x) { return sys(SYS_mbind, page, 4096, 0, 0, 0, 0 | x) == 0; }
static int unshare0(u64 x) { return sys(SYS_unshare, 0 | x) == 0; }
static int clone0(u64 x)
{
	int status;
	long pid = sys(SYS_clone, SIGCHLD | x, 0, 0, 0, 0);
	if (pid == 0)
		_exit(7);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7;
}
static int ptraced(u64 x, u64 y)
{
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	int same = sys(SYS_ptrace, PTRACE_SEIZE | x, pid | y, 0, 0) == 0;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return same;
}
static int ptrace0(u64 x) { return ptraced(x, 0); }
static int ptrace1(u64 x) { return ptraced(0, x); }
static int process_vm_readv5(u64 x)
{
	struct iovec a = {page, 1}, b = {page + 8, 1};
	return sys(SYS_process_vm_readv, getpid(), &a, 1, &b, 1, 0 | x) == 1;
}
static int process_vm_readv2(u64 x)
{
	struct iovec a = {page, 1}, b = {page + 8, 1};
	return sys(SYS_process_vm_readv, getpid(), &a, 1 | x, &b, 1, 0) == 1;
}
static int process_vm_readv4(u64 x)
{
	struct iovec a = {page, 1}, b = {page + 8, 1};
	return sys(SYS_process_vm_readv, getpid(), &a, 1, &b, 1 | x, 0) == 1;
}
static int vmsplice2(u64 x)
{
	struct iovec v = vec();
	char c;
	return sys(SYS_vmsplice, pipes[1], &v, 1 | x, 0) == 1 && read(pipes[0], &c, 1) == 1;
}
static int process_madvise2(u64 x)
{
	struct iovec v = {page, 4096};
	int fd = sys(SYS_pidfd_open, getpid(), 0);
	int same = sys(SYS_process_madvise, fd, &v, 1 | x, MADV_COLD, 0) == 4096;
	close(fd);
	return same;
}
static int kcmp3(u64 x) { return sys(SYS_kcmp, getpid(), getpid(), 0, file | x, file) == 0; }
static int mount3(u64 x)
{
	int same = sys(SYS_mount, "none", "m", "tmpfs", MS_RDONLY | x, "") == 0 && access("m", W_OK) != 0 && errno == EROFS;
	umount2("m", MNT_DETACH);
	return same;
}
static struct stat now(void)
{
	struct stat st;
	if (stat(path, &st) != 0)
		fail(path);
	return st;
}
static int chmod1(u64 x)
{
	chmod(path, 0);
	return sys(SYS_chmod, path, 0640 | x) == 0 && now().st_mode == (S_IFREG | 0640);
}
static int fchmod1(u64 x)
{
	chmod(path, 0);
	return sys(SYS_fchmod, file, 0640 | x) == 0 && now().st_mode == (S_IFREG | 0640);
}
static int mkdirat2(u64 x) { return sys(SYS_mkdirat, dir, "d", 0700 | x) == 0 && unlinkat(dir, "d", AT_REMOVEDIR) == 0; }
static int mknodat2(u64 x) { return sys(SYS_mknodat, dir, "n", S_IFIFO | 0600 | x, 0) == 0 && unlinkat(dir, "n", 0) == 0; }
static int chown1(u64 x)
{
	chown(path, 0, 0);
	return sys(SYS_chown, path, 5 | x, 6) == 0 && now().st_uid == 5;
}

static long int80(u64 nr, u64 a, u64 b, u64 c)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return r;
}
static u64 low(void)
{
	strcpy(page + 64, path);
	return (u64)page + 64;
}
static int i386_chown1(u64 x) { chown(path, 0, 0); return int80(182, low(), 5 | x, 6) == 0 && now().st_uid == 5; }
static int i386_chown2(u64 x) { chown(path, 0, 0); return int80(182, low(), 5, 6 | x) == 0 && now().st_gid == 6; }
static int i386_fchown1(u64 x) { chown(path, 0, 0); return int80(95, file, 5 | x, 6) == 0 && now().st_uid == 5; }
static int i386_chown321(u64 x) { chown(path, 0, 0); return int80(212, low(), 5 | x, 6) == 0 && now().st_uid == 5; }
static int i386_chmod1(u64 x) { chmod(path, 0); return int80(15, low(), 0640 | x, 0) == 0 && now().st_mode == (S_IFREG | 0640); }
static int i386_lseek1(u64 x) { return int80(19, file, 0 | x, SEEK_SET) == 0; }
static int i386_lseek2(u64 x) { return int80(19, file, 0, SEEK_SET | x) == 0; }
static int i386_close0(u64 x)
{
	int fd = dup(file), same = int80(6, fd | x, 0, 0) == 0;
	if (!same)
		close(fd);
	return same;
}

#define HIGH 32 /* the first bit that tells something */

static const struct {
	const char *abi, *call;
	int index, from, to;
	int (*same)(u64 bit);
} cases[] = {
	{"amd64", "socket", 0, 0, 63, socket0},
	{"amd64", "socket", 1, 0, 63, socket1},
	{"amd64", "socket", 2, 0, 63, socket2},
	{"amd64", "personality", 0, HIGH, 63, personality0},
	{"amd64", "close", 0, 0, 63, close0},
	{"amd64", "lseek", 1, 0, 63, lseek1},
	{"amd64", "lseek", 2, 0, 63, lseek2},
	{"amd64", "mprotect", 0, HIGH, 63, mprotect0},
	{"amd64", "mprotect", 1, HIGH, 63, mprotect1},
	{"amd64", "mprotect", 2, 0, 63, mprotect2},
	{"amd64", "munmap", 0, HIGH, 63, munmap0},
	{"amd64", "mmap", 3, HIGH, 63, mmap3},
	{"amd64", "mmap", 4, 0, 63, mmap4},
	{"amd64", "mremap", 3, 0, 63, mremap3},
	{"amd64", "readv", 0, 0, 63, readv0},
	{"amd64", "readv", 2, 0, 63, readv2},
	{"amd64", "writev", 0, 0, 63, writev0},
	{"amd64", "preadv", 0, 0, 63, preadv0},
	{"amd64", "pwritev", 0, 0, 63, pwritev0},
	{"amd64", "preadv2", 0, 0, 63, preadv20},
	{"amd64", "preadv2", 5, 0, 63, preadv25},
	{"amd64", "pwritev2", 0, 0, 63, pwritev20},
	{"amd64", "pread64", 3, 0, 63, pread3},
	{"amd64", "read", 2, 47, 63, read2},
	{"amd64", "kill", 0, 24, 63, kill0},
	{"amd64", "kill", 1, 0, 63, kill1},
	{"amd64", "getpriority", 0, 0, 63, getpriority0},
	{"amd64", "getpriority", 1, 24, 63, getpriority1},
	{"amd64", "ioctl", 1, 15, 63, ioctl1},
	{"amd64", "ioctl", 2, HIGH, 63, ioctl2},
	{"amd64", "fcntl", 0, 0, 63, fcntl0},
	{"amd64", "fcntl", 1, 0, 63, fcntl1},
	{"amd64", "prctl", 0, 0, 63, prctl0},
	{"amd64", "prctl", 1, 0, 63, prctl1},
	{"amd64", "openat", 0, 0, 63, openat0},
	{"amd64", "clock_gettime", 0, 0, 63, clock_gettime0},
	{"amd64", "futex", 1, 0, 63, futex1},
	{"amd64", "getrandom", 2, 0, 63, getrandom2},
	{"amd64", "seccomp", 0, 0, 63, seccomp0},
	{"amd64", "seccomp", 1, 0, 63, seccomp1},
	{"amd64", "mbind", 2, 16, 63, mbind2},
	{"amd64", "mbind", 5, 0, 63, mbind5},
	{"amd64", "unshare", 0, HIGH, 63, unshare0},
	{"amd64", "clone", 0, HIGH, 63, clone0},
	{"amd64", "ptrace", 0, 0, 63, ptrace0},
	{"amd64", "ptrace", 1, 24, 63, ptrace1},
	{"amd64", "process_vm_readv", 5, 0, 63, process_vm_readv5},
	{"amd64", "process_vm_readv", 2, 24, 63, process_vm_readv2},
	{"amd64", "process_vm_readv", 4, 0, 63, process_vm_readv4},
	{"amd64", "vmsplice", 2, 0, 63, vmsplice2},
	{"amd64", "process_madvise", 2, 0, 63, process_madvise2},
	{"amd64", "kcmp", 3, 0, 63, kcmp3},
	{"amd64", "mount", 3, HIGH, 63, mount3},
	{"amd64", "chmod", 1, 16, 63, chmod1},
	{"amd64", "fchmod", 1, 16, 63, fchmod1},
	{"amd64", "mkdirat", 2, 16, 63, mkdirat2},
	{"amd64", "mknodat", 2, 16, 63, mknodat2},
	{"amd64", "chown", 1, 0, 63, chown1},
	{"x86", "chown", 1, 0, 63, i386_chown1},
	{"x86", "chown", 2, 0, 63, i386_chown2},
	{"x86", "fchown", 1, 0, 63, i386_fchown1},
	{"x86", "chown32", 1, 0, 63, i386_chown321},
	{"x86", "chmod", 1, 16, 63, i386_chmod1},
	{"x86", "lseek", 1, 0, 63, i386_lseek1},
	{"x86", "lseek", 2, 0, 63, i386_lseek2},
	{"x86", "close", 0, 0, 63, i386_close0},
};

int main(int argc, char **argv)
{
	/* Not the lowest bits, which mean something to most calls. */
	static const int bits[] = {12, 15, 16, 24, 30, 31, 32, 33, 47, 62, 63};
	if (argc != 2 || (dir = open(argv[1], O_RDONLY | O_DIRECTORY)) < 0 || chdir(argv[1]) != 0)
		fail("open a directory");
	path = "file";
	if ((file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600)) < 0 || write(file, "x", 1) != 1 || pipe(pipes) != 0)
		fail(path);
	if (mkdir("m", 0700) != 0 || unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		fail("own mounts");
	page = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (page == MAP_FAILED)
		fail("mmap");
	int has32 = int80(20, 0, 0, 0) == getpid();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (strcmp(cases[i].abi, "x86") == 0 && !has32)
			continue;
		if (!cases[i].same(0)) {
			fprintf(stderr, "width: %s %d does not do what it should\n", cases[i].call, cases[i].index);
			return 1;
		}
		for (size_t b = 0; b < sizeof(bits) / sizeof(*bits); b++)
			if (bits[b] >= cases[i].from && bits[b] <= cases[i].to)
				printf("%s %s %d %d %d\n", cases[i].abi, cases[i].call, cases[i].index, bits[b], cases[i].same(1ull << bits[b]));
	}
	return 0;
}
