/*
 * echo_server: one server of a pool; it sends back what it gets. Start as many as you like.
 *
 *     echo_server [-registrar=ADDRESS:PORT] [POOL]
 */
#define _POSIX_C_SOURCE 200809L
#include <asap.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

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

int main(int argc, char **argv) {
    const char *pool = "EchoPool";
    struct rsp_info info;
    rsp_initinfo(&info);
    for (int i = 1; i < argc; i++) {
        if (rsp_initarg(&info, argv[i])) {
            continue; /* the library's, and in info now */
        }
        if (argv[i][0] == '-') { /* if it was the library's, there is a sentence on what is wrong */
            fprintf(stderr, "usage: echo_server [-registrar=ADDRESS:PORT] [POOL]\n%s\n",
                    asap_last_error());
            return 2;
        }
        pool = argv[i];
    }
    struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: waiting ends with EINTR */
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
    printf("element 0x%08x of pool %s\n", (unsigned)id, pool);
    fflush(stdout);

    while (!stopped) {
        static char buffer[65536];
        struct rsp_sndrcvinfo from;
        int flags = 0;
        ssize_t got = rsp_recvfullmsg(sd, buffer, sizeof(buffer), &from, &flags, 1000);
        if (got < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                continue;
            }
            return fail("rsp_recvfullmsg");
        }
        if (flags & (MSG_RSERPOOL_NOTIFICATION | MSG_RSERPOOL_COOKIE_ECHO)) {
            continue; /* sessions come and go; an echo has no state to restore */
        }
        /* All sessions arrive on this one socket: answer to the one it came from. */
        uint32_t session = from.rinfo_session;
        if (rsp_sendmsg(sd, buffer, (size_t)got, 0, session, from.rinfo_ppid, from.rinfo_stream, 0, 0,
                        1000) < 0) {
            fprintf(stderr, "session %u: %s\n", (unsigned)session, asap_last_error());
        }
    }
    rsp_close(sd); /* ends the registration, too */
    rsp_cleanup();
    return 0;
}
