#define _POSIX_C_SOURCE 200809L
/*
 * An ordinary chat client on poll(2): says its standard input, prints what it hears, and connects again when its server is lost.
 *
 *     poll_client HOST PORT
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A non-blocking connection to the first address that takes one; -1: to none. */
static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *next;
    int fd = -1, failed = getaddrinfo(host, port, &hints, &list);
    if (failed) {
        fprintf(stderr, "%s: %s\n", host, gai_strerror(failed));
        exit(2);
    }
    for (next = list; next; next = next->ai_next) {
        int error = 0, yes = 1;
        socklen_t size = sizeof error;
        fd = socket(next->ai_family, next->ai_socktype, next->ai_protocol);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        if (connect(fd, next->ai_addr, next->ai_addrlen) < 0 && errno != EINPROGRESS)
            error = errno;
        struct pollfd polled = {.fd = fd, .events = POLLOUT};
        if (!error && (poll(&polled, 1, -1) < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0))
            error = errno;
        if (!error && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0)
            break;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    return fd;
}

static void say_where(int fd)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    char port[16];
    if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0 &&
        getnameinfo((struct sockaddr *)&peer, length, NULL, 0, port, sizeof port, NI_NUMERICSERV) == 0)
        printf("connected to %s\n", port);
}

int main(int argc, char **argv)
{
    char data[512];
    if (argc != 3)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        int fd = dial(argv[1], argv[2]);
        if (fd < 0)
            continue;
        say_where(fd);
        struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
        for (;;) {
            if (poll(polled, 2, -1) < 0)
                continue;
            if (polled[0].revents) {
                ssize_t got = read(fd, data, sizeof data);
                if (got == 0 || (got < 0 && errno != EAGAIN))
                    break;
                if (got > 0)
                    fwrite(data, 1, (size_t)got, stdout);
            }
            if (polled[1].revents) {
                ssize_t got = read(STDIN_FILENO, data, sizeof data);
                if (got <= 0)
                    return close(fd);
                if (write(fd, data, (size_t)got) != got)
                    break;
            }
        }
        close(fd);
        printf("lost\n");
    }
}
