/*
 * fork_server: an echo server that forks for each connection, and is an element of a pool. The parent has the listening socket and
 * the registration; a child has its connection and nothing of the pool, and outlives the parent.
 *
 *     fork_server [NAME]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <asap.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void stop(int sig) {
    (void)sig;
    stopped = 1;
}

static void serve(int fd) {
    char data[4096];
    ssize_t got;
    while ((got = read(fd, data, sizeof(data))) > 0) {
        for (ssize_t sent = 0, n; sent < got; sent += n) {
            n = write(fd, data + sent, (size_t)(got - sent));
            if (n <= 0) {
                return;
            }
        }
    }
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "pool://EchoPool";
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sigset_t ending, before;
    if (listening < 0 || bind(listening, (struct sockaddr *)&any, sizeof(any)) < 0 ||
        listen(listening, 128) < 0) {
        perror("fork_server");
        return 1;
    }
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_BLOCK, &ending, &before); /* but while it waits for clients */
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* nobody waits for children: they leave nothing behind */
    if (asap_serve(listening, name, NULL, 0) < 0) {
        fprintf(stderr, "asap_serve: %s\n", asap_last_error());
        return 1;
    }
    printf("serving %s\n", name);
    fflush(stdout);

    while (!stopped) {
        struct pollfd client = {.fd = listening, .events = POLLIN};
        int fd = ppoll(&client, 1, NULL, &before) == 1 ? accept(listening, NULL, NULL) : -1;
        if (fd < 0) {
            continue; /* SIGTERM, or a client that is gone already */
        }
        pid_t child = fork();
        if (child == 0) {
            close(listening); /* or clients would still be let in here when the parent is dead */
            signal(SIGTERM, SIG_DFL);
            sigprocmask(SIG_SETMASK, &before, NULL);
            printf("child %ld\n", (long)getpid());
            fflush(stdout);
            serve(fd);
            exit(0); /* the element is the parent's, and stays in its pool */
        }
        if (child < 0) {
            perror("fork");
        }
        close(fd);
    }
    asap_unserve(listening); /* out of the pool before clients are refused; children end when their clients do */
    return 0;
}
