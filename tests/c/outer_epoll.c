/*
 * Two thousand sessions in a process that already has five thousand descriptors, all in one outer epoll; then the server is killed, and all of them are told, the
 * outer epoll wakes up for each, and all go on at another server. poll(2) and select(2) wake up as well, before and after.
 *
 *     outer_epoll POOL SESSIONS DESCRIPTORS
 *
 * Prints "ready" when all sessions have had an answer; reads a line when the server is being killed.  Exit status 0 if all is as it should be.
 */
#define _GNU_SOURCE
#include <asap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static int die(const char *what) {
    printf("%s: %s (%s)\n", what, asap_last_error(), strerror(errno));
    exit(1);
}

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static int connected_socket(const char *pool) {
    int on = 1, sd = rsp_socket(0, SOCK_SEQPACKET, 0);
    if (sd < 0 || rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, sizeof(on)) < 0) {
        die("rsp_socket");
    }
    /* A look-up of the last minute will do: two thousand times the same question. */
    if (rsp_connect(sd, (const unsigned char *)pool, strlen(pool), 60000) < 0) {
        die("rsp_connect");
    }
    return sd;
}

/* Receives what there is: bit 0 data came, bit 1 the session has moved. */
static int take(int sd) {
    int seen = 0;
    for (;;) {
        union {
            char bytes[256];
            union rserpool_notification notification;
        } in;
        int flags = 0;
        ssize_t got = rsp_recvmsg(sd, &in, sizeof(in), NULL, &flags, 0);
        if (got < 0 && errno == EAGAIN) {
            return seen;
        }
        if (got <= 0) {
            die("rsp_recvmsg");
        }
        if (!(flags & MSG_RSERPOOL_NOTIFICATION)) {
            seen |= 1;
        } else if (in.notification.rn_header.rn_type == RSERPOOL_FAILOVER &&
                   in.notification.rn_failover.rf_state == RSERPOOL_FAILOVER_COMPLETE) {
            seen |= 2;
        }
    }
}

/* Waits until poll(2) and select(2) both find the descriptor readable, and takes what there is until `want` has come. */
static void wait_both(int sd, int want) {
    int seen = 0;
    double until = now_ms() + 60000;
    while (!(seen & want)) {
        struct pollfd entry = {sd, POLLIN, 0};
        struct timeval rest = {60, 0};
        fd_set set;
        if (now_ms() > until) {
            die("poll or select did not wake up");
        }
        if (poll(&entry, 1, 60000) != 1) {
            die("poll did not wake up");
        }
        FD_ZERO(&set);
        FD_SET(sd, &set);
        if (select(sd + 1, &set, NULL, NULL, &rest) != 1 || !FD_ISSET(sd, &set)) {
            die("select did not wake up");
        }
        seen |= take(sd);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    const char *pool = argv[1];
    int sessions = atoi(argv[2]), descriptors = atoi(argv[3]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t need = (rlim_t)(descriptors + 4 * sessions + 200);
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < need) {
        printf("skipped: the limit of descriptors is %lu, this takes %lu\n", (unsigned long)limit.rlim_max, (unsigned long)need);
        return 77;
    }
    limit.rlim_cur = need;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        die("setrlimit");
    }
    if (rsp_initialize(NULL) < 0) {
        die("rsp_initialize");
    }
    int low = connected_socket(pool); /* below 1024: for select */
    for (int i = 0; i < descriptors; i++) {
        if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) {
            die("open");
        }
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int *sds = calloc((size_t)sessions, sizeof(int)), *state = calloc((size_t)sessions, sizeof(int));
    double begun = now_ms();
    for (int i = 0; i < sessions; i++) {
        sds[i] = connected_socket(pool);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, sds[i], &event) < 0 || rsp_write(sds[i], "before", 6) < 0) {
            die("epoll_ctl or rsp_write");
        }
    }
    if (low >= 1024 || sds[0] < descriptors || rsp_write(low, "before", 6) < 0) {
        die("descriptors are not as meant");
    }
    wait_both(low, 1);
    printf("connected in %.0f ms\n", now_ms() - begun);

    /* Each session goes through three states: had its answer, was told of the failover, had the answer of the next server. */
    static const int want[3] = {1, 2, 1};
    int reached[4] = {sessions, 0, 0, 0};
    double killed = 0;
    for (int round = 1; round <= 3; round++) {
        while (reached[round] < sessions) {
            struct epoll_event events[256];
            int ready = epoll_wait(epoll, events, 256, 60000);
            if (ready <= 0) {
                printf("round %d: the outer epoll does not wake up, %d sessions of %d\n", round, reached[round], sessions);
                return 1;
            }
            for (int e = 0; e < ready; e++) {
                int i = (int)events[e].data.u32, seen = take(sds[i]);
                if (state[i] < 3 && seen & want[state[i]]) {
                    reached[++state[i]]++;
                }
                if (state[i] == 2 && seen & 2 && rsp_write(sds[i], "after", 5) < 0) { /* also if it has to move twice */
                    die("rsp_write");
                }
            }
        }
        if (round == 1) {
            char line[16];
            printf("ready\n");
            fflush(stdout);
            if (fgets(line, sizeof(line), stdin) == NULL) { /* the server is killed now */
                return 1;
            }
            killed = now_ms();
        } else {
            printf("%s after %.0f ms\n", round == 2 ? "all told" : "all answered by another server", now_ms() - killed);
        }
    }
    wait_both(low, 2);
    if (rsp_write(low, "after", 5) < 0) {
        die("rsp_write");
    }
    wait_both(low, 1);
    for (int i = 0; i < sessions; i++) {
        rsp_close(sds[i]);
    }
    rsp_close(low);
    rsp_cleanup();
    free(sds);
    free(state);
    return 0;
}
