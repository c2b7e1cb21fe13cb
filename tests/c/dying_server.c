/*
 * A stateful_server that dies at its fifth request: "before" its cookie for it has left, or "after" the cookie and before the reply.
 *
 *     dying_server before|after
 */
#define _DEFAULT_SOURCE
#include "../../c-examples/stateful.h"
#include <asap.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static const unsigned char pool[] = "StatefulPool";
    struct rsp_loadinfo load = {.rli_policy = PPT_ROUNDROBIN};
    struct state state = {0, 0};
    uint32_t id = 0;
    int sd;
    if (argc != 2 || rsp_initialize(NULL) < 0 || (sd = rsp_socket(0, SOCK_SEQPACKET, 0)) < 0 ||
        rsp_register(sd, pool, sizeof(pool) - 1, &load, 0, 0) < 0 || rsp_getsockname(sd, NULL, NULL, &id) < 0) {
        fprintf(stderr, "%s\n", asap_last_error());
        return 1;
    }
    printf("element 0x%08x\n", (unsigned)id);
    fflush(stdout);
    for (;;) {
        struct request request;
        struct rsp_sndrcvinfo from;
        int flags = 0;
        ssize_t got = rsp_recvfullmsg(sd, &request, sizeof(request), &from, &flags, 120000);
        if (got < 0) {
            return 1;
        }
        if (flags & MSG_RSERPOOL_NOTIFICATION || got != sizeof(request)) {
            continue;
        }
        state.number++;
        state.hash = hash_more(state.hash, be64toh(request.number), be64toh(request.value));
        if (state.number == 5 && strcmp(argv[1], "before") == 0) {
            _exit(0);
        }
        struct state cookie = {htobe64(state.number), htobe64(state.hash)};
        struct reply reply = {htobe64(state.number), htobe64(state.hash), htobe64(PROCESSED)};
        if (rsp_send_cookie(sd, (const unsigned char *)&cookie, sizeof(cookie), from.rinfo_session, 1000) < 0) {
            return 1;
        }
        if (state.number == 5) {
            _exit(0);
        }
        if (rsp_sendmsg(sd, &reply, sizeof(reply), 0, from.rinfo_session, 0, 0, 0, 0, 1000) < 0) {
            return 1;
        }
    }
}
