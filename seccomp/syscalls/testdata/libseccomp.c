/*
 * libseccomp prints what libseccomp's tables say: for each argument
 * "ARCH FIRST LAST", with libseccomp's name of an architecture, a line
 * "ARCH NUMBER NAME" for every number in that range that has a name.
 */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char name[32];
		unsigned first, last;
		if (sscanf(argv[i], "%31s %u %u", name, &first, &last) != 3)
			return 2;
		uint32_t arch = seccomp_arch_resolve_name(name);
		if (arch == 0) {
			fprintf(stderr, "libseccomp does not know %s\n", name);
			return 1;
		}
		for (unsigned nr = first; nr <= last; nr++) {
			char *call = seccomp_syscall_resolve_num_arch(arch, nr);
			if (call)
				printf("%s %u %s\n", name, nr, call);
			free(call);
		}
	}
	return 0;
}
