/*
 * stateful_client: sends numbered requests to a pool of stateful_server, one at a time, and checks
 * every reply by computing the running hash itself. Kill the servers: each failover is printed with
 * its gap, and a request lost, processed twice or answered wrongly makes it fail.
 *
 *     stateful_client [-registrar=ADDRESS:PORT] [-pool=NAME] [-requests=N] [-pause=MICROSECONDS]
 *                     [-machine]
 *
 * SIGTERM and SIGINT end it after the request under way. Its exit status is 0 only if every request
 * was answered rightly. -machine prints lines for programs: "connected ID", "progress N ID" twice a
 * second, "failover COUNT FROM TO GAP_MS REQUEST", "summary NAME=NUMBER ...".
 */
#define _DEFAULT_SOURCE
#include "stateful.h"
#include <asap.h>
#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t stopped;
static int machine;
static uint64_t requests = 1000;
static long pause_us;
static uint64_t in_flight;                      /* the request without reply */
static uint64_t resent, repeated, replayed, wrong;
static uint64_t failovers;
static double gap_least = 1e300, gap_most, gap_sum;
static double last_reply, lost_at = -1;         /* ms; lost_at: when the present failover began */
static double slowest;                          /* ms from the first sending of a request to its reply */
static struct rsp_failover_info moved;

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static void stop(int sig) {
    (void)sig;
    stopped = 1;
}

/* After a failed rsp_* call: the sentence says what failed, what was tried, what to do. */
static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, asap_last_error());
    return 1;
}

static void on_failover(int sd, const struct rsp_failover_info *failover, void *user) {
    (void)sd;
    (void)user;
    moved = *failover;
}

/* The gap the user feels: from the loss of the server to the first reply after it. */
static void note_gap(double gap) {
    failovers++;
    gap_sum += gap;
    gap_least = gap < gap_least ? gap : gap_least;
    gap_most = gap > gap_most ? gap : gap_most;
    printf(machine ? "failover %llu 0x%08x 0x%08x %.3f %llu\n"
                   : "failover %llu: from element 0x%08x to 0x%08x, %.1f ms without a server (request %llu)\n",
           (unsigned long long)failovers, (unsigned)moved.rfi_from, (unsigned)moved.rfi_to, gap,
           (unsigned long long)in_flight);
    fflush(stdout);
}

static int send_request(int sd, uint64_t number) {
    struct request request = {htobe64(number), htobe64(number * 0x9e3779b97f4a7c15u)};
    return rsp_sendmsg(sd, &request, sizeof(request), 0, 0, 0, 0, 0, 0, 30000) < 0 ? -1 : 0;
}

/* Waits for the reply to request `number`, which is to carry `hash`. -1: given up. */
static int await_reply(int sd, uint64_t number, uint64_t hash) {
    for (;;) {
        union {
            struct reply reply;
            union rserpool_notification notification;
            char room[1024];
        } in;
        struct rsp_sndrcvinfo from;
        int flags = 0;
        ssize_t got = rsp_recvfullmsg(sd, &in, sizeof(in), &from, &flags, 30000);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return -1;
        }
        if (flags & MSG_RSERPOOL_NOTIFICATION) {
            if (in.notification.rn_header.rn_type != RSERPOOL_FAILOVER) {
                continue;
            }
            if (in.notification.rn_failover.rf_state == RSERPOOL_FAILOVER_NECESSARY) {
                lost_at = lost_at < 0 ? now_ms() : lost_at;
            } else if (send_request(sd, number) < 0) { /* there is a new server: ask it */
                return -1;
            } else {
                resent++;
            }
            continue;
        }
        if (flags & (MSG_RSERPOOL_COOKIE_ECHO | MSG_RSERPOOL_UNDELIVERED) ||
            got != sizeof(in.reply)) {
            continue;
        }
        uint64_t answered = be64toh(in.reply.number);
        if (answered < number && be64toh(in.reply.kind) != REFUSED) {
            repeated++; /* a second answer to a request that was sent twice */
            continue;
        }
        if (answered != number || be64toh(in.reply.hash) != hash) {
            wrong++;
            fprintf(stderr, "WRONG: request %llu answered as %llu, hash %016llx instead of %016llx\n",
                    (unsigned long long)number, (unsigned long long)answered,
                    (unsigned long long)be64toh(in.reply.hash), (unsigned long long)hash);
        }
        replayed += be64toh(in.reply.kind) == REPLAYED;
        last_reply = now_ms();
        if (lost_at >= 0) {
            note_gap(last_reply - lost_at);
            lost_at = -1;
        }
        return 0;
    }
}

int main(int argc, char **argv) {
    const char *pool = "StatefulPool";
    struct rsp_info info;
    rsp_initinfo(&info);
    for (int i = 1; i < argc; i++) {
        if (rsp_initarg(&info, argv[i])) {
            continue;
        } else if (strncmp(argv[i], "-pool=", 6) == 0) {
            pool = argv[i] + 6;
        } else if (strncmp(argv[i], "-requests=", 10) == 0) {
            requests = strtoull(argv[i] + 10, NULL, 10);
        } else if (strncmp(argv[i], "-pause=", 7) == 0) {
            pause_us = strtol(argv[i] + 7, NULL, 10);
        } else if (strcmp(argv[i], "-machine") == 0) {
            machine = 1;
        } else {
            fprintf(stderr, "unknown: %s %s\n", argv[i], asap_last_error());
            return 2;
        }
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    if (rsp_initialize(&info) < 0) {
        return fail("rsp_initialize");
    }
    rsp_freeinfo(&info);
    int sd = rsp_socket(0, SOCK_SEQPACKET, 0);
    int on = 1;
    if (sd < 0 || rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, sizeof(on)) < 0 ||
        rsp_set_failover_callback(sd, on_failover, NULL) < 0) {
        return fail("rsp_socket");
    }
    if (rsp_connect(sd, (const unsigned char *)pool, strlen(pool), 0) < 0) {
        return fail("rsp_connect");
    }
    uint32_t id = 0;
    rsp_getpeername(sd, NULL, NULL, &id);
    printf(machine ? "connected 0x%08x\n" : "connected to element 0x%08x\n", (unsigned)id);
    fflush(stdout);

    uint64_t hash = 0, asked = 0, answered = 0;
    double begun = now_ms(), told = begun;
    for (in_flight = 1; in_flight <= requests && !stopped; in_flight++) {
        asked = in_flight;
        hash = hash_more(hash, in_flight, in_flight * 0x9e3779b97f4a7c15u);
        double sent = now_ms();
        if (send_request(sd, in_flight) < 0 || await_reply(sd, in_flight, hash) < 0) {
            fprintf(stderr, "LOST: no reply to request %llu: %s\n", (unsigned long long)in_flight,
                    asap_last_error());
            break;
        }
        answered++;
        slowest = last_reply - sent > slowest ? last_reply - sent : slowest;
        if (machine && last_reply - told > 500) {
            told = last_reply;
            rsp_getpeername(sd, NULL, NULL, &id);
            printf("progress %llu 0x%08x\n", (unsigned long long)in_flight, (unsigned)id);
            fflush(stdout);
        }
        if (pause_us > 0) {
            struct timespec pause = {pause_us / 1000000, pause_us % 1000000 * 1000};
            nanosleep(&pause, NULL);
        }
    }
    uint64_t lost = asked - answered;
    printf(machine ? "summary requests=%llu answered=%llu lost=%llu wrong=%llu resent=%llu "
                     "replayed=%llu repeated=%llu failovers=%llu "
                     "gap_min_ms=%.3f gap_mean_ms=%.3f gap_max_ms=%.3f slowest_ms=%.3f seconds=%.3f\n"
                   : "%llu requests, %llu answered, %llu lost, %llu wrong; %llu sent again, "
                     "%llu of these answered from the cookie, %llu answered twice; "
                     "%llu failovers, gap %.1f / %.1f / %.1f ms (least / mean / most); "
                     "slowest reply %.1f ms; %.1f s\n",
           (unsigned long long)asked, (unsigned long long)answered, (unsigned long long)lost,
           (unsigned long long)wrong, (unsigned long long)resent, (unsigned long long)replayed,
           (unsigned long long)repeated, (unsigned long long)failovers, failovers ? gap_least : 0,
           failovers ? gap_sum / (double)failovers : 0, gap_most, slowest, (now_ms() - begun) / 1e3);
    rsp_close(sd);
    rsp_cleanup();
    return lost == 0 && wrong == 0 ? 0 : 1;
}
