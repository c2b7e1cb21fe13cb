#define _GNU_SOURCE
/*
 * Plain descriptors of pools, as asap_open() gives them: each scenario is an argument.
 * Servers are echo_server (sessions of rsp_*) or plain_server (TCP). Prints what it sees; ends with 0 if that is right.
 */
#include <asap.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("line %d: %s: errno %d (%s), %s\n", __LINE__, #condition, errno, strerror(errno),         \
                   asap_last_error());                                                                       \
            fflush(stdout);                                                                                  \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static int open_descriptors(void)
{
    int open = 0;
    for (int fd = 0; fd < 4096; fd++)
        open += fcntl(fd, F_GETFD) >= 0;
    return open;
}

/* Sockets that are connected: streams, and whatever carries them or links to registrars. */
static int connected(void)
{
    int found = 0;
    for (int fd = 0; fd < 4096; fd++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        found += getpeername(fd, (struct sockaddr *)&peer, &size) == 0;
    }
    return found;
}

static void say(const char *what)
{
    printf("%s\n", what);
    fflush(stdout);
}

/* Waits for a line of standard input: the test has done its part. */
static void await(void)
{
    char line[64];
    CHECK(fgets(line, sizeof line, stdin) != NULL);
}

static void send_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);
        CHECK(n > 0);
        data += n;
        length -= (size_t)n;
    }
}

static void read_all(int fd, char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = read(fd, data, length);
        CHECK(n > 0);
        data += n;
        length -= (size_t)n;
    }
}

static void echo(int fd, const char *text)
{
    char answer[64] = "";
    send_all(fd, text, strlen(text));
    read_all(fd, answer, strlen(text));
    CHECK(strcmp(answer, text) == 0);
}

/* stdio, sendfile, half-close, large data in both directions, close, and nothing left. */
static void use(const char *name)
{
    static char out[1 << 20], in[1 << 20];
    CHECK(rsp_initialize(NULL) == 0);
    rsp_cleanup();
    int before = open_descriptors(), fd = asap_open(name, 0), at_first;
    CHECK(fd >= 0);
    /* But the stream's two ends and what carries it. */
    at_first = connected() - 3;
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    echo(fd, "hello");
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    CHECK(asap_getpeername(fd, (struct sockaddr *)&peer, &length) == 0);
    CHECK(peer.ss_family == AF_INET || peer.ss_family == AF_INET6);

    FILE *stream = fdopen(dup(fd), "r+");
    char line[64];
    CHECK(stream && fprintf(stream, "a line\n") == 7 && fflush(stream) == 0);
    CHECK(fgets(line, sizeof line, stream) && strcmp(line, "a line\n") == 0);
    fclose(stream);

    FILE *file = tmpfile();
    CHECK(file && fwrite("from a file", 11, 1, file) == 1 && fflush(file) == 0);
    off_t start = 0;
    CHECK(sendfile(fd, fileno(file), &start, 11) == 11);
    read_all(fd, line, 11);
    CHECK(memcmp(line, "from a file", 11) == 0);
    fclose(file);

    for (size_t n = 0; n < sizeof out; n++)
        out[n] = (char)(n * 7 + n / 251);
    pid_t writer = fork();
    CHECK(writer >= 0);
    if (writer == 0) {
        send_all(fd, out, sizeof out);
        _exit(0);
    }
    read_all(fd, in, sizeof in);
    CHECK(memcmp(in, out, sizeof in) == 0);
    int status;
    CHECK(waitpid(writer, &status, 0) == writer && status == 0);
    CHECK(close(fd) == 0);

    /* The link to the registrar is left, once the last byte is written. */
    for (int tries = 0; tries < 6000 && connected() > at_first; tries++)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    CHECK(connected() == at_first);
    rsp_cleanup();
    CHECK(open_descriptors() == before);
}

/* The server ends its data, the program ends its own before: as plain TCP does. */
static void half_close(const char *name)
{
    int fd = asap_open(name, 0), idle = asap_open(name, 0);
    char answer[64];
    CHECK(fd >= 0 && idle >= 0);
    send_all(fd, "all of it", 9);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    read_all(fd, answer, 9);
    CHECK(memcmp(answer, "all of it", 9) == 0);
    /* Of a stream on which nothing happens but that: what carries it is at rest by now. */
    echo(idle, "before");
    CHECK(poll(NULL, 0, 100) == 0);
    CHECK(shutdown(idle, SHUT_WR) == 0);
    CHECK(read(idle, answer, sizeof answer) == 0);
    CHECK(close(idle) == 0);
    /* The echo server closes at the end of the data. */
    CHECK(read(fd, answer, sizeof answer) == 0);
    CHECK(close(fd) == 0);
}

/* After the element was killed: the data, then ECONNRESET once, shown by poll, select and epoll. */
static void reset(const char *name)
{
    signal(SIGPIPE, SIG_IGN);
    int fd = asap_open(name, 0), other = asap_open(name, 0), third = asap_open(name, 0);
    CHECK(fd >= 0 && other >= 0 && third >= 0);
    echo(fd, "before");
    echo(other, "before");
    echo(third, "before");
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
    say("ready");
    CHECK(epoll_wait(set, &event, 1, 60000) == 1);
    CHECK(event.events & EPOLLERR && event.events & EPOLLHUP && event.events & EPOLLIN);
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    CHECK(poll(&polled, 1, 0) == 1 && polled.revents & POLLERR);
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(fd, &readable);
    CHECK(select(fd + 1, &readable, NULL, NULL, NULL) == 1);
    char buffer[16];
    CHECK(read(fd, buffer, sizeof buffer) == -1 && errno == ECONNRESET);
    CHECK(read(fd, buffer, sizeof buffer) == 0);
    CHECK(write(fd, "x", 1) == -1 && errno == EPIPE);
    int error = 0;
    socklen_t size = sizeof error;
    polled.fd = other;
    CHECK(poll(&polled, 1, 60000) == 1);
    CHECK(getsockopt(other, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == ECONNRESET);
    CHECK(recv(third, buffer, sizeof buffer, 0) == -1 && errno == ECONNRESET);
    close(set);
    close(fd);
    close(other);
    close(third);
}

/* The stream goes on at another element. */
static void resume(const char *name)
{
    int fd = asap_open(name, 0);
    CHECK(fd >= 0);
    echo(fd, "before");
    say("ready");
    await();
    echo(fd, "after");
    say("went on");
    CHECK(close(fd) == 0);
}

/* Not waiting for an element: writable when there is one; ECONNRESET when there is none. */
static void nonblocking(const char *name)
{
    int fd = asap_open(name, SOCK_NONBLOCK);
    CHECK(fd >= 0 && fcntl(fd, F_GETFL) & O_NONBLOCK);
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    CHECK(poll(&polled, 1, 60000) == 1 && polled.revents == POLLOUT);
    CHECK(write(fd, "hello", 5) == 5);
    polled.events = POLLIN;
    CHECK(poll(&polled, 1, 60000) == 1);
    char answer[16];
    CHECK(read(fd, answer, sizeof answer) == 5 && memcmp(answer, "hello", 5) == 0);
    close(fd);
    fd = asap_open("pool://Nobody?timeout=60s", SOCK_NONBLOCK);
    polled.fd = fd;
    polled.events = POLLOUT;
    CHECK(fd >= 0 && poll(&polled, 1, 60000) == 1 && polled.revents & POLLERR);
    int error = 0;
    socklen_t size = sizeof error;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == ECONNRESET);
    close(fd);
    CHECK(asap_open("pool://Nobody?timeout=60s", 0) == -1 && errno == ENOENT);
}

/* Nobody reads at the other end: writing stops, and goes on when it does. */
static void back_pressure(const char *name)
{
    static char piece[65536];
    int fd = asap_open(name, SOCK_NONBLOCK);
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    size_t sent = 0, got = 0;
    CHECK(fd >= 0);
    /* The echo server stops reading when its answers are not read. */
    while (sent < ((size_t)1 << 30) && poll(&polled, 1, 2000) == 1) {
        ssize_t n = write(fd, piece, sizeof piece);
        CHECK(n > 0 || errno == EAGAIN);
        sent += n > 0 ? (size_t)n : 0;
    }
    printf("stopped after %zu bytes\n", sent);
    CHECK(sent < ((size_t)1 << 28));
    polled.events = POLLIN;
    while (got < sent) {
        CHECK(poll(&polled, 1, 60000) == 1);
        ssize_t n = read(fd, piece, sizeof piece);
        CHECK(n > 0 || (n == -1 && errno == EAGAIN));
        got += n > 0 ? (size_t)n : 0;
    }
    polled.events = POLLOUT;
    CHECK(poll(&polled, 1, 60000) == 1);
    close(fd);
}

static int connect_to(const char *host, int family, int flags, int *fd)
{
    struct addrinfo hints = {.ai_family = family, .ai_flags = AI_ADDRCONFIG}, *list;
    CHECK(asap_getaddrinfo(host, "7", &hints, &list) == 0 && list && !list->ai_next);
    CHECK(list->ai_socktype == SOCK_STREAM && list->ai_family == (family ? family : AF_INET));
    if (*fd < 0)
        *fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    int done = asap_connect(*fd, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return done;
}

/* The calls that asap/sockets.h puts in the place of others: what they say, and that they leave nothing. */
static void sockets(const char *name)
{
    CHECK(rsp_initialize(NULL) == 0);
    rsp_cleanup();
    int before = open_descriptors(), fd = -1, error = 0, yes = 1;
    CHECK(connect_to(name, AF_UNSPEC, SOCK_CLOEXEC, &fd) == 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC && !(fcntl(fd, F_GETFL) & O_NONBLOCK));
    echo(fd, "hello");
    CHECK(connect_to(name, AF_UNSPEC, 0, &fd) == -1 && errno == EISCONN);
    CHECK(asap_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0);
    CHECK(asap_setsockopt(fd, SOL_SOCKET, -1, &yes, sizeof yes) == -1 && errno == ENOPROTOOPT);
    echo(fd, "again");
    struct sockaddr_in6 peer;
    socklen_t length = sizeof peer;
    CHECK(asap_getpeername(fd, (struct sockaddr *)&peer, &length) == 0);
    CHECK(peer.sin6_family == AF_INET && length == sizeof(struct sockaddr_in));
    CHECK(close(fd) == 0);

    fd = -1;
    CHECK(connect_to(name, AF_INET6, SOCK_NONBLOCK, &fd) == -1 && errno == EINPROGRESS);
    CHECK(!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    CHECK(poll(&polled, 1, 60000) == 1 && polled.revents == POLLOUT);
    length = sizeof error;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0);
    CHECK(close(fd) == 0);

    fd = -1;
    CHECK(connect_to("pool://Nobody?timeout=60s", AF_INET, 0, &fd) == -1 && errno == ECONNREFUSED);
    CHECK(close(fd) == 0);
    fd = -1;
    CHECK(connect_to("pool://Nobody?timeout=60s", AF_INET, SOCK_NONBLOCK, &fd) == -1 && errno == EINPROGRESS);
    polled.fd = fd;
    CHECK(poll(&polled, 1, 60000) == 1);
    CHECK(connect_to("pool://Nobody?timeout=60s", AF_INET, 0, &fd) == -1 && errno == ECONNRESET);
    CHECK(close(fd) == 0);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(connect_to(name, AF_INET, 0, &fd) == -1 && errno == EPROTONOSUPPORT);
    CHECK(close(fd) == 0);
    fd = 4000; /* not open */
    CHECK(connect_to(name, AF_INET, 0, &fd) == -1 && errno == EBADF);

    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *list;
    CHECK(asap_getaddrinfo(name, NULL, &hints, &list) == EAI_SOCKTYPE);
    CHECK(asap_getaddrinfo("pool://P?timeout=soon", NULL, NULL, &list) == EAI_NONAME);
    CHECK(strstr(asap_last_error(), "soon"));
    CHECK(asap_gethostbyname("pool://") == NULL && h_errno == HOST_NOT_FOUND);
    struct hostent *host = asap_gethostbyname(name);
    CHECK(host && host->h_addrtype == AF_INET && (unsigned char)host->h_addr_list[0][0] == 240);
    rsp_cleanup();
    CHECK(open_descriptors() == before);
}

/* What code, environment and file say of one setting, seen before and after a call with a name. */
static void settings(const char *name)
{
    int time = 0;
    socklen_t size = sizeof time;
    if (rsp_initialize(NULL) < 0) {
        printf("errno %d: %s\n", errno, asap_last_error());
        return;
    }
    int sd = rsp_socket(0, SOCK_STREAM, 0);
    CHECK(sd >= 0 && rsp_getsockopt(sd, SOL_RSERPOOL, RSP_CONNECT_TIMEOUT, &time, &size) == 0);
    printf("at first %d\n", time);
    CHECK(rsp_connect(sd, (const unsigned char *)name, strlen(name), 0) == -1);
    printf("%s\n", asap_last_error());
    CHECK(rsp_getsockopt(sd, SOL_RSERPOOL, RSP_CONNECT_TIMEOUT, &time, &size) == 0);
    printf("then %d\n", time);
}

/* Many at once. */
static void many(const char *name)
{
    enum { MANY = 1000 };
    static int all[MANY];
    for (int n = 0; n < MANY; n++) {
        all[n] = asap_open(name, 0);
        CHECK(all[n] >= 0);
    }
    for (int round = 0; round < 3; round++) {
        for (int n = 0; n < MANY; n++)
            send_all(all[n], "ping", 4);
        for (int n = 0; n < MANY; n++) {
            char answer[4];
            read_all(all[n], answer, 4);
            CHECK(memcmp(answer, "ping", 4) == 0);
        }
    }
    for (int n = 0; n < MANY; n++)
        close(all[n]);
}

/* What was written before the process ended arrives: the test looks at the server. */
static void last_words(const char *name)
{
    int fd = asap_open(name, 0);
    CHECK(fd >= 0);
    send_all(fd, "last words\n", 11);
    exit(0);
}

/* A child goes on with a stream for as long as its parent lives, has none of the library's descriptors, and may open its own. */
static void forked(const char *name)
{
    int fd = asap_open(name, 0), status, pipes[2];
    CHECK(fd >= 0 && pipe(pipes) == 0);
    echo(fd, "parent");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        echo(fd, "child");
        CHECK(connected() == 1);
        int own = asap_open(name, 0);
        CHECK(own >= 0);
        echo(own, "own");
        close(own);
        close(fd);
        rsp_cleanup();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    echo(fd, "parent");
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        /* A grandchild whose parent has ended: as if the server had been killed. */
        if (fork() == 0) {
            char byte;
            close(pipes[1]);
            CHECK(read(pipes[0], &byte, 1) == 0);
            ssize_t n = read(fd, &byte, 1);
            say(n == -1 && errno == ECONNRESET ? "orphan reset" : "orphan wrong");
            _exit(0);
        }
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    fflush(stdout);
    /* Nothing is cleaned up: as if killed. */
    _exit(0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(const char *);
    } scenarios[] = {{"use", use},         {"half_close", half_close}, {"reset", reset},
                     {"resume", resume},   {"nonblocking", nonblocking}, {"back_pressure", back_pressure},
                     {"many", many},       {"last_words", last_words}, {"forked", forked},
                     {"settings", settings}, {"sockets", sockets}};
    CHECK(argc == 3);
    for (size_t n = 0; n < sizeof scenarios / sizeof scenarios[0]; n++) {
        if (strcmp(argv[1], scenarios[n].name) == 0) {
            scenarios[n].run(argv[2]);
            rsp_cleanup();
            say("done");
            return 0;
        }
    }
    printf("there is no scenario %s\n", argv[1]);
    return 1;
}
