/*
 * libseccomp makes a filter with libseccomp in the order of calls in which runc
 * does it: rules by name and native number, not exactly.
 *
 *	libseccomp linear|tree
 *
 * reads lines:
 *
 *	policy DEFAULT
 *	arch NAME                beside the native one
 *	rule ACTION NAME N {INDEX OP VALUE VALUE2}...
 *	end
 *
 * with actions as the kernel's numbers in hexadecimal, values in decimal, and
 * OP as in enum scmp_compare, and answers with a line: the library's version.
 * For each further line it compiles once more and answers with a line
 * "NANOSECONDS BYTES" and then the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* SCMP_FLTATR_CTL_OPTIMIZE, since 2.5.0 */
#define BINARY_TREE 2

struct rule {
	unsigned action, n;
	char name[64];
	struct scmp_arg_cmp args[6];
};

static struct rule rules[4096];
static char archs[8][16];
static size_t rule_count, arch_count;
static unsigned default_action;

static void fail(const char *what, int rc)
{
	fprintf(stderr, "libseccomp: %s: %s\n", what, strerror(rc < 0 ? -rc : errno));
	exit(1);
}

static void read_rule(void)
{
	struct rule *r = &rules[rule_count];
	if (rule_count++ == sizeof(rules) / sizeof(*rules))
		fail("too many rules", -E2BIG);
	if (scanf("%x %63s %u", &r->action, r->name, &r->n) != 3 || r->n > 6)
		fail("read a rule", -EINVAL);
	for (unsigned i = 0; i < r->n; i++) {
		int op;
		if (scanf("%u %d %lu %lu", &r->args[i].arg, &op, &r->args[i].datum_a, &r->args[i].datum_b) != 4)
			fail("read a condition", -EINVAL);
		r->args[i].op = op;
	}
}

static void read_policy(void)
{
	char word[16];
	while (scanf("%15s", word) == 1) {
		if (strcmp(word, "policy") == 0) {
			if (scanf("%x", &default_action) != 1)
				fail("policy", -EINVAL);
		} else if (strcmp(word, "arch") == 0) {
			if (arch_count == 8 || scanf("%15s", archs[arch_count++]) != 1)
				fail("arch", -EINVAL);
		} else if (strcmp(word, "rule") == 0) {
			read_rule();
		} else if (strcmp(word, "end") == 0) {
			return;
		} else {
			fail(word, -EINVAL);
		}
	}
	fail("read the policy", -EINVAL);
}

static scmp_filter_ctx compile(int tree, int fd)
{
	int rc;
	scmp_filter_ctx ctx = seccomp_init(default_action);
	if (!ctx)
		fail("init", -EINVAL);
	if (tree && (rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, BINARY_TREE)) != 0)
		fail("ask for a binary tree", rc);
	for (size_t i = 0; i < arch_count; i++)
		if ((rc = seccomp_arch_add(ctx, seccomp_arch_resolve_name(archs[i]))) != 0)
			fail(archs[i], rc);
	for (size_t i = 0; i < rule_count; i++) {
		struct rule *r = &rules[i];
		int nr = seccomp_syscall_resolve_name(r->name);
		if (nr == __NR_SCMP_ERROR)
			continue; /* runc skips it, too */
		if ((rc = seccomp_rule_add_array(ctx, r->action, nr, r->n, r->args)) != 0)
			fail(r->name, rc);
	}
	if ((rc = seccomp_export_bpf(ctx, fd)) != 0)
		fail("export", rc);
	return ctx;
}

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

int main(int argc, char **argv)
{
	const struct scmp_version *v = seccomp_version();
	int tree = argc > 1 && strcmp(argv[1], "tree") == 0;
	read_policy();
	while (getchar() != '\n')
		;
	printf("%u.%u.%u\n", v->major, v->minor, v->micro);
	fflush(stdout);
	int fd = memfd_create("filter", 0);
	if (fd < 0)
		fail("memfd_create", 0);
	for (int c; (c = getchar()) != EOF;) {
		static char program[4096 * 8];
		if (c != '\n')
			continue;
		if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0)
			fail("truncate", 0);
		long start = now();
		scmp_filter_ctx ctx = compile(tree, fd);
		long took = now() - start;
		seccomp_release(ctx);
		ssize_t size = pread(fd, program, sizeof(program), 0);
		if (size < 0)
			fail("read the program", 0);
		printf("%ld %zd\n", took, size);
		fwrite(program, size, 1, stdout);
		fflush(stdout);
	}
	return 0;
}
