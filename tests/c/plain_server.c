#define _GNU_SOURCE
/*
 * A server that knows nothing of pools but one call: plain TCP, poll(2), echo, on a socket of its own. SIGUSR1 makes it say that it is not
 * well, again that it is; SIGUSR2 closes its listening socket; SIGTERM ends it.
 *
 *     plain_server NAME [print]      print: says what it gets instead of sending it back
 */
#include <arpa/inet.h>
#include <asap.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLIENTS = 2048, ROOM = 16384 };

static volatile sig_atomic_t ill, ended, closing;

static void on_signal(int number)
{
    if (number == SIGUSR1)
        ill = !ill;
    else if (number == SIGUSR2)
        closing = 1;
    else
        ended = 1;
}

static int health(int fd, struct rsp_loadinfo *load, void *user)
{
    (void)fd;
    (void)load;
    (void)user;
    return ill ? -1 : 0;
}

struct client {
    int fd;
    size_t length, sent;
    char data[ROOM];
};

/* Reads into an empty buffer, writes a full one; 0: it is over. */
static int serve(struct client *client, short events, int print)
{
    if (client->length == 0 && events & (POLLIN | POLLHUP | POLLERR)) {
        ssize_t n = read(client->fd, client->data, print ? ROOM - 1 : ROOM);
        if (n <= 0)
            return 0;
        if (print) {
            client->data[n] = 0;
            printf("got %s", client->data);
            fflush(stdout);
            return 1;
        }
        client->length = (size_t)n;
        client->sent = 0;
    }
    while (client->length > client->sent) {
        ssize_t n = send(client->fd, client->data + client->sent, client->length - client->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN;
        client->sent += (size_t)n;
    }
    client->length = 0;
    return 1;
}

int main(int argc, char **argv)
{
    static struct client clients[CLIENTS];
    static struct pollfd polled[CLIENTS + 1];
    struct sigaction action = {.sa_handler = on_signal};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct asap_serve_config config = {
        .asc_size = sizeof config, .asc_health = health, .asc_health_interval = 50};
    int listening = socket(AF_INET, SOCK_STREAM, 0), count = 0;
    int print = argc > 2 && strcmp(argv[2], "print") == 0;
    for (int number = 0; number < 4; number++)
        sigaction((int[]){SIGUSR1, SIGUSR2, SIGTERM, SIGINT}[number], &action, NULL);
    if (argc < 2 || bind(listening, (struct sockaddr *)&at, sizeof at) < 0 || listen(listening, 1024) < 0)
        return 2;
    if (asap_serve(listening, argv[1], &config, 0) < 0) {
        printf("%s\n", asap_last_error());
        return 1;
    }
    printf("element of %s\n", argv[1]);
    fflush(stdout);
    while (!ended) {
        if (closing && listening >= 0) {
            close(listening);
            listening = -1;
            printf("closed\n");
            fflush(stdout);
        }
        polled[0] = (struct pollfd){.fd = count < CLIENTS ? listening : -1, .events = POLLIN};
        for (int n = 0; n < count; n++) {
            short events = clients[n].length ? POLLOUT : POLLIN;
            polled[n + 1] = (struct pollfd){.fd = clients[n].fd, .events = events};
        }
        int served = count;
        if (poll(polled, (nfds_t)served + 1, -1) < 0)
            continue;
        for (int n = served - 1; n >= 0; n--) {
            if (polled[n + 1].revents && !serve(&clients[n], polled[n + 1].revents, print)) {
                close(clients[n].fd);
                clients[n] = clients[--count];
            }
        }
        if (polled[0].revents & POLLIN) {
            int fd = accept(listening, NULL, NULL);
            if (fd >= 0)
                clients[count++] = (struct client){.fd = fd};
        }
    }
    /* Returning from main takes it out of its pool. */
    return 0;
}
