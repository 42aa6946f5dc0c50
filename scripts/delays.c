/* Delays in system calls, to be loaded with LD_PRELOAD: `make delays` runs the tests with them.
 *
 * A test that takes for granted how far another thread or process has come fails now and then on a busy machine. Here it
 * fails often. DELAYS names the calls:
 *
 *   all       now and then each of them, most often those that begin or end a process, a thread or a connection
 *   fork, exec, exit, thread, connect, accept, send
 *             always this one, for the time in `kinds`
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct kind {
    const char *name;
    unsigned one_in;        /* with `all` */
    long most_microseconds; /* with `all`; by itself half of it, always */
};

enum { FORK, EXEC, EXIT, THREAD, CONNECT, ACCEPT, SEND, RECEIVE, WRITE, READ, CLOSE, WAIT };

static const struct kind kinds[] = {
    [FORK] = {"fork", 2, 600000},
    [EXEC] = {"exec", 3, 600000},
    [EXIT] = {"exit", 3, 500000},
    [THREAD] = {"thread", 3, 100000},
    [CONNECT] = {"connect", 6, 100000},
    [ACCEPT] = {"accept", 6, 100000},
    [SEND] = {"send", 100, 8000},
    [RECEIVE] = {"receive", 100, 60000},
    [WRITE] = {"write", 150, 60000},
    [READ] = {"read", 1000, 60000},
    [CLOSE] = {"close", 400, 60000},
    [WAIT] = {"wait", 100, 60000},
};

static __thread uint64_t state;

static uint64_t draw(void)
{
    if (!state) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        state = (uint64_t)now.tv_nsec * 6364136223846793005ULL ^ (uint64_t)getpid() << 32 ^ (uintptr_t)&state;
        state |= 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void nap(long microseconds)
{
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    int kept = errno;
    nanosleep(&time, NULL);
    errno = kept;
}

static void delay(int which)
{
    const struct kind *kind = &kinds[which];
    const char *wanted = getenv("DELAYS");
    if (wanted && strcmp(wanted, "all")) {
        if (!strcmp(wanted, kind->name))
            nap(kind->most_microseconds / 2);
    } else if (draw() % kind->one_in == 0) {
        long most = draw() % 3 ? kind->most_microseconds / 8 : kind->most_microseconds;
        nap(1 + draw() % most);
    }
}

#define REAL(name)                                       \
    static __typeof__(&name) real;                       \
    if (!real)                                           \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

pid_t fork(void)
{
    REAL(fork);
    pid_t child = real();
    if (child == 0) {
        state = 0; /* or all children would draw alike */
        delay(FORK);
    }
    return child;
}

int execve(const char *path, char *const arguments[], char *const environment[])
{
    REAL(execve);
    delay(EXEC);
    return real(path, arguments, environment);
}

void _exit(int code)
{
    REAL(_exit);
    delay(EXIT);
    real(code);
    __builtin_unreachable();
}

struct start {
    void *(*function)(void *);
    void *argument;
};

static void *run(void *given)
{
    struct start start = *(struct start *)given;
    free(given);
    delay(THREAD);
    return start.function(start.argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
    REAL(pthread_create);
    struct start *start = malloc(sizeof *start);
    *start = (struct start){function, argument};
    return real(thread, attributes, run, start);
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    REAL(connect);
    delay(CONNECT);
    return real(fd, address, length);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    REAL(accept4);
    int accepted = real(fd, address, length, flags);
    if (accepted >= 0)
        delay(ACCEPT);
    return accepted;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    REAL(send);
    delay(SEND);
    return real(fd, data, size, flags);
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    REAL(recv);
    delay(RECEIVE);
    return real(fd, data, size, flags);
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    ssize_t written = real(fd, data, size);
    delay(WRITE);
    return written;
}

ssize_t read(int fd, void *data, size_t size)
{
    REAL(read);
    delay(READ);
    return real(fd, data, size);
}

int close(int fd)
{
    REAL(close);
    delay(CLOSE);
    return real(fd);
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout)
{
    REAL(epoll_wait);
    int count = real(fd, events, most, timeout);
    if (count > 0)
        delay(WAIT);
    return count;
}
