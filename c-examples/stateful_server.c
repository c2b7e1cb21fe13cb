/*
 * stateful_server: counts its client's requests and hashes them, and keeps nothing: the state
 * travels with the client, in the session's cookie. So it can be killed at any moment, and
 * another server goes on with the same client:
 *
 *   - The cookie with the state after request n is sent BEFORE the reply to n, on the same
 *     connection. A client that has the reply has the cookie. Killed before the cookie left:
 *     the next server knows n-1, and the client sends n again, which is processed.
 *   - Killed between cookie and reply: the next server knows n already, and the client sends n
 *     again: it is answered from the state, not processed a second time.
 *
 *     stateful_server [-registrar=ADDRESS:PORT] [-pool=NAME]
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
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void stop(int sig) {
    (void)sig;
    stopped = 1;
}

/* After a failed rsp_* call: the sentence says what failed, what was tried, what to do. */
static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, asap_last_error());
    return 1;
}

/* The states of the sessions, by session number: small numbers, used again. */
static struct state *states;
static size_t states_count;

static struct state *state_of(uint32_t session) {
    if (session >= states_count) {
        size_t count = (size_t)session * 2 + 16;
        struct state *more = realloc(states, count * sizeof(*states));
        if (more == NULL) {
            abort();
        }
        memset(more + states_count, 0, (count - states_count) * sizeof(*states));
        states = more;
        states_count = count;
    }
    return &states[session];
}

static void answer(int sd, uint32_t session, const struct request *request) {
    struct state *state = state_of(session);
    uint64_t number = be64toh(request->number);
    enum reply_kind kind = REFUSED; /* a gap: something is lost */
    if (number == state->number + 1) {
        kind = PROCESSED;
        state->hash = hash_more(state->hash, number, be64toh(request->value));
        state->number = number;
    } else if (number == state->number && number > 0) {
        kind = REPLAYED;
    }
    struct state cookie = {htobe64(state->number), htobe64(state->hash)};
    struct reply reply = {htobe64(state->number), htobe64(state->hash), htobe64(kind)};
    if (rsp_send_cookie(sd, (const unsigned char *)&cookie, sizeof(cookie), session, 1000) < 0 ||
        rsp_sendmsg(sd, &reply, sizeof(reply), 0, session, 0, 0, 0, 0, 1000) < 0) {
        fprintf(stderr, "session %u: %s\n", (unsigned)session, asap_last_error());
    }
}

int main(int argc, char **argv) {
    const char *pool = "StatefulPool";
    struct rsp_info info;
    rsp_initinfo(&info);
    for (int i = 1; i < argc; i++) {
        if (rsp_initarg(&info, argv[i])) {
            continue;
        }
        if (strncmp(argv[i], "-pool=", 6) != 0) {
            fprintf(stderr, "unknown: %s %s\n", argv[i], asap_last_error());
            return 2;
        }
        pool = argv[i] + 6;
    }
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    if (rsp_initialize(&info) < 0) {
        return fail("rsp_initialize");
    }
    rsp_freeinfo(&info);
    int sd = rsp_socket(0, SOCK_SEQPACKET, 0);
    if (sd < 0) {
        return fail("rsp_socket");
    }
    struct rsp_loadinfo load = {.rli_policy = PPT_ROUNDROBIN};
    if (rsp_register(sd, (const unsigned char *)pool, strlen(pool), &load, 0, 0) < 0) {
        return fail("rsp_register");
    }
    uint32_t id = 0;
    rsp_getsockname(sd, NULL, NULL, &id);
    printf("element 0x%08x pid %ld pool %s\n", (unsigned)id, (long)getpid(), pool);
    fflush(stdout);

    while (!stopped) {
        union {
            struct request request;
            struct state cookie;
            union rserpool_notification notification;
            char room[1024];
        } in;
        struct rsp_sndrcvinfo from;
        int flags = 0;
        ssize_t got = rsp_recvfullmsg(sd, &in, sizeof(in), &from, &flags, 1000);
        if (got < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                continue;
            }
            return fail("rsp_recvfullmsg");
        }
        if (flags & MSG_RSERPOOL_NOTIFICATION) {
            if (in.notification.rn_header.rn_type == RSERPOOL_SESSION_CHANGE) {
                /* A new session, or the number of an old one free for the next. */
                struct state *state = state_of(in.notification.rn_session_change.rsc_session);
                memset(state, 0, sizeof(*state));
            }
        } else if (flags & MSG_RSERPOOL_COOKIE_ECHO) {
            if (got == sizeof(in.cookie)) { /* it comes before anything else of that session */
                struct state *state = state_of(from.rinfo_session);
                state->number = be64toh(in.cookie.number);
                state->hash = be64toh(in.cookie.hash);
            }
        } else if (got == sizeof(in.request)) {
            answer(sd, from.rinfo_session, &in.request);
        }
    }
    rsp_close(sd);
    rsp_cleanup();
    free(states);
    return 0;
}
