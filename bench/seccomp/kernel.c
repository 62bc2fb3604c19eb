/*
 * kernel measures what filters cost on the running kernel.
 *
 *	kernel load ROUNDS FILE...
 *	kernel call ROUNDS CALLS FILE...
 *
 * Each measurement is made by a new process, since a filter stays. Each round
 * takes every FILE once, in an order of its own, and prints a line for each:
 * "INDEX NANOSECONDS...". For load that is the time in seccomp(2). For call it
 * is the time for that many calls of each of the calls below, in their order.
 * A FILE is an array of struct sock_filter; "-" is no filter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILTERS 64
#define CALLS 3

static struct sock_fprog filters[MAX_FILTERS];
static struct sock_filter space[MAX_FILTERS][4096];
static volatile long *result; /* shared with the children */

static void fail(const char *what)
{
	fprintf(stderr, "kernel: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static inline long call(long nr, long a, long b, long c)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}

static void read_filter(struct sock_fprog *f, struct sock_filter *to, const char *path)
{
	if (strcmp(path, "-") == 0)
		return;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, to, sizeof(space[0]));
	if (n <= 0)
		fail(path);
	close(fd);
	f->filter = to;
	f->len = n / sizeof(*to);
}

/* load takes the flags that container runtimes use. */
static long load(const struct sock_fprog *f)
{
	if (f->len == 0)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fail("no_new_privs");
	long start = now();
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, f) != 0)
		fail("load");
	return now() - start;
}

/*
 * The calls: one that every filter allows by its number, one that is allowed
 * by its argument and only asks, and one that is refused by its argument (which
 * without a filter would do something, and is not measured).
 */
static void measure_calls(const struct sock_fprog *f, long count)
{
	static const long calls[CALLS][4] = {
		{SYS_getppid, 0, 0, 0},
		{SYS_personality, 0xffffffff, 0, 0},
		{SYS_socket, 40 /* AF_VSOCK */, 1, 0},
	};
	load(f);
	for (int i = 0; i < CALLS; i++) {
		const long *c = calls[i];
		if (f->len == 0 && c[0] == SYS_socket)
			continue;
		for (int n = 0; n < 500; n++)
			call(c[0], c[1], c[2], c[3]);
		long start = now();
		for (long n = 0; n < count; n++)
			call(c[0], c[1], c[2], c[3]);
		result[i] = now() - start;
	}
}

static void one(const struct sock_fprog *f, long count)
{
	memset((void *)result, 0, CALLS * sizeof(*result));
	pid_t pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		if (count)
			measure_calls(f, count);
		else
			result[0] = load(f);
		_exit(0);
	}
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "kernel: a child ended with status %#x\n", status);
		exit(1);
	}
}

/* shuffle keeps what one process leaves behind from always meeting the same. */
static void shuffle(int *order, int n)
{
	for (int i = n - 1; i > 0; i--) {
		int j = random() % (i + 1), swapped = order[i];
		order[i] = order[j];
		order[j] = swapped;
	}
}

int main(int argc, char **argv)
{
	int calls = argc > 1 && strcmp(argv[1], "call") == 0, first = 3 + calls;
	int n = argc - first;
	if (n < 1 || n > MAX_FILTERS) {
		fprintf(stderr, "usage: kernel load ROUNDS FILE... | kernel call ROUNDS CALLS FILE...\n");
		return 2;
	}
	for (int i = 0; i < n; i++)
		read_filter(&filters[i], space[i], argv[first + i]);
	result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result == MAP_FAILED)
		fail("mmap");
	/* Children stay on one processor, so that they find its caches warm. */
	cpu_set_t cpu;
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	long rounds = atol(argv[2]), count = calls ? atol(argv[3]) : 0;
	int order[MAX_FILTERS];
	for (int i = 0; i < n; i++)
		order[i] = i;
	srandom(1);
	for (long round = 0; round < rounds; round++) {
		shuffle(order, n);
		for (int i = 0; i < n; i++) {
			int which = order[i];
			one(&filters[which], count);
			printf("%d %ld", which, result[0]);
			for (int c = 1; calls && c < CALLS; c++)
				printf(" %ld", result[c]);
			putchar('\n');
			fflush(stdout);
		}
	}
	return 0;
}
