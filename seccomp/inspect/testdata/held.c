/* Prints its process ID, waits for input, and prints how many signals came. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t count;

static void note(int sig) { count += sig > 0; }

int main(void)
{
	struct sigaction act;
	char c;

	memset(&act, 0, sizeof act);
	act.sa_handler = note;
	if (sigaction(40, &act, NULL))
		return 1;
	printf("%d\n", getpid());
	fflush(stdout);
	while (read(0, &c, 1) < 0)
		if (errno != EINTR)
			return 1;
	printf("signals: %d\n", (int)count);
	return 0;
}
