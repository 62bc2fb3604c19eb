// A program that makes many kinds of system calls, for the tests.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <netdb.h>
#include <pwd.h>
#include <time.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/resource.h>
#include <semaphore.h>
#include <grp.h>
#include <poll.h>
#include <dirent.h>
static int pick(int argc) { return argc > 1 ? SYS_getppid : SYS_gettid; }
static void on(int s) { (void)s; }
static void *th(void *p) { struct timespec t = {0, 1000000}; nanosleep(&t, 0); syscall(SYS_gettid); return p; }
int main(int argc, char **argv, char **env) {
  pthread_t t; pthread_create(&t, 0, th, 0);
  struct sigaction sa = {0}; sa.sa_handler = on; sigaction(SIGUSR1, &sa, 0); sigaction(SIGALRM, &sa, 0);
  raise(SIGUSR1); kill(getpid(), SIGUSR1); alarm(100); alarm(0);
  syscall(pick(argc)); syscall(SYS_getcpu, 0, 0, 0);
  long (*f)(long, ...) = 0; (void)f;
  setgid(getgid()); setuid(getuid()); setgroups(0, 0);
  struct addrinfo *ai; getaddrinfo("localhost", "80", 0, &ai);
  getpwuid(getuid());
  int s = socket(AF_INET, SOCK_STREAM, 0); listen(s, 1); close(s);
  char *a[] = {"true", 0}; pid_t p; posix_spawnp(&p, "true", 0, 0, a, env); waitpid(p, 0, 0);
  system("exit 3");
  if (fork() == 0) _exit(0); wait(0);
  void *m = mmap(0, 4096, 3, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0); mremap(m, 4096, 8192, MREMAP_MAYMOVE);
  int e = epoll_create1(0); struct epoll_event ev; epoll_wait(e, &ev, 1, 1);
  struct stat st; stat("/", &st); fstat(1, &st); mkdir("d", 0700); rmdir("d");
  FILE *o = fopen("x", "w"); fprintf(o, "hi\n"); fflush(o); ftruncate(fileno(o), 1); fclose(o); rename("x", "y"); unlink("y");
  DIR *d = opendir("."); readdir(d); closedir(d);
  struct rlimit rl; getrlimit(RLIMIT_NOFILE, &rl); setpriority(0, 0, 1);
  struct pollfd pf = {0, POLLIN, 0}; poll(&pf, 1, 1);
  sem_t sem; sem_init(&sem, 0, 1); sem_wait(&sem);
  pthread_join(t, 0); sleep(0); sched_yield(); abort();
}
