/*
 * epoll_client: many sessions with a pool in an event loop of the program's own. A descriptor
 * of the library is one of the kernel: readable means "call rsp_recvmsg", also for failovers;
 * its number stays the same whatever server it is connected to.
 *
 *     epoll_client [-registrar=ADDRESS:PORT] [-pool=NAME] [-sessions=N] [-rounds=N]
 */
#define _DEFAULT_SOURCE
#include <asap.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* After a failed rsp_* call: the sentence says what failed, what was tried, what to do. */
static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, asap_last_error());
    return 1;
}

static int ask(int sd, int round) {
    char text[32];
    int length = snprintf(text, sizeof(text), "round %d", round);
    return rsp_sendmsg(sd, text, (size_t)length, 0, 0, 0, 0, 0, 0, 1000) < 0 ? -1 : 0;
}

int main(int argc, char **argv) {
    const char *pool = "EchoPool";
    int sessions = 10, rounds = 10;
    struct rsp_info info;
    rsp_initinfo(&info);
    for (int i = 1; i < argc; i++) {
        if (rsp_initarg(&info, argv[i])) {
            continue;
        } else if (strncmp(argv[i], "-pool=", 6) == 0) {
            pool = argv[i] + 6;
        } else if (strncmp(argv[i], "-sessions=", 10) == 0) {
            sessions = atoi(argv[i] + 10);
        } else if (strncmp(argv[i], "-rounds=", 8) == 0) {
            rounds = atoi(argv[i] + 8);
        } else {
            fprintf(stderr, "unknown: %s %s\n", argv[i], asap_last_error());
            return 2;
        }
    }
    if (sessions < 1 || rounds < 1) {
        fprintf(stderr, "sessions and rounds: at least 1\n");
        return 2;
    }
    if (rsp_initialize(&info) < 0) {
        return fail("rsp_initialize");
    }
    rsp_freeinfo(&info);

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int *done = calloc((size_t)sessions, sizeof(int));  /* rounds done by each session */
    int *sds = calloc((size_t)sessions, sizeof(int));
    if (epoll < 0 || done == NULL || sds == NULL) {
        perror("epoll_client");
        return 1;
    }
    for (int i = 0; i < sessions; i++) {
        int on = 1;
        int sd = sds[i] = rsp_socket(0, SOCK_SEQPACKET, 0);
        if (sd < 0 || rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, sizeof(on)) < 0 ||
            /* 1000: a look-up of the last second will do */
            rsp_connect(sd, (const unsigned char *)pool, strlen(pool), 1000) < 0) {
            return fail("rsp_connect");
        }
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, sd, &event) < 0) {
            perror("epoll_ctl");
            return 1;
        }
        if (ask(sd, 0) < 0) {
            return fail("rsp_sendmsg");
        }
    }

    int finished = 0, moved = 0;
    while (finished < sessions) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, 30000);
        if (ready <= 0) {
            fprintf(stderr, "nothing happens\n");
            return 1;
        }
        for (int e = 0; e < ready; e++) {
            int i = (int)events[e].data.u32;
            union {
                char bytes[256];
                union rserpool_notification notification;
            } in;
            int flags = 0;
            ssize_t got = rsp_recvmsg(sds[i], &in, sizeof(in), NULL, &flags, 0); /* never waits */
            if (got < 0 && errno == EAGAIN) {
                continue; /* readable means "look", not "there is something" */
            }
            if (got <= 0) {
                return fail("rsp_recvmsg");
            }
            if (flags & MSG_RSERPOOL_NOTIFICATION) {
                if (in.notification.rn_header.rn_type == RSERPOOL_FAILOVER &&
                    in.notification.rn_failover.rf_state == RSERPOOL_FAILOVER_COMPLETE) {
                    moved++;
                    if (done[i] < rounds && ask(sds[i], done[i]) < 0) {
                        return fail("rsp_sendmsg");
                    }
                }
                continue;
            }
            int round = -1;
            in.bytes[(size_t)got < sizeof(in.bytes) ? (size_t)got : sizeof(in.bytes) - 1] = '\0';
            if (sscanf(in.bytes, "round %d", &round) != 1 || round != done[i]) {
                continue; /* a second answer to something asked twice */
            }
            if (++done[i] == rounds) {
                finished++;
            } else if (ask(sds[i], done[i]) < 0) {
                return fail("rsp_sendmsg");
            }
        }
    }
    printf("%d sessions, %d rounds each, %d failovers\n", sessions, rounds, moved);
    for (int i = 0; i < sessions; i++) {
        rsp_close(sds[i]);
    }
    free(done);
    free(sds);
    rsp_cleanup();
    return 0;
}
