// The programs that record. They run at the kernel's trace points and keep
// everything in maps: there are no events to lose. The maps' layout is that of
// layout.go.
//
// With DENIALS_ONLY they neither count calls nor keep arguments, and know
// nobody but who executes a program in a cgroup: that loads in a fraction of the
// time, and costs least for each call.
#include "kernel.h"

char _license[] SEC("license") = "GPL"; // stacks and task storage are for GPL programs

// An ABI's numbers are slots of one table. The last slot of each ABI stands for
// all numbers that do not fit, which no kernel has.
#define ABI_SLOTS 640
#define SLOTS (3 * ABI_SLOTS)
#define ODD (ABI_SLOTS - 1)
#define NO_SLOT 0xffffffff
enum abi { AMD64, X32, X86 };

#define VALUES 16  // values kept of one argument
#define FRAMES 16  // kernel functions kept of one check of a capability
#ifdef DENIALS_ONLY // the kernel makes room for all before the first
#define MAX_DENIALS 1024
#define MAX_CAPABILITIES 1024
#else
#define MAX_DENIALS 4096
#define MAX_CAPABILITIES 8192
#endif
#define ARG_MEMORY 0x80 // in arg_mask: argument 0 points to the value

// What a target is matched by.
enum kind { BY_CGROUP, BY_MOUNT_NS, BY_PID_NS, BY_PROCESS };

// Seats: one for each value of a few bits of where a task's kernel stack lies.
#define SEAT_BITS 13
#define SEATS (1 << SEAT_BITS)
#define STACK_BITS 14 // a stack of the kernel begins at a multiple of 16 KB (arch/x86/include/asm/page_64_types.h)
#define SEAT_TAKEN 1  // no address: the state is being written

// Why a call was denied.
enum reason { BY_SECCOMP, BY_CAPABILITY };

// The maps whose updates can fail, in the order of lostNames.
enum lost { LOST_TASKS, LOST_ODD, LOST_DENIALS, LOST_CAPABILITIES, LOST_STACKS, LOSTS };

#ifndef DENIALS_ONLY
// Set before loading.
volatile const __u8 arg_mask[SLOTS];  // which arguments of a call are kept
volatile const __u8 arg_wide[SLOTS];  // and which of them have 64 bits
volatile const __u16 arg_first[SLOTS]; // the first one's place in argsets
volatile const __u32 arg_sets;         // places of one recording in argsets
#endif

struct recording {
	__u32 session; // 0: none
	__u32 running; // the phase: 0 before the container is ready, then 1
};

// What the programs found out about a recording.
struct seen {
	__u64 slots[SLOTS / 64]; // in use, as bits: all that there is to read
	__u32 user_ns;           // of the first task
	__u32 unused;
};

struct target {
	__u32 recording, session;
	__u32 at_exec; // begin at the next execve, not at once
};

struct target_key {
	__u64 id;
	__u32 kind, unused;
};

struct task {
	__u32 recording, session;
	__u32 slot, nr;
	__u64 refused; // capabilities, in the present call
	__u64 args[6]; // of a call that a signal stopped
	__u8 armed;     // not recorded before the next execve
	__u8 in_call;   // between sys_enter and sys_exit
	__u8 skip_exit; // the next sys_exit ends a call that was not seen to begin
	__u8 signalled; // a filter sent SIGSYS: KILL or TRAP, not yet known
};

// seat has the state of one task, found by where its registers lie at a system
// call, which the programs are given: a look-up by the task itself takes as long
// as all the rest. That place, on top of the task's kernel stack, is its own until
// it has ended. Whoever finds the seat taken has its state in task storage, and
// with DENIALS_ONLY everybody has: seats take two milliseconds of loading.
struct seat {
	__u64 regs; // whose; 0: free
	__u32 crowded, unused; // somebody found it taken
	struct task task;
};

struct count {
	__u64 entered[2]; // by phase
	__u64 blocked;
};

struct first {
	__u64 time; // CLOCK_MONOTONIC, ns
	__u32 pid, taken;
	char program[16], thread[16];
};

struct odd_key {
	__u32 session, abi, nr;
};

struct argset {
	__u64 values[VALUES]; // plus 1; 0: free
	__u8 more, ones;      // ones: the value of all ones, whose plus 1 is 0
	__u8 unused[6];
};

struct denial_key {
	__u64 refused;
	__u32 session, slot, nr;
	__u32 error;
	char program[16];
	__u8 reason, killed;
	__u8 unused[6];
};

struct denial {
	__u64 count, time;
	__u64 args[6];
	__u32 pid, unused;
	char thread[16];
};

struct capability_key {
	__u64 stack[FRAMES];
	__u32 session, slot, nr;
	__u32 user_ns;
	char program[16];
	__u8 cap, other_cred;
	__u8 unused[6];
};

struct capability {
	__u64 granted, refused;
};

// max_entries of 1 are set before loading.
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct recording);
} recordings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seen);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct target_key);
	__type(value, struct target);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DENIALS);
	__type(key, struct denial_key);
	__type(value, struct denial);
} denials SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CAPABILITIES);
	__type(key, struct capability_key);
	__type(value, struct capability);
} capabilities SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

#ifndef DENIALS_ONLY

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SEATS);
	__type(key, __u32);
	__type(value, struct seat);
} seats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct first);
} firsts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct odd_key);
	__type(value, struct count);
} odds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct argset);
} argsets SEC(".maps");

#endif

// follow reads a field of the kernel's. It stands for the plain access where
// that is of a pointer: for each of those the verifier searches all types of
// the kernel by name, which takes most of the time of loading.
#define follow(ptr, field) ({ \
	typeof(ptr) from = (ptr); \
	typeof(from->field) to = 0; \
	bpf_probe_read_kernel(&to, sizeof(to), &from->field); \
	to; \
})

// name_program names the current program: what its first thread is called. The
// others may have names of their own. The room must be all zero.
static void name_program(char program[16])
{
	struct task_struct *leader = follow((struct task_struct *)bpf_get_current_task(), group_leader);

	bpf_probe_read_kernel_str(program, 16, &leader->comm);
}

static void lose(__u32 recording, enum lost what)
{
	__u32 i = recording * LOSTS + what;
	__u64 *n = bpf_map_lookup_elem(&lost, &i);

	if (n)
		__sync_fetch_and_add(n, 1);
}

// recording_of returns the recording that the task's state belongs to, or 0 if
// that has ended.
static struct recording *recording_of(struct task *t)
{
	struct recording *r = bpf_map_lookup_elem(&recordings, &t->recording);

	return r && r->session == t->session ? r : 0;
}

#ifndef DENIALS_ONLY

// regs_of returns where the task's registers lie at a system call.
static struct pt_regs *regs_of(struct task_struct *task)
{
	return (void *)bpf_task_pt_regs(task);
}

// seat_of returns the seat for the task whose registers these are, and for all that
// have the same bits.
static struct seat *seat_of(struct pt_regs *regs)
{
	__u32 place;

	// As a pointer it must not be computed with; a copy of half of it is a number.
	asm("%0 = %1" : "=w"(place) : "w"((__u32)(__u64)regs));
	place = (place >> STACK_BITS) * 0x9e3779b1 >> (32 - SEAT_BITS);
	return bpf_map_lookup_elem(&seats, &place);
}

#else

static struct pt_regs *regs_of(struct task_struct *task) { return 0; }
static struct seat *seat_of(struct pt_regs *regs) { return 0; }

#endif

// state_at returns the state of the current task, whose registers these are.
static struct task *state_at(struct pt_regs *regs)
{
	struct seat *seat = seat_of(regs);

	if (seat && seat->regs == (__u64)regs)
		return &seat->task;
	return !seat || seat->crowded ? bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 0) : 0;
}

// recorded_at returns it if the task is recorded by now.
static struct task *recorded_at(struct pt_regs *regs)
{
	struct task *t = state_at(regs);

	return t && !t->armed ? t : 0;
}

static struct task *recorded(void)
{
	return recorded_at(regs_of(bpf_get_current_task_btf()));
}

// Registers, and how the three ABIs of x86 use them.

static enum abi abi_of(struct task_struct *task, long nr)
{
	if (task->thread_info.status & TS_COMPAT)
		return X86;
	return nr >= 0 && nr & X32_BIT ? X32 : AMD64;
}

static __u32 slot_of(enum abi abi, long nr)
{
	__u32 n = abi == X32 ? nr & ~X32_BIT : nr;

	return abi * ABI_SLOTS + (n < ODD ? n : ODD);
}

static void read_args(struct pt_regs *regs, enum abi abi, __u64 args[6])
{
	if (abi == X86) {
		args[0] = (__u32)regs->bx;
		args[1] = (__u32)regs->cx;
		args[2] = (__u32)regs->dx;
		args[3] = (__u32)regs->si;
		args[4] = (__u32)regs->di;
		args[5] = (__u32)regs->bp;
		return;
	}
	args[0] = regs->di;
	args[1] = regs->si;
	args[2] = regs->dx;
	args[3] = regs->r10;
	args[4] = regs->r8;
	args[5] = regs->r9;
}

#ifndef DENIALS_ONLY

// Argument values

static void keep_value(struct argset *set, __u64 value)
{
	if (value == ~0ULL) {
		set->ones = 1;
		return;
	}
	for (int i = 0; i < VALUES; i++) {
		__u64 have = set->values[i];

		if (!have)
			have = __sync_val_compare_and_swap(&set->values[i], 0, value + 1);
		if (!have || have == value + 1)
			return;
	}
	set->more = 1;
}

// keep_value_at is not static so that the verifier looks at it once, not at
// each call.
__attribute__((noinline)) int keep_value_at(__u32 recording, __u32 place, __u64 value)
{
	__u32 i = recording * arg_sets + place;
	struct argset *set = bpf_map_lookup_elem(&argsets, &i);

	if (set)
		keep_value(set, value);
	return 0;
}

static __attribute__((noinline)) int keep_args(struct pt_regs *regs, __u32 recording, __u32 slot)
{
	__u64 args[6], value;
	__u32 place;
	__u8 mask;

	if (slot >= SLOTS || !regs)
		return 0;
	mask = arg_mask[slot];
	place = arg_first[slot];
	read_args(regs, slot >= X86 * ABI_SLOTS ? X86 : AMD64, args);
	if (mask & ARG_MEMORY) {
		if (!bpf_probe_read_user(&value, sizeof(value), (void *)args[0]))
			keep_value_at(recording, place, value);
		return 0;
	}
	for (int i = 0; i < 6; i++) {
		if (!(mask & 1 << i))
			continue;
		value = arg_wide[slot] & 1 << i ? args[i] : (__u32)args[i];
		keep_value_at(recording, place++, value);
	}
	return 0;
}

// Counts

// call is a system call of a recorded task. The programs pass it and not the
// task's state, which lies in either of two maps: for each of those the verifier
// would go through all that follows.
struct call {
	__u32 recording, session;
	__u32 slot, nr;
};

static struct call call_of(struct task *t)
{
	return (struct call){t->recording, t->session, t->slot, t->nr};
}

static void keep_odd(struct call *call, __u32 running, bool blocked)
{
	struct odd_key key = {.session = call->session, .abi = call->slot / ABI_SLOTS, .nr = call->nr};
	struct count none = {};
	struct count *c = bpf_map_lookup_elem(&odds, &key);

	if (!c) {
		bpf_map_update_elem(&odds, &key, &none, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&odds, &key);
	}
	if (!c)
		lose(call->recording, LOST_ODD);
	else
		__sync_fetch_and_add(blocked ? &c->blocked : &c->entered[running & 1], 1);
}

static void see(__u32 recording, __u32 slot)
{
	struct seen *s = bpf_map_lookup_elem(&seen, &recording);

	if (s && slot < SLOTS)
		__sync_fetch_and_or(&s->slots[slot / 64], 1ULL << slot % 64);
}

static void keep_first(__u32 recording, __u32 slot)
{
	__u32 place = recording * SLOTS + slot;
	struct first *f = bpf_map_lookup_elem(&firsts, &place);

	see(recording, slot);
	if (!f || f->taken || __sync_lock_test_and_set(&f->taken, 1))
		return;
	f->time = bpf_ktime_get_ns();
	f->pid = bpf_get_current_pid_tgid() >> 32;
	name_program(f->program);
	bpf_get_current_comm(f->thread, sizeof(f->thread));
}

static void count_blocked(struct task *t)
{
	struct call call = call_of(t);
	__u32 place = call.recording * SLOTS + call.slot;
	struct count *c = bpf_map_lookup_elem(&counts, &place);

	if (c && !c->blocked++)
		see(call.recording, call.slot);
	if (call.slot % ABI_SLOTS == ODD)
		keep_odd(&call, 0, 1);
}

// count_entered counts the call that the task's state names.
static void count_entered(struct task *t, __u32 running, struct pt_regs *regs)
{
	struct call call = call_of(t);
	__u32 place = call.recording * SLOTS + call.slot;
	struct count *c = bpf_map_lookup_elem(&counts, &place);

	if (c && !c->entered[running & 1]++) // nothing comes between: trace points of calls are not preempted
		keep_first(call.recording, call.slot);
	if (call.slot < SLOTS && arg_mask[call.slot])
		keep_args(regs, call.recording, call.slot);
	if (call.slot % ABI_SLOTS == ODD)
		keep_odd(&call, running, 0);
}

// keep_child_flags keeps the flags of clone3, as the kernel used them.
static void keep_child_flags(struct task *t, __u64 flags)
{
	__u32 slot = t->slot;

	if (t->in_call && slot < SLOTS && arg_mask[slot] & ARG_MEMORY)
		keep_value_at(t->recording, arg_first[slot], flags);
}

#else

static void count_entered(struct task *t, __u32 running, struct pt_regs *regs) {}
static void count_blocked(struct task *t) {}
static void keep_child_flags(struct task *t, __u64 flags) {}

#endif

// Denials

static void keep_denial(struct task *t, enum reason reason, __u32 error, bool killed)
{
	struct denial_key key = {.session = t->session, .slot = t->slot, .nr = t->nr};
	struct denial first = {.count = 1};
	struct denial *d;

	key.refused = reason == BY_CAPABILITY ? t->refused : 0;
	key.error = error;
	key.reason = reason;
	key.killed = killed;
	name_program(key.program);
	d = bpf_map_lookup_elem(&denials, &key);
	if (!d) {
		first.time = bpf_ktime_get_ns();
		first.pid = bpf_get_current_pid_tgid() >> 32;
		__builtin_memcpy(first.args, t->args, sizeof(first.args));
		bpf_get_current_comm(first.thread, sizeof(first.thread));
		if (!bpf_map_update_elem(&denials, &key, &first, BPF_NOEXIST))
			return;
		d = bpf_map_lookup_elem(&denials, &key);
	}
	if (!d)
		lose(t->recording, LOST_DENIALS);
	else
		__sync_fetch_and_add(&d->count, 1);
}

// remember keeps the call that the registers show in the task's state.
static void remember(struct task *t, struct pt_regs *regs)
{
	long nr = (int)regs->orig_ax;
	enum abi abi = abi_of(bpf_get_current_task_btf(), nr);

	t->slot = slot_of(abi, nr);
	t->nr = nr;
	read_args(regs, abi, t->args);
}

// sent reports whether a SIGSYS waits for the current task.
static bool sent(void)
{
	return bpf_get_current_task_btf()->pending.signal.sig[0] & 1UL << (SIGSYS - 1);
}

// filtered reports whether a call that did not enter may have been stopped by a
// filter, and not by a tracer that emulates calls (PTRACE_SYSEMU).
static bool filtered(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return task->seccomp.mode && !(task->thread_info.syscall_work &
		1UL << bpf_core_enum_value(enum syscall_work_bit, SYSCALL_WORK_BIT_SYSCALL_EMU));
}

// settle decides what the SIGSYS of a filter was.
static void settle(struct task *t, bool killed)
{
	t->signalled = 0;
	keep_denial(t, BY_SECCOMP, 0, killed);
}

// Trace points of system calls

SEC("tp_btf/sys_enter")
int sys_enter(__u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	struct task *t = recorded_at(regs);
	struct recording *r;

	if (!t)
		return 0;
	r = recording_of(t);
	if (!r)
		return 0;
	if (t->signalled)
		settle(t, 0);
	t->nr = ctx[1];
	t->slot = slot_of(abi_of(bpf_get_current_task_btf(), (int)ctx[1]), (int)ctx[1]);
	t->in_call = 1;
	t->skip_exit = 0;
	t->refused = 0;
	count_entered(t, r->running, regs);
	return 0;
}

// restarts tells that a signal came while the call waited, for instance for the
// answer of a seccomp notification: it is made again, or fails with EINTR
// (include/linux/errno.h, ERESTARTSYS to ERESTART_RESTARTBLOCK).
static bool restarts(long ret)
{
	return ret <= -512 && ret >= -516;
}

SEC("tp_btf/sys_exit")
int sys_exit(__u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	long ret = ctx[1];
	struct task *t = recorded_at(regs);
	bool failed = ret < 0 && ret >= -MAX_ERRNO;

	if (!t)
		return 0;
	if (t->in_call) {
		t->in_call = 0;
		if (t->refused && failed && recording_of(t)) {
			read_args(regs, t->slot >= X86 * ABI_SLOTS ? X86 : AMD64, t->args);
			keep_denial(t, BY_CAPABILITY, -ret, 0);
		}
		return 0;
	}
	if (t->skip_exit) {
		t->skip_exit = 0;
		return 0;
	}
	if (!recording_of(t))
		return 0;
	if (t->signalled)
		settle(t, 0);
	if (!filtered() || restarts(ret))
		return 0;
	// It did not enter: a filter stopped it. With KILL and TRAP a signal is
	// on the way. What succeeded was done by somebody else (USER_NOTIF).
	remember(t, regs);
	count_blocked(t);
	if (sent())
		t->signalled = 1;
	else if (failed)
		keep_denial(t, BY_SECCOMP, -ret, 0);
	return 0;
}

// Capabilities

SEC("tp_btf/cap_capable")
int cap_capable(__u64 *ctx)
{
	const struct cred *cred = (void *)ctx[0];
	struct user_namespace *ns = (void *)ctx[1];
	int cap = ctx[3], ret = ctx[4];
	struct task *t = recorded();
	struct capability none = {}, *c;
	struct capability_key key;

	if (!t || !recording_of(t))
		return 0;
#ifdef DENIALS_ONLY
	if (!ret)
		return 0;
#endif
	__builtin_memset(&key, 0, sizeof(key));
	key.session = t->session;
	key.slot = t->in_call ? t->slot : NO_SLOT;
	key.nr = t->in_call ? t->nr : 0;
	key.user_ns = follow(ns, ns.inum);
	key.cap = cap;
	key.other_cred = cred != follow((struct task_struct *)bpf_get_current_task(), real_cred);
	name_program(key.program);
	if (bpf_get_stack(ctx, key.stack, sizeof(key.stack), 0) < 0)
		lose(t->recording, LOST_STACKS);
	if (ret)
		t->refused |= 1ULL << (cap & 63);
	c = bpf_map_lookup_elem(&capabilities, &key);
	if (!c) {
		bpf_map_update_elem(&capabilities, &key, &none, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&capabilities, &key);
	}
	if (!c)
		lose(t->recording, LOST_CAPABILITIES);
	else
		__sync_fetch_and_add(ret ? &c->refused : &c->granted, 1);
	return 0;
}

// Who is recorded

static struct target *match_id(enum kind kind, __u64 id)
{
	struct target_key key = {.id = id, .kind = kind};

	return bpf_map_lookup_elem(&targets, &key);
}

#ifndef DENIALS_ONLY

// match_cgroup looks for the task's cgroup of v2 and those above it.
static struct target *match_cgroup(struct task_struct *task)
{
	struct css_set *set = follow(task, cgroups);
	struct cgroup *cgroup = follow(set, dfl_cgrp);
	struct cgroup_subsys_state *parent;
	struct target *found;

	for (int i = 0; i < 32 && cgroup; i++) {
		found = match_id(BY_CGROUP, follow(follow(cgroup, kn), id));
		if (found)
			return found;
		parent = follow(cgroup, self.parent);
		cgroup = parent ? follow(parent, cgroup) : 0;
	}
	return 0;
}

static struct target *match_mount_ns(struct task_struct *task)
{
	struct nsproxy *proxy = follow(task, nsproxy); // none: the task ends

	return proxy ? match_id(BY_MOUNT_NS, follow(follow(proxy, mnt_ns), ns.inum)) : 0;
}

static struct target *match_pid_ns(struct task_struct *task)
{
	struct pid *pid = follow(task, thread_pid); // none: the task ends
	struct upid *last;

	if (!pid)
		return 0;
	last = (void *)pid + bpf_core_field_offset(pid->numbers) +
		follow(pid, level) * bpf_core_type_size(struct upid);
	return match_id(BY_PID_NS, follow(follow(last, ns), ns.inum));
}

static struct target *match(struct task_struct *task)
{
	struct target *found = match_cgroup(task);

	if (!found)
		found = match_mount_ns(task);
	if (!found)
		found = match_pid_ns(task);
	return found;
}

// match_family looks for the task's process and those above it.
static struct target *match_family(struct task_struct *task)
{
	for (int i = 0; i < 64 && task; i++) {
		int tgid = follow(task, tgid);
		struct target *found = match_id(BY_PROCESS, tgid);

		if (found || tgid <= 1)
			return found;
		task = follow(task, real_parent);
	}
	return 0;
}

#else

// match looks for the cgroup of v2 of the current task, which task is, and for
// those above it, from the root down: 0 is below the task's own. A target is
// seldom deeper than a few levels; what is below it may be.
static struct target *match(struct task_struct *task)
{
	struct target *found;
	__u64 id;

	for (int level = 1; level <= 16; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			return 0;
		found = match_id(BY_CGROUP, id);
		if (found)
			return found;
	}
	return 0;
}

#endif

// begin keeps the user namespace of the first task.
static void begin(struct task_struct *task, __u32 recording)
{
	struct cred *cred = (void *)follow(task, real_cred);
	struct seen *s = bpf_map_lookup_elem(&seen, &recording);

	if (s && !s->user_ns)
		__sync_val_compare_and_swap(&s->user_ns, 0, follow(follow(cred, user_ns), ns.inum));
}

// take takes the seat, which is free or the task's own.
static bool take(struct seat *seat, struct pt_regs *regs)
{
	return seat->regs == (__u64)regs || !__sync_val_compare_and_swap(&seat->regs, 0, SEAT_TAKEN);
}

// leave frees the seat of a task that ends.
static void leave(struct pt_regs *regs)
{
	struct seat *seat = seat_of(regs);

	if (seat && seat->regs == (__u64)regs)
		seat->regs = 0;
}

// enlist makes the task's state, or renews what a recording that has ended left.
static void enlist(struct task_struct *task, __u32 recording, __u32 session, bool armed)
{
	struct task state = {.recording = recording, .session = session, .armed = armed};
	struct pt_regs *regs = regs_of(task);
	struct seat *seat = seat_of(regs);
	struct task *t;

	state.skip_exit = 1;
	if (seat && take(seat, regs)) {
		seat->task = state;
		__sync_lock_test_and_set(&seat->regs, (__u64)regs); // after all the rest
		return;
	}
	if (seat)
		seat->crowded = 1;
	t = bpf_task_storage_get(&tasks, task, &state, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t) // another recorder made the task's first storage at this moment (EAGAIN)
		t = bpf_task_storage_get(&tasks, task, &state, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t)
		lose(recording, LOST_TASKS);
	else if (t->session != session)
		*t = state;
}

SEC("tp_btf/task_newtask")
int task_newtask(__u64 *ctx)
{
	struct task_struct *child = (void *)ctx[0];
	struct task *t = state_at(regs_of(bpf_get_current_task_btf()));

	leave(regs_of(child)); // who had its stack and could not be seen to end
	if (!t || !recording_of(t))
		return 0;
	enlist(child, t->recording, t->session, t->armed);
	keep_child_flags(t, ctx[1]);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int sched_process_exec(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0]; // the current one
	struct task *t = state_at(regs_of(bpf_get_current_task_btf()));
	struct recording *r = t ? recording_of(t) : 0;
	struct target *target;

	if (r) {
		if (t->armed)
			begin(task, t->recording);
		t->armed = 0;
		return 0;
	}
	target = match(task);
	if (!target)
		return 0;
	enlist(task, target->recording, target->session, 0);
	begin(task, target->recording);
	return 0;
}

// ended keeps what a task died of.
static void ended(struct task_struct *task, struct task *t)
{
	bool killed = (task->exit_code & 0x7f) == SIGSYS;

	if (t->signalled) {
		settle(t, killed);
	} else if (killed && !t->in_call && !(follow(follow(task, signal), flags) & SIGNAL_GROUP_EXIT)) {
		// KILL_THREAD of one of several threads: it ends within the
		// filter, with no sys_exit.
		remember(t, (void *)bpf_task_pt_regs(task));
		count_blocked(t);
		keep_denial(t, BY_SECCOMP, 0, 1);
	}
}

SEC("tp_btf/sched_process_exit")
int sched_process_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0]; // the current one
	struct pt_regs *regs = regs_of(task);
	struct task *t = recorded_at(regs);

	if (t && recording_of(t))
		ended(task, t);
	leave(regs);
	return 0;
}

#ifndef DENIALS_ONLY

// seed takes in the tasks that are there at the start, and writes a byte for each.
SEC("iter/task")
int seed(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct pt_regs *regs;
	struct target *target;
	struct seat *seat;
	struct task *t;
	char mark = 0;

	if (!task || task->flags & (PF_KTHREAD | PF_EXITING))
		return 0;
	regs = regs_of(task);
	seat = seat_of(regs);
	t = seat && seat->regs == (__u64)regs ? &seat->task : bpf_task_storage_get(&tasks, task, 0, 0);
	if (t && recording_of(t))
		return 0;
	target = match(task);
	if (target && target->at_exec)
		return 0;
	if (!target)
		target = match_family(task);
	if (!target)
		return 0;
	enlist(task, target->recording, target->session, target->at_exec);
	if (task->flags & PF_EXITING) // it may have left before it was there
		leave(regs);
	if (!target->at_exec)
		begin(task, target->recording);
	bpf_seq_write(ctx->meta->seq, &mark, sizeof(mark));
	return 0;
}

#endif
