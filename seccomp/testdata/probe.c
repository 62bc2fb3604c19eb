/*
 * probe loads a seccomp filter and makes system calls under it.
 *
 * It needs no C library, so that it also builds as an i386 program (-m32), and
 * the child that the filter is for needs no system call of its own: it answers
 * through shared memory and ends with an illegal instruction.
 *
 * Standard input, all numbers little-endian: u32 flags of seccomp(2), u32
 * number of instructions, the instructions, u32 options (1: handle SIGSYS, 2:
 * be traced, 4: a second thread makes the calls, on x86-64 only), u32 number of
 * calls, and for each call u32 entry (0: the native one, 1: int 0x80), u32
 * number, u64[6] arguments. Standard output: struct result.
 */
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define MAX_CALLS 65536

struct result {
	int load;   /* what seccomp(2) returned */
	int status; /* of the child, as from wait4(2) */
	u32 done;   /* calls that returned */
	u32 traps;  /* SIGSYS signals handled; the last one: */
	int trap_errno, trap_nr;
	u32 trap_arch;
	u32 traced; /* PTRACE_EVENT_SECCOMP stops; the last message: */
	u32 message;
	u32 alive; /* the first thread lives on after the second ended */
	i64 value[];
};

struct call {
	u32 entry, nr;
	u64 args[6];
};

#ifdef __x86_64__
enum { READ = 0, WRITE = 1, MMAP = 9, SIGACTION = 13, CLONE = 56, FORK = 57, KILL = 62, WAIT4 = 61, GETPID = 39, PTRACE = 101, PRCTL = 157, EXIT = 231, EXIT1 = 60, SECCOMP = 317, YIELD = 24 };

static long native(u64 nr, const u64 *a)
{
	long r;
	register u64 r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
	__asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}

/* All 64 bits of each register go in: the kernel has to cut them. */
static long int80(u64 nr, const u64 *a)
{
	long r;
	register u64 top __asm__("r12") = a[5];
	__asm__ volatile("push %%rbp; mov %%r12, %%rbp; int $0x80; pop %%rbp"
			 : "=a"(r) : "a"(nr), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4]), "r"(top)
			 : "r8", "r9", "r10", "r11", "memory");
	return (int)r;
}

__asm__(".globl _start\n_start: xor %ebp, %ebp\n and $-16, %rsp\n call probe\n"
	".globl restore\nrestore: mov $15, %eax\n syscall\n");
#else
enum { READ = 3, WRITE = 4, MMAP = 192, SIGACTION = 174, CLONE = 120, FORK = 2, KILL = 37, WAIT4 = 114, GETPID = 20, PTRACE = 26, PRCTL = 172, EXIT = 252, EXIT1 = 1, SECCOMP = 354, YIELD = 158 };

static long native(u64 nr, const u64 *a)
{
	u32 w[7] = {a[0], a[1], a[2], a[3], a[4], a[5], nr};
	long r;
	__asm__ volatile("push %%ebp; push %%ebx; mov 24(%%eax), %%ebp; push %%ebp; mov 0(%%eax), %%ebx;"
			 "mov 4(%%eax), %%ecx; mov 8(%%eax), %%edx; mov 12(%%eax), %%esi; mov 16(%%eax), %%edi;"
			 "mov 20(%%eax), %%ebp; pop %%eax; int $0x80; pop %%ebx; pop %%ebp"
			 : "=a"(r) : "a"(w) : "ecx", "edx", "esi", "edi", "memory");
	return r;
}
#define int80 native

__asm__(".globl _start\n_start: xor %ebp, %ebp\n and $-16, %esp\n call probe\n"
	".globl restore\nrestore: mov $173, %eax\n int $0x80\n");
#endif

extern void restore(void);

#define sys(nr, ...) native(nr, (u64[6]){__VA_ARGS__})
#define ptr(p) ((u64)(unsigned long)(p))

static void fail(int code)
{
	sys(EXIT, code);
	__builtin_trap();
}

static void readn(void *to, u64 n)
{
	while (n > 0) {
		long r = sys(READ, 0, ptr(to), n);
		if (r <= 0)
			fail(2);
		to = (char *)to + r;
		n -= r;
	}
}

static u32 read32(void)
{
	u32 n;
	readn(&n, 4);
	return n;
}

static void *map(u64 size)
{
	long p = sys(MMAP, 0, size, 3, 0x21, (u64)-1, 0); /* shared, anonymous */
	if ((unsigned long)p > -4096UL)
		fail(3);
	return (void *)p;
}

static struct result *result;
static struct { unsigned short len; void *insns; } prog;
static u32 flags, options, count;
static struct call *calls;

struct siginfo {
	int signo, err, code;
#ifdef __x86_64__
	int pad;
#endif
	void *addr;
	int nr;
	u32 arch;
};

static void trapped(int sig, struct siginfo *info, void *context)
{
	(void)sig;
	(void)context;
	result->traps++;
	result->trap_errno = info->err;
	result->trap_nr = info->nr;
	result->trap_arch = info->arch;
}

static void handle_traps(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		u64 mask;
	} act = {trapped, 0x04000004, restore, 0}; /* SA_RESTORER | SA_SIGINFO */
	if (sys(SIGACTION, 31, ptr(&act), 0, 8) != 0)
		fail(4);
}

static void make_calls(void)
{
	for (u32 i = 0; i < count; i++) {
		struct call *c = &calls[i];
		result->value[i] = c->entry ? int80(c->nr, c->args) : native(c->nr, c->args);
		*(volatile u32 *)&result->done = i + 1;
	}
}

/* A thread of the child makes the calls; the first thread sees whether that
 * one's end is its own. */
static void calls_in_thread(void)
{
	static volatile int tid;
	static char stack[16384] __attribute__((aligned(16)));
	void *top = stack + sizeof(stack);
	tid = 1;
	/* VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, CHILD_CLEARTID */
	u64 how = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000;
	/* The child of clone returns on the new, empty stack, so it must not
	 * return from a function: it calls on in assembly. */
	long r;
#ifdef __x86_64__
	register u64 r10 __asm__("r10") = ptr(&tid), r8 __asm__("r8") = 0;
	__asm__ volatile("syscall; test %%rax, %%rax; jnz 1f; call *%[fn]; mov $60, %%eax; xor %%edi, %%edi; syscall; ud2; 1:"
			 : "=a"(r) : "a"((u64)CLONE), "D"(how), "S"(top), "d"(0), "r"(r10), "r"(r8), [fn] "r"(make_calls)
			 : "rcx", "r11", "memory");
#else
	(void)how, (void)top, r = -38; /* not needed */
#endif
	if (r < 0)
		fail(5);
	for (long spin = 0; tid != 0 && spin < 2000000; spin++)
		sys(YIELD);
	result->alive = tid == 0;
}

static void child(void)
{
	if (options & 2) {
		if (sys(PTRACE, 0) != 0)
			fail(6);
		sys(KILL, sys(GETPID), 19); /* stop, for the tracer to set its options */
	}
	if (options & 1)
		handle_traps();
	sys(PRCTL, 38, 1); /* no_new_privs */
	result->load = sys(SECCOMP, 1, flags, ptr(&prog));
	if (result->load == 0) {
		if (options & 4)
			calls_in_thread();
		else
			make_calls();
	}
	__builtin_trap();
}

static void trace(long pid)
{
	int status;
	for (int first = 1;; first = 0) {
		if (sys(WAIT4, pid, ptr(&status), 0, 0) != pid)
			fail(7);
		if ((status & 0xff) != 0x7f)
			break;
		long sig = status >> 8 & 0xff;
		if (first) {
			if (sys(PTRACE, 0x4200, pid, 0, 0x80) != 0) /* SETOPTIONS, TRACESECCOMP */
				fail(8);
			sig = 0;
		} else if (status >> 8 == (5 | 7 << 8)) { /* PTRACE_EVENT_SECCOMP */
			unsigned long message = 0;
			if (sys(PTRACE, 0x4201, pid, 0, ptr(&message)) != 0)
				fail(9);
			result->traced++;
			result->message = message;
			sig = 0;
		}
		if (sys(PTRACE, 7, pid, 0, sig) != 0)
			fail(10);
	}
	result->status = status;
}

__attribute__((used)) void probe(void)
{
	flags = read32();
	prog.len = read32();
	prog.insns = map(8 * prog.len + 1);
	readn(prog.insns, 8 * (u64)prog.len);
	options = read32();
	count = read32();
	if (count > MAX_CALLS)
		fail(11);
	calls = map(count * sizeof(*calls) + 1);
	readn(calls, (u64)count * sizeof(*calls));
	u64 size = sizeof(*result) + (u64)count * 8;
	result = map(size);

	long pid = sys(FORK);
	if (pid == 0)
		child();
	if (pid < 0)
		fail(12);
	if (options & 2)
		trace(pid);
	else if (sys(WAIT4, pid, ptr(&result->status), 0, 0) != pid)
		fail(13);
	for (u64 at = 0; at < size;) {
		long r = sys(WRITE, 1, ptr(result) + at, size - at);
		if (r <= 0)
			fail(14);
		at += r;
	}
	fail(0);
}
