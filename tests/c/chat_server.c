#define _GNU_SOURCE
/*
 * An ordinary chat server: what one says, all hear. It knows nothing of pools; tests/adopting.rs compiles it twice.
 *
 *     chat_server ADDRESS PORT
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 64, LINE = 512 };

struct client {
    int fd;
    size_t length;
    char line[LINE];
};

static struct client clients[CLIENTS];
static int epoll;

static void drop(struct client *client)
{
    printf("gone: %d\n", client->fd);
    close(client->fd);
    client->fd = -1;
}

/* To all; who does not take it at once is dropped. */
static void tell(const char *line, size_t length)
{
    for (int n = 0; n < CLIENTS; n++)
        if (clients[n].fd >= 0 && send(clients[n].fd, line, length, MSG_NOSIGNAL) != (ssize_t)length)
            drop(&clients[n]);
}

static void hear(struct client *client)
{
    ssize_t got = recv(client->fd, client->line + client->length, LINE - client->length, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        drop(client);
        return;
    }
    client->length += (size_t)got;
    char *end;
    while ((end = memchr(client->line, '\n', client->length)) || client->length == LINE) {
        size_t length = end ? (size_t)(end - client->line) + 1 : LINE;
        tell(client->line, length);
        client->length -= length;
        memmove(client->line, client->line + length, client->length);
    }
}

static void welcome(int listening)
{
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    for (int n = 0; fd >= 0 && n < CLIENTS; n++) {
        if (clients[n].fd < 0) {
            clients[n] = (struct client){.fd = fd};
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[n]};
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
            printf("new: %d\n", fd);
            return;
        }
    }
    close(fd);
}

int main(int argc, char **argv)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *list;
    struct sockaddr_storage at;
    socklen_t length = sizeof at;
    char port[16];
    if (argc != 3 || getaddrinfo(argv[1], argv[2], &hints, &list) != 0)
        return 2;
    int fd = socket(list->ai_family, list->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, list->ai_protocol);
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, 16) < 0) {
        perror("chat_server");
        return 1;
    }
    freeaddrinfo(list);
    getsockname(fd, (struct sockaddr *)&at, &length);
    getnameinfo((struct sockaddr *)&at, length, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("port %s\n", port);
    for (int n = 0; n < CLIENTS; n++)
        clients[n].fd = -1;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN}, ready[16];
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    for (;;) {
        int count = epoll_wait(epoll, ready, 16, -1);
        for (int n = 0; n < count; n++) {
            struct client *client = ready[n].data.ptr;
            if (client == NULL)
                welcome(fd);
            else if (client->fd >= 0)
                hear(client);
        }
    }
}
