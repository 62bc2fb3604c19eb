/*
 * peer makes filters with libseccomp, in the way in which runc does: rules are
 * added by the native number of their call, not exactly.
 *
 * "peer tables" prints a line "ARCH NUMBER NAME" for each system call that
 * libseccomp knows. Without an argument it reads lines:
 *
 *	policy DEFAULT           start a filter, for the native architecture
 *	arch NAME                add one, by libseccomp's name
 *	rule ACTION NAME N {INDEX OP VALUE VALUE2}...
 *	end                      write the filter
 *
 * with actions as the kernel's numbers in hexadecimal, values in decimal, and
 * OP as in enum scmp_compare. A filter is a u32 number of bytes and its
 * instructions; 0 if libseccomp refuses two rules with the same conditions and
 * different actions.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int refused; /* the policy */

static void fail(const char *what, int rc)
{
	fprintf(stderr, "peer: %s: %s\n", what, strerror(rc < 0 ? -rc : errno));
	exit(1);
}

static void tables(void)
{
	static const char *archs[] = {"x86_64", "x86", "x32", "arm", "aarch64", "mips", "mips64", "mips64n32",
				      "ppc", "ppc64le", "s390", "s390x", "riscv64", "parisc"};
	for (size_t i = 0; i < sizeof(archs) / sizeof(*archs); i++) {
		uint32_t arch = seccomp_arch_resolve_name(archs[i]);
		int bit = strcmp(archs[i], "x32") == 0 ? 1 << 30 : 0;
		for (int nr = -300; nr < 0xf0010; nr = nr == 7000 ? 0xf0000 : nr + 1) {
			char *name = seccomp_syscall_resolve_num_arch(arch, nr < 0 ? nr : nr | bit);
			if (name)
				printf("%s %d %s\n", archs[i], nr < 0 ? nr : nr | bit, name);
			free(name);
		}
	}
}

static void rule(scmp_filter_ctx ctx)
{
	unsigned action, n;
	char name[64];
	struct scmp_arg_cmp args[6];
	if (scanf("%x %63s %u", &action, name, &n) != 3 || n > 6)
		fail("read a rule", 0);
	for (unsigned i = 0; i < n; i++) {
		int op;
		if (scanf("%u %d %lu %lu", &args[i].arg, &op, &args[i].datum_a, &args[i].datum_b) != 4)
			fail("read an argument", 0);
		args[i].op = op;
	}
	int nr = seccomp_syscall_resolve_name(name);
	if (nr == __NR_SCMP_ERROR)
		return; /* runc skips it, too */
	int rc = seccomp_rule_add_array(ctx, action, nr, n, args);
	if (rc == -EEXIST)
		refused = 1;
	else if (rc != 0)
		fail(name, rc);
}

static void export(scmp_filter_ctx ctx)
{
	int fd = memfd_create("filter", 0);
	if (fd < 0)
		fail("memfd_create", 0);
	int rc = seccomp_export_bpf(ctx, fd);
	if (rc != 0)
		fail("export", rc);
	uint32_t size = lseek(fd, 0, SEEK_END);
	void *bpf = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (bpf == MAP_FAILED)
		fail("mmap", 0);
	if (refused)
		size = 0;
	fwrite(&size, sizeof(size), 1, stdout);
	fwrite(bpf, size, 1, stdout);
	close(fd);
}

int main(int argc, char **argv)
{
	scmp_filter_ctx ctx = NULL;
	char word[16];
	alarm(120); /* libseccomp does not end on some sets of rules */
	if (argc > 1 && strcmp(argv[1], "tables") == 0) {
		tables();
		return 0;
	}
	while (scanf("%15s", word) == 1) {
		if (strcmp(word, "policy") == 0) {
			unsigned action;
			if (scanf("%x", &action) != 1 || !(ctx = seccomp_init(action)))
				fail("policy", 0);
			refused = 0;
		} else if (strcmp(word, "arch") == 0) {
			char name[16];
			if (scanf("%15s", name) != 1)
				fail("arch", 0);
			int rc = seccomp_arch_add(ctx, seccomp_arch_resolve_name(name));
			if (rc != 0 && rc != -EEXIST)
				fail(name, rc);
		} else if (strcmp(word, "rule") == 0) {
			rule(ctx);
		} else if (strcmp(word, "end") == 0) {
			export(ctx);
			seccomp_release(ctx);
		} else {
			fail(word, 0);
		}
	}
	return 0;
}
