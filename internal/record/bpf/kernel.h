// The parts of the kernel's own types that the programs read. Only names count:
// where the running kernel has a field is put in when the programs are loaded
// (CO-RE), so the order and the fields left out here do not matter.
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef _Bool bool;

struct ns_common {
	unsigned int inum;
};

struct user_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct pid_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

struct kernfs_node {
	__u64 id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct cred {
	struct user_namespace *user_ns;
};

struct signal_struct {
	unsigned int flags;
};

struct thread_info {
	unsigned long syscall_work;
	__u32 status;
};

enum syscall_work_bit {
	SYSCALL_WORK_BIT_SYSCALL_EMU = 3,
};

struct seccomp {
	int mode;
};

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct sigpending {
	sigset_t signal;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int exit_code;
	int pid;
	int tgid;
	char comm[16];
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct pid *thread_pid;
	const struct cred *real_cred;
	const struct cred *cred;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct seccomp seccomp;
	struct sigpending pending;
};

// arch/x86/include/asm/ptrace.h
struct pt_regs {
	unsigned long bp, bx, r8, r9, r10, ax, cx, dx, si, di, orig_ax;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#define TS_COMPAT 0x0002          // arch/x86/include/asm/thread_info.h: a call of i386
#define PF_KTHREAD 0x00200000     // include/linux/sched.h
#define PF_EXITING 0x00000004     // include/linux/sched.h
#define SIGNAL_GROUP_EXIT 0x4     // include/linux/sched/signal.h
#define X32_BIT 0x40000000        // arch/x86/include/uapi/asm/unistd.h
#define SIGSYS 31
#define MAX_ERRNO 4095
