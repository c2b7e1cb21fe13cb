/*
 * echo_client: sends each line of its input to a server of the pool and prints the answer. Kill the
 * server: the next one answers.
 *
 *     echo_client [-registrar=ADDRESS:PORT] [POOL]
 */
#define _POSIX_C_SOURCE 200809L
#include <asap.h>
#include <stdio.h>
#include <string.h>

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
            fprintf(stderr, "usage: echo_client [-registrar=ADDRESS:PORT] [POOL]\n%s\n",
                    asap_last_error());
            return 2;
        }
        pool = argv[i];
    }
    if (rsp_initialize(&info) < 0) {
        return fail("rsp_initialize");
    }
    rsp_freeinfo(&info);

    int sd = rsp_socket(0, SOCK_SEQPACKET, 0);
    if (sd < 0) {
        return fail("rsp_socket");
    }
    int on = 1; /* otherwise rsp_forcefailover() is ours to call on RSERPOOL_FAILOVER_NECESSARY */
    if (rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, sizeof(on)) < 0) {
        return fail("rsp_setsockopt");
    }
    if (rsp_connect(sd, (const unsigned char *)pool, strlen(pool), 0) < 0) {
        return fail("rsp_connect");
    }

    char line[4096];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        size_t length = strcspn(line, "\n");
        if (length == 0) {
            continue;
        }
        if (rsp_sendmsg(sd, line, length, 0, 0, 0, 0, 0, 0, 5000) < 0) {
            return fail("rsp_sendmsg");
        }
        for (;;) {
            union {
                char bytes[4096];
                union rserpool_notification notification;
            } in;
            struct rsp_sndrcvinfo from;
            int flags = 0;
            ssize_t got = rsp_recvfullmsg(sd, &in, sizeof(in), &from, &flags, 30000);
            if (got < 0) {
                return fail("rsp_recvfullmsg");
            }
            if (!(flags & MSG_RSERPOOL_NOTIFICATION)) {
                if ((size_t)got != length || memcmp(in.bytes, line, length) != 0) {
                    continue; /* the second answer to the line before, which was sent twice */
                }
                printf("0x%08x: %.*s\n", (unsigned)from.rinfo_pe_id, (int)got, in.bytes);
                fflush(stdout);
                break;
            }
            if (in.notification.rn_header.rn_type == RSERPOOL_FAILOVER &&
                in.notification.rn_failover.rf_state == RSERPOOL_FAILOVER_COMPLETE) {
                /* What had no answer yet may be lost with the old server: ask the new one. If the message
                 * had not left yet, the library sends it as well, and it is answered twice. */
                fprintf(stderr, "moved on to another server\n");
                if (rsp_sendmsg(sd, line, length, 0, 0, 0, 0, 0, 0, 5000) < 0) {
                    return fail("rsp_sendmsg");
                }
            }
        }
    }
    rsp_close(sd);
    rsp_cleanup();
    return 0;
}
