/*
 * cluster: a pool without any daemon. Each process of a small cluster runs this: it hosts a registrar,
 * serves as an element of the pool, and is a client of the pool. Kill any of them: the others go on.
 *
 *     cluster [-asap=ADDRESS:PORT] [-enrp=ADDRESS:PORT] [-peers=ADDRESS[:PORT],...] [-admin=PATH] [POOL]
 *
 * On three hosts, the same on each but for its own address (without -peers they find each other by
 * multicast):
 *     cluster -asap=10.0.0.1:3863 -enrp=10.0.0.1:9901 -peers=10.0.0.1,10.0.0.2,10.0.0.3
 * All on one host: the first with "-asap=127.0.0.1:0 -enrp=127.0.0.1:0" says where it is; the others take that
 * for -peers.
 */
#define _POSIX_C_SOURCE 200809L
#include <asap.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t stopped;

static void stop(int sig) {
    (void)sig;
    stopped = 1;
}

/* After a failed call: the sentence says what failed, what was tried, what to do. */
static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, asap_last_error());
    return 1;
}

static double now(void) { /* milliseconds */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The server: answers each question with its own identifier and the question. */
static void serve(int sd, uint32_t id) {
    char question[64], answer[96];
    struct rsp_sndrcvinfo from;
    int flags = 0;
    ssize_t got = rsp_recvfullmsg(sd, question, sizeof(question) - 1, &from, &flags, 0);
    if (got < 0 || flags & (MSG_RSERPOOL_NOTIFICATION | MSG_RSERPOOL_COOKIE_ECHO)) {
        return;
    }
    question[got] = '\0';
    int length = snprintf(answer, sizeof(answer), "0x%08" PRIx32 " %s", id, question);
    if (rsp_sendmsg(sd, answer, (size_t)length, 0, from.rinfo_session, 0, 0, 0, 0, 1000) < 0) {
        fprintf(stderr, "answer: %s\n", asap_last_error());
    }
}

/* The client: one question at a time. */
struct client {
    int sd;                 /* -1: not connected */
    unsigned long asked;    /* number of the question under way, or answered last */
    unsigned long answered;
    double since;           /* when it was asked, or answered */
    char at[16];            /* the element that answered last */
};

static void ask(struct client *client) {
    char text[32];
    int length = snprintf(text, sizeof(text), "%lu", client->asked);
    if (rsp_sendmsg(client->sd, text, (size_t)length, 0, 0, 0, 0, 0, 0, 0) < 0 && errno != EAGAIN &&
        errno != EPIPE) { /* ended: listen_to() is about to learn it */
        fprintf(stderr, "question: %s\n", asap_last_error());
    }
}

static void connect_to(struct client *client, const char *pool) {
    int on = 1;
    client->sd = rsp_socket(0, SOCK_SEQPACKET, 0);
    if (client->sd < 0 ||
        rsp_setsockopt(client->sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, sizeof(on)) < 0 ||
        rsp_connect(client->sd, (const unsigned char *)pool, strlen(pool), 0) < 0) {
        fprintf(stderr, "rsp_connect: %s\n", asap_last_error());
        if (client->sd >= 0) {
            rsp_close(client->sd);
        }
        client->sd = -1;
        return;
    }
    if (client->asked > client->answered) {
        ask(client);
    }
}

static void listen_to(struct client *client) {
    union {
        char text[128];
        union rserpool_notification notification;
    } in;
    char from[16];
    unsigned long number;
    int flags = 0;
    ssize_t got = rsp_recvfullmsg(client->sd, &in, sizeof(in) - 1, NULL, &flags, 0);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) { /* given up: again from the start */
            fprintf(stderr, "session: %s\n", asap_last_error());
            rsp_close(client->sd);
            client->sd = -1;
        }
        return;
    }
    if (flags & MSG_RSERPOOL_NOTIFICATION) {
        if (in.notification.rn_header.rn_type == RSERPOOL_FAILOVER &&
            in.notification.rn_failover.rf_state == RSERPOOL_FAILOVER_COMPLETE &&
            client->asked > client->answered) {
            ask(client); /* nobody knows whether the dead one had answered */
        }
        if (in.notification.rn_header.rn_type == RSERPOOL_SHUTDOWN_EVENT) {
            /* The element has left in order: the end of the session, not a failover. Another one serves. */
            rsp_close(client->sd);
            client->sd = -1;
        }
        return;
    }
    in.text[got] = '\0';
    if (sscanf(in.text, "%15s %lu", from, &number) != 2 || number != client->asked ||
        number == client->answered) {
        return; /* a second answer to something asked twice */
    }
    if (strcmp(from, client->at) != 0) {
        printf("at %s after %.1f ms\n", from, now() - client->since);
        strcpy(client->at, from);
    }
    client->answered = number;
    client->since = now();
}

/* How many elements the registrar of this process knows in the pool. */
static int elements(const char *pool) {
    struct rsp_addrinfo *list = NULL;
    int found =
        rsp_getaddrinfo((const unsigned char *)pool, strlen(pool), &list, RSPGETADDRS_MAX, 0);
    rsp_freeaddrinfo(list);
    return found < 0 ? 0 : found;
}

int main(int argc, char **argv) {
    const char *pool = "ClusterPool";
    struct asap_registrar_config config = {.arc_size = sizeof(config)};
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-asap=", 6) == 0) {
            config.arc_asap = argv[i] + 6;
        } else if (strncmp(argv[i], "-enrp=", 6) == 0) {
            config.arc_enrp = argv[i] + 6;
        } else if (strncmp(argv[i], "-peers=", 7) == 0) {
            config.arc_peers = argv[i] + 7;
        } else if (strncmp(argv[i], "-admin=", 7) == 0) {
            config.arc_admin = argv[i] + 7;
        } else if (argv[i][0] == '-') {
            fprintf(stderr, "usage: cluster [-asap=ADDRESS:PORT] [-enrp=ADDRESS:PORT]"
                            " [-peers=ADDRESS[:PORT],...] [-admin=PATH] [POOL]\n");
            return 2;
        } else {
            pool = argv[i];
        }
    }
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    struct asap_registrar *registrar = asap_registrar_start(&config);
    if (registrar == NULL) {
        return fail("asap_registrar_start");
    }
    /* With port 0, only now is it known where. */
    char asap[256] = "-registrar=", enrp[256];
    size_t prefix = strlen(asap);
    if (asap_registrar_address(registrar, ASAP_REGISTRAR_ASAP, asap + prefix, sizeof(asap) - prefix) < 0 ||
        asap_registrar_address(registrar, ASAP_REGISTRAR_ENRP, enrp, sizeof(enrp)) < 0) {
        return fail("asap_registrar_address");
    }
    printf("asap %s\nenrp %s\n", asap + prefix, enrp);

    /* This process's own registrar is all it needs: they live and die together. */
    struct rsp_info info;
    rsp_initinfo(&info);
    if (!rsp_initarg(&info, asap) || !rsp_initarg(&info, "-asapannounce=off") ||
        rsp_initialize(&info) < 0) {
        return fail("rsp_initialize");
    }
    rsp_freeinfo(&info);

    int server = rsp_socket(0, SOCK_SEQPACKET, 0);
    struct rsp_loadinfo load = {.rli_policy = PPT_ROUNDROBIN};
    if (server < 0 || rsp_register(server, (const unsigned char *)pool, strlen(pool), &load, 0, 0) < 0) {
        return fail("rsp_register");
    }
    uint32_t id = 0;
    rsp_getsockname(server, NULL, NULL, &id);
    printf("element 0x%08" PRIx32 "\n", id);

    struct client client = {.sd = -1};
    double told = 0, tried = 0;
    while (!stopped) {
        if (client.sd < 0 && now() - tried >= 100) {
            tried = now();
            connect_to(&client, pool);
        }
        /* Ten questions a second. */
        if (client.sd >= 0 && client.asked == client.answered && now() - client.since >= 100) {
            client.asked++;
            client.since = now();
            ask(&client);
        }
        if (now() - told >= 500) {
            printf("elements %d answers %lu\n", elements(pool), client.answered);
            told = now();
        }
        fflush(stdout);
        struct pollfd wait[2] = {{.fd = server, .events = POLLIN}, {.fd = client.sd, .events = POLLIN}};
        if (rsp_poll(wait, client.sd < 0 ? 1 : 2, 20) <= 0) {
            continue;
        }
        if (wait[0].revents) {
            serve(server, id);
        }
        if (wait[1].revents && client.sd >= 0) {
            listen_to(&client);
        }
    }
    /* In order: the element leaves its pool, then the registrar its peers. */
    rsp_cleanup();
    asap_registrar_stop(registrar);
    return 0;
}
