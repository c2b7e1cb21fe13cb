/*
 * pool_watcher: prints the elements of a pool, and every change as it happens.
 *
 *     pool_watcher [-registrar=ADDRESS:PORT] [POOL]
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <asap.h>
#include <errno.h>
#include <netinet/in.h>
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

static void print(const char *what, const struct rsp_poolchange *change) {
    char text[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (change->rpc_addr.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&change->rpc_addr;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
        port = ntohs(v4->sin_port);
    } else if (change->rpc_addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&change->rpc_addr;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
        port = ntohs(v6->sin6_port);
    }
    const char *policy = rsp_getpolicybytype(change->rpc_loadinfo.rli_policy);
    printf("%s 0x%08x at %s port %u, %s\n", what, (unsigned)change->rpc_pe_id, text, port,
           policy ? policy : "?");
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
            fprintf(stderr, "usage: pool_watcher [-registrar=ADDRESS:PORT] [POOL]\n%s\n",
                    asap_last_error());
            return 2;
        }
        pool = argv[i];
    }
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (rsp_initialize(&info) < 0) {
        return fail("rsp_initialize");
    }
    rsp_freeinfo(&info);
    int sd = rsp_watch((const unsigned char *)pool, strlen(pool));
    if (sd < 0) {
        return fail("rsp_watch");
    }
    while (!stopped) {
        struct rsp_poolchange change;
        /* Or wait for sd in an event loop. */
        int told = rsp_watch_next(sd, &change, sizeof(change), 1000);
        if (told < 0 && errno != EINTR) {
            return fail("rsp_watch_next");
        }
        if (told <= 0) {
            continue;
        }
        switch (change.rpc_type) {
        case RSP_POOL_ADDED:
            print("added  ", &change);
            break;
        case RSP_POOL_UPDATED:
            print("updated", &change);
            break;
        case RSP_POOL_REMOVED:
            printf("removed 0x%08x\n", (unsigned)change.rpc_pe_id);
            break;
        case RSP_POOL_UPTODATE:
            printf("that is all for now\n");
            break;
        default: /* of a later version */
            break;
        }
        fflush(stdout);
    }
    rsp_close(sd);
    rsp_cleanup();
    return 0;
}
