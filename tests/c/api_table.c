/*
 * Calls in every state, with what they return, the errno they set, and the event that follows. More than a quarter of them fail.
 *
 * Has rows for all 51 functions of RSPLIB's API and for those beyond. Needs a registrar, in ASAP_REGISTRARS. What the sessions are carried
 * by is its argument or, without one, ASAP_TRANSPORT: tcp (the default) or sctp. Prints each row that is not as expected; its exit status
 * is 0 if all are.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <asap.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANY LONG_MIN        /* some descriptor or count: not negative */
#define UINT_FAILED 0xffffffffL

enum event { NONE, ADD, REMOVE, SHUTDOWN, NECESSARY, COMPLETE, DATA, ECHO, UNDELIVERED, END, FAILURE };
static const char *const event_names[] = {"nothing",   "ADD",      "REMOVE", "SHUTDOWN", "NECESSARY",
                                          "COMPLETE", "data",     "cookie echo", "undelivered", "end", "failure"};

static int rows, failing_rows, bad_rows;
static int protocol = IPPROTO_TCP;

static enum event next_event(int sd, int timeout) {
    union {
        char bytes[256];
        union rserpool_notification notification;
    } in;
    int flags = 0;
    ssize_t got = rsp_recvmsg(sd, &in, sizeof(in), NULL, &flags, timeout);
    if (got < 0) {
        return errno == EAGAIN ? NONE : FAILURE;
    }
    if (flags & MSG_RSERPOOL_COOKIE_ECHO) {
        return ECHO;
    }
    if (flags & MSG_RSERPOOL_UNDELIVERED) {
        return UNDELIVERED;
    }
    if (!(flags & MSG_RSERPOOL_NOTIFICATION)) {
        return got == 0 && !(flags & MSG_EOR) ? END : DATA;
    }
    switch (in.notification.rn_header.rn_type) {
    case RSERPOOL_SESSION_CHANGE:
        return in.notification.rn_session_change.rsc_state == RSERPOOL_SESSION_ADD ? ADD : REMOVE;
    case RSERPOOL_FAILOVER:
        return in.notification.rn_failover.rf_state == RSERPOOL_FAILOVER_COMPLETE ? COMPLETE : NECESSARY;
    default:
        return SHUTDOWN;
    }
}

static void check(int line, const char *call, long got, int got_errno, long want, int want_errno, int sd,
                  enum event event) {
    int good = want == ANY ? got >= 0 : got == want && (want_errno == 0 || got_errno == want_errno);
    rows++;
    failing_rows += want_errno != 0;
    if (want_errno != 0 && asap_last_error()[0] == '\0') {
        good = 0;
    }
    if (!good) {
        printf("line %d: %s gives %ld (%s: %s), not %ld (%s)\n", line, call, got, strerror(got_errno), asap_last_error(), want,
               strerror(want_errno));
        bad_rows++;
        return;
    }
    if (sd >= 0) {
        enum event came = next_event(sd, event == NONE ? 0 : 10000);
        if (came != event) {
            printf("line %d: after %s comes %s, not %s (%s)\n", line, call, event_names[came], event_names[event],
                   asap_last_error());
            bad_rows++;
        }
    }
}

/* One row: the call, what it returns, the errno. */
#define ROW(call, ret, err) EVENT_ROW(call, ret, err, -1, NONE)
/* One row: the same, and the event that follows on a descriptor. */
#define EVENT_ROW(call, ret, err, sd, event)                                                                           \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long result = (long)(call);                                                                                    \
        check(__LINE__, #call, result, errno, ret, err, sd, event);                                                    \
    } while (0)
/* As ROW, and keeps the result. */
#define KEEP(variable, call)                                                                                           \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        (variable) = (call);                                                                                           \
        check(__LINE__, #call, (long)(variable), errno, ANY, 0, -1, NONE);                                             \
    } while (0)

static const unsigned char pool[] = "ApiTablePool";
#define POOL pool, sizeof(pool) - 1
static unsigned char long_handle[1025];
static char buffer[256];
static const struct rsp_loadinfo round_robin = {.rli_policy = PPT_ROUNDROBIN};
static const struct rsp_loadinfo no_policy = {.rli_policy = 0x77};
static const struct rsp_loadinfo weighted = {.rli_policy = PPT_WEIGHTED_RANDOM, .rli_weight = 3};

/* What every function does with a descriptor that is not the library's. */
static void bad_descriptor(int sd) {
    size_t size = sizeof(buffer);
    socklen_t length = sizeof(int);
    uint32_t id = 0;
    int flags = 0, on = 1;
    struct rserpool_session_parameters parameters = {0};
    ROW(rsp_bind(sd, NULL, 0), -1, EBADF);
    ROW(rsp_listen(sd, 1), -1, EBADF);
    ROW(rsp_register(sd, POOL, &round_robin, 0, 0), -1, EBADF);
    ROW(rsp_deregister(sd, 0), -1, EBADF);
    ROW(rsp_accept(sd, 0), -1, EBADF);
    ROW(rsp_connect(sd, POOL, 0), -1, EBADF);
    ROW(rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0, 0), -1, EBADF);
    ROW(rsp_send(sd, "x", 1, 0), -1, EBADF);
    ROW(rsp_write(sd, "x", 1), -1, EBADF);
    ROW(rsp_sendto_pool(sd, POOL, 0, "x", 1, 0, 0, 0, 0, 0), -1, EBADF);
    ROW(rsp_send_cookie(sd, pool, 1, 0, 0), -1, EBADF);
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0), -1, EBADF);
    ROW(rsp_recvfullmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0), -1, EBADF);
    ROW(rsp_recv(sd, buffer, sizeof(buffer), 0), -1, EBADF);
    ROW(rsp_read(sd, buffer, sizeof(buffer)), -1, EBADF);
    ROW(rsp_has_cookie(sd), -1, EBADF);
    ROW(rsp_forcefailover(sd, FFF_NONE, 0), -1, EBADF);
    ROW(rsp_getsockname(sd, (unsigned char *)buffer, &size, &id), -1, EBADF);
    ROW(rsp_getpeername(sd, (unsigned char *)buffer, &size, &id), -1, EBADF);
    ROW(rsp_getsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, &length), -1, EBADF);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, length), -1, EBADF);
    ROW(rsp_set_failover_callback(sd, NULL, NULL), -1, EBADF);
    ROW(rsp_accept_tags(sd, 0, NULL), -1, EBADF);
    ROW(rsp_connect_tags(sd, POOL, 0, NULL), -1, EBADF);
    ROW(rsp_register_tags(sd, POOL, &round_robin, 0, 0, NULL), -1, EBADF);
    ROW(rsp_deregister_tags(sd, 0, NULL), -1, EBADF);
    ROW(rsp_forcefailover_tags(sd, FFF_NONE, 0, NULL), -1, EBADF);
    ROW(rsp_csp_setstatus(sd, 0, "status"), -1, EBADF);
    ROW(rsp_update_session_parameters(sd, &parameters), -1, EBADF);
    ROW(rsp_unmapsocket(sd), -1, EBADF);
    ROW(rsp_close(sd), -1, EBADF);
}

static void without_initialisation(void) {
    struct rsp_addrinfo *list = (struct rsp_addrinfo *)&list;
    ROW(rsp_socket(0, SOCK_SEQPACKET, 0), -1, EACCES);
    ROW(rsp_watch(POOL), -1, EACCES);
    ROW(rsp_getaddrinfo(POOL, &list, 1, 0), REAI_SYSTEM, EACCES);
    ROW(list == NULL, 1, 0);
    ROW(rsp_getprimaryserver(POOL, &list), -1, EACCES);
    ROW(rsp_pe_failure(POOL, 1), UINT_FAILED, EACCES);
    ROW(rsp_pe_deregistration(POOL, 1, 0), UINT_FAILED, EACCES);
    list = (struct rsp_addrinfo *)&list;
    ROW(rsp_getaddrinfo_tags(POOL, &list, 1, 0, NULL), REAI_SYSTEM, EACCES);
    ROW(list == NULL, 1, 0);
    ROW(rsp_pe_failure_tags(POOL, 1, NULL), UINT_FAILED, EACCES);
    ROW(rsp_pe_deregistration_tags(POOL, 1, 0, NULL), UINT_FAILED, EACCES);
    ROW(rsp_socket_internal(0, SOCK_SEQPACKET, 0, -1), -1, EACCES);
    ROW(rsp_socket_internal(0, SOCK_SEQPACKET, 0, 0), -1, EACCES);
    ROW(rsp_mapsocket(0, -1), -1, EACCES);
    bad_descriptor(3);
    rsp_cleanup(); /* nothing to clean */
}

static void arguments(void) {
    struct rsp_info info;
    rsp_initinfo(&info);
    ROW(rsp_initarg(&info, "-registrar=127.0.0.1:3863"), 1, 0);
    ROW(rsp_initarg(&info, "-registrar=[::1]:3863,127.0.0.1"), 1, 0);
    ROW(info.ri_registrars->rri_addrs, 2, 0);
    ROW(rsp_initarg(&info, "-registrar=10.0.0.1:nonsense"), 0, EINVAL);
    ROW(rsp_initarg(&info, "-registrar="), 0, EINVAL);
    ROW(rsp_initarg(&info, "-asapannounce=off"), 1, 0);
    ROW(info.ri_disable_autoconfig, 1, 0);
    ROW(rsp_initarg(&info, "-asapannounce=auto"), 1, 0);
    ROW(info.ri_disable_autoconfig, 0, 0);
    ROW(rsp_initarg(&info, "-asapannounce=239.0.0.1:4000"), 1, 0);
    ROW(rsp_initarg(&info, "-asapannounce=10.0.0.1:4000"), 0, EINVAL);
    ROW(rsp_initarg(&info, "-registrarannouncetimeout=1"), 1, 0);
    ROW(rsp_initarg(&info, "-registrarconnecttimeout=2"), 1, 0);
    ROW(rsp_initarg(&info, "-registrarconnectmaxtrials=3"), 1, 0);
    ROW(rsp_initarg(&info, "-registrarrequesttimeout=4"), 1, 0);
    ROW(rsp_initarg(&info, "-registrarresponsetimeout=5"), 1, 0);
    ROW(rsp_initarg(&info, "-registrarrequestmaxtrials=6"), 1, 0);
    ROW(rsp_initarg(&info, "-registrarrequestmaxtrials=x"), 0, EINVAL);
    ROW(info.ri_registrar_announce_timeout * 100000 + info.ri_registrar_connect_timeout * 10000 +
            info.ri_registrar_connect_max_trials * 1000 + info.ri_registrar_request_timeout * 100 +
            info.ri_registrar_response_timeout * 10 + info.ri_registrar_request_max_trials,
        123456, 0);
    ROW(rsp_initarg(&info, "-cspserver=10.0.0.1"), 1, 0);
    ROW(ntohs(((struct sockaddr_in *)info.ri_csp_server)->sin_port), 2960, 0);
    ROW(rsp_initarg(&info, "-cspserver=[::1]:7"), 1, 0);
    ROW(info.ri_csp_server->sa_family, AF_INET6, 0);
    ROW(rsp_initarg(&info, "-cspserver=10.0.0.1:nonsense"), 0, EINVAL);
    ROW(rsp_initarg(&info, "-cspinterval=1"), 1, 0);
    ROW(info.ri_csp_interval, 1, 0);
    ROW(rsp_initarg(&info, "-cspinterval=often"), 0, EINVAL);
    ROW(rsp_initarg(&info, "-cspidentifier=0x1234"), 1, 0);
    ROW(info.ri_csp_identifier == 0x0200000000001234, 1, 0);
    ROW(rsp_initarg(&info, "-cspidentifier=zz"), 0, EINVAL);
    setenv("CSP_SERVER", "127.0.0.1:5", 1);
    setenv("CSP_INTERVAL", "7", 1);
    rsp_freeinfo(&info);
    rsp_initinfo(&info);
    ROW(ntohs(((struct sockaddr_in *)info.ri_csp_server)->sin_port), 5, 0);
    ROW(info.ri_csp_interval, 250, 0); /* no shorter from there */
    unsetenv("CSP_SERVER");
    unsetenv("CSP_INTERVAL");
    rsp_initinfo(&info);
    ROW(info.ri_csp_server == NULL && info.ri_csp_interval == 0, 1, 0);
    ROW(rsp_initarg(&info, "-loglevel=4"), 0, 0); /* the program's own, if it likes */
    ROW(rsp_initarg(&info, "-foo"), 0, 0);
    ROW(rsp_initarg(&info, ""), 0, 0);
    ROW(rsp_initarg(&info, NULL), 0, EFAULT);
    ROW(rsp_initarg(NULL, "-foo"), 0, EFAULT);
    rsp_freeinfo(&info);
    rsp_freeinfo(&info);
    rsp_freeinfo(NULL);
    rsp_initinfo(NULL);
    ROW(rsp_getpolicybyname("RoundRobin"), PPT_ROUNDROBIN, 0);
    ROW(strcmp(rsp_getpolicybytype(PPT_LEASTUSED_DEGRADATION), "LeastUsedDegradation"), 0, 0);
    ROW(rsp_getpolicybyname("Nonsense"), 0, EINVAL);
    ROW(rsp_getpolicybyname(NULL), 0, EFAULT);
    ROW(rsp_getpolicybytype(0) == NULL, 1, EINVAL);
    rsp_freeaddrinfo(NULL);
    ROW(asap_set_log(NULL, 6, NULL), -1, EINVAL);
    ROW(asap_set_log(NULL, 0, NULL), 0, 0);
}

/* A server of its own, for the user's rows. */
static int serving;
static void *serve(void *sd) {
    while (__atomic_load_n(&serving, __ATOMIC_SEQ_CST)) {
        char in[256];
        struct rsp_sndrcvinfo from;
        int flags = 0;
        ssize_t got = rsp_recvfullmsg(*(int *)sd, in, sizeof(in), &from, &flags, 50);
        if (got < 0 || flags & (MSG_RSERPOOL_NOTIFICATION | MSG_RSERPOOL_COOKIE_ECHO)) {
            continue;
        }
        if (got == 4 && memcmp(in, "quit", 4) == 0) {
            rsp_sendmsg(*(int *)sd, NULL, 0, 0, from.rinfo_session, 0, 0, 0, RSP_EOF, 1000);
            continue;
        }
        rsp_send_cookie(*(int *)sd, pool, sizeof(pool), from.rinfo_session, 1000);
        rsp_sendmsg(*(int *)sd, in, (size_t)got, 0, from.rinfo_session, 0, 0, 0, 0, 1000);
    }
    return NULL;
}

static int server_socket(void) {
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int sd;
    KEEP(sd, rsp_socket(AF_INET, SOCK_SEQPACKET, protocol));
    ROW(rsp_bind(sd, (struct sockaddr *)&loopback, 1), 0, 0);
    ROW(rsp_bind(sd, (struct sockaddr *)&loopback, 1), -1, EINVAL);
    return sd;
}

static void fresh_socket(void) {
    struct sockaddr unix_address = {.sa_family = AF_UNIX};
    size_t size = sizeof(buffer);
    socklen_t length = sizeof(int), short_length = 1;
    int flags = 0, on = 1, off = 0, value = 0, negative = -5, sd;
    uint32_t id = 0;
    ROW(rsp_socket(77, SOCK_SEQPACKET, 0), -1, EAFNOSUPPORT);
    ROW(rsp_socket(0, 99, 0), -1, EINVAL);
    ROW(rsp_socket(0, SOCK_STREAM, 99), -1, EPROTONOSUPPORT);
    KEEP(sd, rsp_socket(0, SOCK_SEQPACKET, 0));
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0), -1, ENOTCONN);
    ROW(rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0, 0), -1, ENOTCONN);
    ROW(rsp_send_cookie(sd, pool, 1, 0, 0), -1, ENOTCONN);
    ROW(rsp_has_cookie(sd), -1, ENOTCONN);
    ROW(rsp_csp_setstatus(sd, 0, "nothing"), -1, ENOTCONN);
    ROW(rsp_forcefailover(sd, FFF_NONE, 0), -1, ENOTCONN);
    ROW(rsp_forcefailover(sd, 6, 0), -1, EINVAL);
    ROW(rsp_getpeername(sd, NULL, NULL, &id), -1, ENOTCONN);
    ROW(rsp_getsockname(sd, NULL, NULL, &id), -1, EINVAL);
    ROW(rsp_deregister(sd, 0), -1, EINVAL);
    ROW(rsp_deregister(sd, 64), -1, EINVAL);
    ROW(rsp_accept(sd, 0), -1, EINVAL);
    ROW(rsp_bind(sd, NULL, 1), -1, EFAULT);
    ROW(rsp_bind(sd, NULL, -1), -1, EINVAL);
    ROW(rsp_bind(sd, &unix_address, 1), -1, EAFNOSUPPORT);
    ROW(rsp_register(sd, POOL, &no_policy, 0, 0), -1, EINVAL);
    ROW(rsp_register(sd, NULL, 4, &round_robin, 0, 0), -1, EFAULT);
    ROW(rsp_register(sd, pool, 0, &round_robin, 0, 0), -1, EINVAL);
    ROW(rsp_register(sd, long_handle, sizeof(long_handle), &round_robin, 0, 0), -1, ENAMETOOLONG);
    ROW(rsp_register(sd, POOL, &round_robin, 0, 0x4000), -1, EINVAL);
    ROW(rsp_register(sd, POOL, &round_robin, 0, REGF_CONTROLCHANNEL | REGF_DATAONLY), -1, EINVAL);
    ROW(rsp_connect(sd, NULL, 4, 0), -1, EFAULT);
    ROW(rsp_connect(sd, pool, 0, 0), -1, EINVAL);
    ROW(rsp_connect(sd, long_handle, sizeof(long_handle), 0), -1, ENAMETOOLONG);
    ROW(rsp_connect(sd, (const unsigned char *)"NoSuchPool", 10, 0), -1, ENOENT);
    ROW(rsp_connect(sd, (const unsigned char *)"NoSuchPool", 10, 0), -1, ENOENT); /* it is as it was */
    ROW(rsp_recvmsg(sd, NULL, 8, NULL, &flags, 0), -1, EFAULT);
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, NULL, 0), -1, EFAULT);
    ROW(rsp_recvmsg(sd, buffer, SIZE_MAX, NULL, &flags, 0), -1, EINVAL);
    ROW(rsp_recv(sd, buffer, sizeof(buffer), MSG_PEEK), -1, EINVAL);
    ROW(rsp_sendmsg(sd, NULL, 8, 0, 0, 0, 0, 0, 0, 0), -1, EFAULT);
    ROW(rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0x8000, 0), -1, EINVAL);
    ROW(rsp_sendmsg(sd, "x", 1, MSG_OOB, 0, 0, 0, 0, 0, 0), -1, EINVAL);
    ROW(rsp_send(sd, "x", 1, MSG_OOB), -1, EINVAL);
    ROW(rsp_write(sd, NULL, 1), -1, EFAULT);
    ROW(rsp_send_cookie(sd, NULL, 5, 0, 0), -1, EFAULT);
    ROW(rsp_send_cookie(sd, NULL, 0, 0, 0), -1, EINVAL);
    ROW(rsp_sendto_pool(sd, POOL, 0, "x", 1, 0x4000, 0, 0, 0, 0), -1, EINVAL);
    ROW(rsp_sendto_pool(sd, NULL, 1, 0, "x", 1, 0, 0, 0, 0, 0), -1, EFAULT);
    ROW(rsp_sendto_pool(sd, POOL, 0, NULL, 1, 0, 0, 0, 0, 0), -1, EFAULT);
    /* options */
    ROW(rsp_getsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &value, &length), 0, 0);
    ROW(value, 0, 0);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, sizeof(on)), 0, 0);
    ROW(rsp_getsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &value, &length), 0, 0);
    ROW(value, 1, 0);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &negative, sizeof(on)), -1, EINVAL);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, NULL, sizeof(on)), -1, EFAULT);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, 1), -1, EINVAL);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_CONNECT_TIMEOUT, &off, sizeof(off)), -1, EINVAL);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_FAILOVER_DEADLINE, &negative, sizeof(off)), -1, EINVAL);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_RECV_TIMEOUT, &negative, sizeof(off)), -1, EINVAL);
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, 99, &on, sizeof(on)), -1, ENOPROTOOPT);
    ROW(rsp_setsockopt(sd, SOL_SOCKET, SO_TYPE, &on, sizeof(on)), -1, ENOPROTOOPT);
    ROW(rsp_getsockopt(sd, SOL_RSERPOOL, 99, &value, &length), -1, ENOPROTOOPT);
    ROW(rsp_getsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &value, &short_length), -1, EINVAL);
    ROW(rsp_getsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, NULL, &length), -1, EFAULT);
    ROW(rsp_getsockname(sd, (unsigned char *)buffer, NULL, &id), -1, EINVAL);
    ROW(size, sizeof(buffer), 0);
    ROW(rsp_close(sd), 0, 0);
    ROW(rsp_close(sd), -1, EBADF);
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0), -1, EBADF);
}

static void element_and_user(void) {
    unsigned char name[64];
    size_t size = sizeof(name), small = 2;
    int flags = 0, sd, user, on = 1;
    uint32_t id = 0, peer = 0;
    pthread_t server;

    sd = server_socket();
    ROW(rsp_listen(sd, 10), 0, 0);
    ROW(rsp_listen(sd, 20), 0, 0);
    ROW(rsp_register(sd, POOL, &round_robin, 0, 0), 0, 0);
    ROW(rsp_register(sd, POOL, &round_robin, 5000, REGF_DONTWAIT), 0, 0); /* a change */
    ROW(rsp_register(sd, POOL, NULL, 5000, 0), 0, 0);                     /* round robin, too */
    ROW(rsp_register(sd, (const unsigned char *)"Another", 7, &round_robin, 0, 0), -1, EINVAL);
    ROW(rsp_getsockname(sd, NULL, NULL, &id), 0, 0);
    ROW(id != 0, 1, 0);
    ROW(rsp_getsockname(sd, name, &size, NULL), 0, 0);
    ROW(size, sizeof(pool) - 1, 0);
    ROW(memcmp(name, pool, size), 0, 0);
    ROW(rsp_getsockname(sd, name, &small, NULL), -1, ENOBUFS);
    ROW(small, sizeof(pool) - 1, 0);
    ROW(rsp_getsockname(sd, name, NULL, NULL), -1, EFAULT);
    ROW(rsp_getpeername(sd, NULL, NULL, &peer), -1, ENOTCONN);
    ROW(rsp_has_cookie(sd), -1, ENOTCONN);
    ROW(rsp_accept(sd, 0), -1, EOPNOTSUPP);
    ROW(rsp_connect(sd, POOL, 0), -1, EOPNOTSUPP);
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0), -1, EAGAIN);
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, -1), -1, EAGAIN);
    ROW(rsp_sendmsg(sd, "x", 1, 0, 77, 0, 0, 0, 0, 0), -1, ENOTCONN);
    ROW(rsp_send_cookie(sd, pool, 1, 77, 0), -1, ENOTCONN);

    serving = 1;
    pthread_create(&server, NULL, serve, &sd);
    KEEP(user, rsp_socket(0, SOCK_SEQPACKET, 0));
    ROW(rsp_connect(user, POOL, 0), 0, 0);
    ROW(rsp_connect(user, POOL, 0), -1, EISCONN);
    ROW(rsp_bind(user, NULL, 0), -1, EISCONN);
    ROW(rsp_listen(user, 0), -1, EISCONN);
    ROW(rsp_register(user, POOL, &round_robin, 0, 0), -1, EISCONN);
    ROW(rsp_getpeername(user, NULL, NULL, &peer), 0, 0);
    ROW(peer == id, 1, 0);
    ROW(rsp_has_cookie(user), 0, 0);
    ROW(rsp_csp_setstatus(user, 0, "working"), 0, 0);
    ROW(rsp_csp_setstatus(user, 1, "working"), 0, 0);
    ROW(rsp_csp_setstatus(user, 2, "working"), -1, ENOTCONN);
    EVENT_ROW(rsp_recvmsg(user, buffer, sizeof(buffer), NULL, &flags, 0), -1, EAGAIN, user, NONE);
    EVENT_ROW(rsp_sendmsg(user, "hello", 5, 0, 0, htonl(7), 3, 0, 0, 1000), 5, 0, user, DATA);
    ROW(rsp_has_cookie(user), 1, 0);
    EVENT_ROW(rsp_send(user, "hello", 5, MSG_NOSIGNAL), 5, 0, user, DATA);
    EVENT_ROW(rsp_write(user, "hello", 5), 5, 0, user, DATA);
    EVENT_ROW(rsp_send(user, "", 0, 0), 0, 0, user, DATA);
    ROW(rsp_send_cookie(user, pool, 1, 0, 0), -1, EINVAL);
    ROW(rsp_sendmsg(user, "x", 1, 0, 9, 0, 0, 0, 0, 0), -1, ENOTCONN);
    ROW(rsp_sendto_pool(user, POOL, 0, "x", 1, 0, 0, 0, 0, 0), -1, EISCONN);
    EVENT_ROW(rsp_forcefailover(user, FFF_NONE, 0), 0, 0, user, COMPLETE); /* to the only element there is */
    EVENT_ROW(rsp_sendmsg(user, "again", 5, 0, 0, 0, 0, 0, 0, 1000), 5, 0, user, DATA);
    ROW(rsp_write(user, "read", 4), 4, 0);
    ROW(rsp_setsockopt(user, SOL_RSERPOOL, RSP_RECV_TIMEOUT, &(int){5000}, sizeof(int)), 0, 0);
    ROW(rsp_read(user, buffer, sizeof(buffer)), 4, 0);
    ROW(rsp_setsockopt(user, SOL_RSERPOOL, RSP_RECV_TIMEOUT, &(int){1}, sizeof(int)), 0, 0);
    ROW(rsp_read(user, buffer, sizeof(buffer)), -1, EAGAIN);
    ROW(rsp_recv(user, buffer, sizeof(buffer), MSG_DONTWAIT), -1, EAGAIN);
    EVENT_ROW(rsp_sendmsg(user, "quit", 4, 0, 0, 0, 0, 0, 0, 1000), 4, 0, user, SHUTDOWN);
    ROW(rsp_close(user), 0, 0);

    /* message by message, without connection */
    KEEP(user, rsp_socket(0, SOCK_SEQPACKET, 0));
    ROW(rsp_sendto_pool(user, POOL, 0, "x", 1, ASAP_SEND_FAILOVER | ASAP_SEND_NO_FAILOVER, 0, 0, 0, 0), -1, EINVAL);
    EVENT_ROW(rsp_sendto_pool(user, POOL, 0, "one", 3, ASAP_USE_DEFAULT, htonl(5), 1, 0, 5000), 3, 0, user, DATA);
    EVENT_ROW(rsp_sendto_pool(user, POOL, id, "two", 3, ASAP_SEND_NO_FAILOVER, 0, 0, 0, 5000), 3, 0, user, DATA);
    EVENT_ROW(rsp_sendto_pool(user, POOL, 0, "three", 5, ASAP_SEND_TO_LAST, 0, 0, 0, 5000), 5, 0, user, DATA);
    ROW(rsp_sendto_pool(user, POOL, 0, "others", 6, ASAP_SEND_TO_ALL, 0, 0, 0, 5000), 6, 0); /* there are none */
    EVENT_ROW(rsp_sendto_pool(user, POOL, 0, "all", 3, ASAP_SEND_TO_ALL | ASAP_SEND_TO_SELF, 0, 0, 0, 5000), 3, 0, user, DATA);
    ROW(rsp_recvmsg(user, buffer, sizeof(buffer), NULL, &flags, 100), -1, EAGAIN);
    EVENT_ROW(rsp_sendto_pool(user, (const unsigned char *)"NoSuchPool", 10, 0, "four", 4, ASAP_SEND_NO_FAILOVER, 0, 0, 0, 5000), 4,
              0, user, UNDELIVERED);
    ROW(rsp_sendmsg(user, "x", 1, 0, 0, 0, 0, 0, 0, 0), -1, ENOTCONN);
    ROW(rsp_sendto_pool(sd, POOL, 0, "x", 1, 0, 0, 0, 0, 0), -1, EOPNOTSUPP);
    ROW(rsp_close(user), 0, 0);

    /* a session that is broken off */
    KEEP(user, rsp_socket(0, SOCK_SEQPACKET, 0));
    ROW(rsp_connect(user, POOL, 0), 0, 0);
    ROW(rsp_sendmsg(user, NULL, 0, 0, 0, 0, 0, 0, RSP_ABORT | RSP_EOF, 0), 0, 0);
    ROW(rsp_sendmsg(user, "x", 1, 0, 0, 0, 0, 0, 0, 0), -1, EPIPE);
    ROW(rsp_close(user), 0, 0);

    /* the element goes away under its user */
    KEEP(user, rsp_socket(0, SOCK_SEQPACKET, 0));
    ROW(rsp_connect(user, POOL, 0), 0, 0);
    EVENT_ROW(rsp_sendmsg(user, "hello", 5, 0, 0, 0, 0, 0, 0, 1000), 5, 0, user, DATA);
    ROW(rsp_deregister(sd, 0), 0, 0);
    ROW(rsp_deregister(sd, 0), -1, EINVAL);
    ROW(rsp_connect(sd, POOL, 0), -1, EOPNOTSUPP);
    ROW(rsp_setsockopt(user, SOL_RSERPOOL, RSP_CALL_TIMEOUT, &(int){2000}, sizeof(int)), 0, 0);
    ROW(rsp_setsockopt(user, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, sizeof(on)), 0, 0);
    __atomic_store_n(&serving, 0, __ATOMIC_SEQ_CST);
    pthread_join(server, NULL);
    ROW(rsp_close(sd), 0, 0);
    ROW(rsp_close(sd), -1, EBADF);
    ROW(rsp_close(user), 0, 0);
}

static void stream_sockets(void) {
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const unsigned char name[] = "ApiTableStream";
    int sd, user, session, flags = 0;
    KEEP(sd, rsp_socket(AF_INET, SOCK_STREAM, protocol));
    ROW(rsp_accept(sd, 0), -1, EINVAL);
    ROW(rsp_bind(sd, (struct sockaddr *)&loopback, 1), 0, 0);
    ROW(rsp_listen(sd, 5), 0, 0);
    ROW(rsp_accept(sd, 0), -1, EAGAIN);
    ROW(rsp_register(sd, name, sizeof(name) - 1, &weighted, 0, 0), 0, 0);
    KEEP(user, rsp_socket(0, SOCK_STREAM, 0));
    ROW(rsp_connect(user, name, sizeof(name) - 1, 0), 0, 0);
    ROW(rsp_write(user, "stream", 6), 6, 0);
    KEEP(session, rsp_accept_tags(sd, 10000, NULL));
    ROW(rsp_accept_tags(sd, 10, NULL), -1, EAGAIN);
    EVENT_ROW(rsp_listen(session, 1), -1, EISCONN, session, DATA);
    ROW(rsp_send_cookie(session, pool, sizeof(pool), 0, 1000), sizeof(pool), 0);
    EVENT_ROW(rsp_write(session, "answer", 6), 6, 0, user, DATA);
    ROW(rsp_has_cookie(user), 1, 0);
    ROW(rsp_has_cookie(session), -1, ENOTCONN);
    ROW(rsp_sendto_pool(user, name, sizeof(name) - 1, 0, "x", 1, 0, 0, 0, 0, 0), -1, EISCONN);
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0), -1, ENOTCONN);
    ROW(rsp_csp_setstatus(session, 0, "serving"), 0, 0);
    ROW(rsp_csp_setstatus(session, 2, "serving"), -1, ENOTCONN);
    EVENT_ROW(rsp_close(session), 0, 0, user, END);
    EVENT_ROW(rsp_write(user, "x", 1), -1, EPIPE, user, END);
    ROW(rsp_close(user), 0, 0);
    /* a user that breaks its session off, and one that fails over to where it was */
    KEEP(user, rsp_socket(0, SOCK_STREAM, 0));
    ROW(rsp_connect(user, name, sizeof(name) - 1, 0), 0, 0);
    KEEP(session, rsp_accept(sd, 10000));
    EVENT_ROW(rsp_write(user, "one", 3), 3, 0, session, DATA);
    EVENT_ROW(rsp_forcefailover_tags(user, FFF_NONE, 0, NULL), 0, 0, session, END);
    ROW(rsp_close(session), 0, 0);
    KEEP(session, rsp_accept(sd, 10000));
    EVENT_ROW(rsp_write(user, "two", 3), 3, 0, session, DATA);
    EVENT_ROW(rsp_sendmsg(user, NULL, 0, 0, 0, 0, 0, 0, RSP_ABORT, 0), 0, 0, session, FAILURE);
    ROW(rsp_close(session), 0, 0);
    ROW(rsp_close(user), 0, 0);
    ROW(rsp_close(sd), 0, 0);
}

/* Users of a server that has all its sessions on one descriptor, told apart by their numbers. */
static void one_to_many(void) {
    static const unsigned char name[] = "ApiTableMany";
    struct rsp_sndrcvinfo from;
    int flags = 0, sd = server_socket(), users[3];
#define NAMED name, sizeof(name) - 1
    ROW(rsp_register(sd, NAMED, &round_robin, 0, 0), 0, 0);
    for (int i = 0; i < 2; i++) {
        KEEP(users[i], rsp_socket(0, SOCK_SEQPACKET, 0));
        EVENT_ROW(rsp_connect(users[i], NAMED, 0), 0, 0, sd, ADD);
        ROW(rsp_sendmsg(users[i], i ? "second" : "first", i ? 6 : 5, 0, 0, htonl(7), 0, 0, 0, 1000), i ? 6 : 5, 0);
        ROW(rsp_recvfullmsg(sd, buffer, sizeof(buffer), &from, &flags, 10000), i ? 6 : 5, 0);
        ROW(from.rinfo_session, i + 1, 0); /* the lowest number that is free */
        ROW(from.rinfo_ppid == htonl(7), 1, 0);
        ROW(flags, MSG_EOR, 0);
    }
    EVENT_ROW(rsp_sendmsg(sd, "to the first", 12, 0, 1, 0, 0, 0, 0, 1000), 12, 0, users[0], DATA);
    EVENT_ROW(rsp_sendmsg(sd, "to the second", 13, 0, 2, 0, 0, 0, 0, 1000), 13, 0, users[1], DATA);
    ROW(next_event(users[0], 0), NONE, 0);
    ROW(rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0, 0), -1, ENOTCONN); /* it is connected by none */
    ROW(rsp_sendmsg(sd, "x", 1, 0, 3, 0, 0, 0, 0, 0), -1, ENOTCONN);
    ROW(rsp_send(sd, "x", 1, 0), -1, ENOTCONN);
    ROW(rsp_send_cookie(sd, pool, 4, 2, 1000), 4, 0);
    ROW(rsp_send_cookie(sd, pool, 4, 3, 1000), -1, ENOTCONN);
    ROW(rsp_csp_setstatus(sd, 2, "two sessions"), 0, 0);
    ROW(rsp_csp_setstatus(sd, 3, "no such"), -1, ENOTCONN);
    ROW(rsp_csp_setstatus(sd, 2, NULL), -1, EFAULT);
    /* ended by the user: both are told, and the number is free again */
    EVENT_ROW(rsp_close(users[0]), 0, 0, sd, SHUTDOWN);
    ROW(next_event(sd, 10000), REMOVE, 0);
    ROW(rsp_sendmsg(sd, "x", 1, 0, 1, 0, 0, 0, 0, 0), -1, ENOTCONN);
    KEEP(users[2], rsp_socket(0, SOCK_SEQPACKET, 0));
    EVENT_ROW(rsp_connect(users[2], NAMED, 0), 0, 0, sd, ADD);
    EVENT_ROW(rsp_sendmsg(sd, "to the next", 11, 0, 1, 0, 0, 0, 0, 1000), 11, 0, users[2], DATA);
    /* ended by the server: it needs not be told that the session ends, but when its number is free */
    EVENT_ROW(rsp_sendmsg(sd, "bye", 3, 0, 1, 0, 0, 0, RSP_EOF, 1000), 3, 0, users[2], DATA);
    ROW(next_event(users[2], 10000), SHUTDOWN, 0);
    ROW(next_event(users[2], 10000), END, 0);
    ROW(rsp_sendmsg(users[2], "x", 1, 0, 0, 0, 0, 0, 0, 0), -1, EPIPE);
    ROW(next_event(sd, 10000), REMOVE, 0);
    ROW(rsp_close(users[2]), 0, 0);
    /* broken off: there is no shutdown */
    EVENT_ROW(rsp_sendmsg(users[1], NULL, 0, 0, 0, 0, 0, 0, RSP_ABORT, 0), 0, 0, sd, REMOVE);
    ROW(next_event(sd, 0), NONE, 0);
    ROW(rsp_close(users[1]), 0, 0);
    KEEP(users[0], rsp_socket(0, SOCK_SEQPACKET, 0));
    EVENT_ROW(rsp_connect(users[0], NAMED, 0), 0, 0, sd, ADD);
    ROW(rsp_write(users[0], "data", 4), 4, 0);
    ROW(rsp_read(sd, buffer, sizeof(buffer)), 4, 0); /* of whichever session */
    ROW(rsp_setsockopt(sd, SOL_RSERPOOL, RSP_RECV_TIMEOUT, &(int){0}, sizeof(int)), 0, 0);
    ROW(rsp_read(sd, buffer, sizeof(buffer)), -1, EAGAIN);
    EVENT_ROW(rsp_sendmsg(sd, NULL, 0, 0, 1, 0, 0, 0, RSP_ABORT, 0), 0, 0, users[0], NECESSARY);
    ROW(next_event(users[0], 0), NECESSARY, 0); /* until something is done about it */
    ROW(rsp_write(users[0], "x", 1), -1, EPIPE);
    ROW(next_event(sd, 10000), REMOVE, 0);
    EVENT_ROW(rsp_forcefailover(users[0], FFF_NONE, 0), 0, 0, users[0], COMPLETE);
    ROW(next_event(sd, 10000), ADD, 0);
    ROW(rsp_close(users[0]), 0, 0);
    ROW(rsp_close(sd), 0, 0);
#undef NAMED
}

/* The functions with a tag list, where they differ from those without. */
static void tag_lists(void) {
    static const unsigned char name[] = "ApiTableTags";
    struct TagItem round[2] = {{RSP_TAG_IGNORE, 0}, {RSP_TAG_MORE, 0}};
    struct TagItem identifier[] = {{4711, 1}, {RSP_TAG_PE_IDENTIFIER, 0xe0000001}, {RSP_TAG_DONE, 0}};
    struct TagItem other[] = {{RSP_TAG_PE_IDENTIFIER, 0xe0000002}, {RSP_TAG_DONE, 0}};
    struct TagItem huge[] = {{RSP_TAG_PE_IDENTIFIER, 0x100000000}, {RSP_TAG_DONE, 0}};
    struct TagItem slow[] = {{RSP_TAG_CONNECT_TIMEOUT, 1234567}, {RSP_TAG_RESOLUTION_RETRY_DELAY, 1}, {RSP_TAG_DONE, 0}};
    struct TagItem never[] = {{RSP_TAG_CONNECT_TIMEOUT, 0}, {RSP_TAG_DONE, 0}};
    struct TagItem skipped[] = {{RSP_TAG_SKIP, 0}, {RSP_TAG_CONNECT_TIMEOUT, 0}, {RSP_TAG_MORE, 0}};
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rsp_addrinfo self = {
        .ai_protocol = IPPROTO_TCP, .ai_addrs = 1, .ai_addr = (struct sockaddr *)&address}, *list = NULL;
    socklen_t length = sizeof(int);
    int sd, user, value = 0, second;
    uint32_t id = 0;
#define NAMED name, sizeof(name) - 1
    round[1].Data = (unsigned long)round;
    sd = server_socket();
    ROW(rsp_register_tags(sd, NAMED, &round_robin, 0, 0, round), -1, EINVAL);
    ROW(rsp_register_tags(sd, NAMED, &round_robin, 0, 0, huge), -1, EINVAL);
    ROW(rsp_register_tags(sd, NAMED, &round_robin, 0, 0x4000, identifier), -1, EINVAL);
    ROW(rsp_register_tags(sd, NAMED, &round_robin, 0, 0, identifier), 0, 0);
    ROW(rsp_getsockname(sd, NULL, NULL, &id), 0, 0);
    ROW(id == 0xe0000001, 1, 0);
    ROW(rsp_register_tags(sd, NAMED, &round_robin, 0, 0, identifier), 0, 0);
    ROW(rsp_register_tags(sd, NAMED, &round_robin, 0, 0, NULL), 0, 0);
    ROW(rsp_register_tags(sd, NAMED, &round_robin, 0, 0, other), -1, EINVAL);
    second = server_socket();
    ROW(rsp_register_tags(second, NAMED, &round_robin, 0, 0, identifier), -1, EEXIST);
    ROW(rsp_close(second), 0, 0);
    KEEP(user, rsp_socket(0, SOCK_SEQPACKET, 0));
    ROW(rsp_connect_tags(user, NAMED, 0, round), -1, EINVAL);
    ROW(rsp_connect_tags(user, NAMED, 0, never), -1, EINVAL);
    ROW(rsp_connect_tags(user, name, 0, 0, slow), -1, EINVAL);
    ROW(rsp_connect_tags(user, NAMED, 0, slow), 0, 0);
    ROW(rsp_getsockopt(user, SOL_RSERPOOL, RSP_CONNECT_TIMEOUT, &value, &length), 0, 0);
    ROW(value, 1235, 0);
    ROW(rsp_connect_tags(user, NAMED, 0, skipped), -1, EISCONN);
    ROW(rsp_forcefailover_tags(user, FFF_NONE, 0, round), -1, EINVAL);
    ROW(rsp_forcefailover_tags(user, 6, 0, NULL), -1, EINVAL);
    EVENT_ROW(rsp_forcefailover_tags(user, FFF_NONE, 0, skipped), 0, 0, user, COMPLETE);
    ROW(rsp_close(user), 0, 0);
    ROW(rsp_getaddrinfo_tags(NAMED, &list, 1, 0, round), REAI_SYSTEM, EINVAL);
    ROW(rsp_getaddrinfo_tags(NAMED, &list, RSPGETADDRS_MIN, 0, skipped), 1, 0);
    ROW(list->ai_pe_id == id, 1, 0);
    rsp_freeaddrinfo(list);
    ROW(rsp_accept_tags(sd, 0, NULL), -1, EOPNOTSUPP);
    ROW(rsp_accept_tags(sd, 0, round), -1, EINVAL);
    ROW(rsp_deregister_tags(sd, 0, round), -1, EINVAL);
    ROW(rsp_deregister_tags(sd, 0, NULL), 0, 0);
    ROW(rsp_deregister_tags(sd, 0, NULL), -1, EINVAL);
    ROW(rsp_close(sd), 0, 0);
    ROW(rsp_pe_registration_tags(NAMED, &self, &round_robin, 60000, 0, round), UINT_FAILED, EINVAL);
    ROW(rsp_pe_registration_tags(NAMED, NULL, &round_robin, 60000, 0, NULL), UINT_FAILED, EFAULT);
    ROW(rsp_pe_registration_tags(NAMED, &self, &round_robin, 60000, 0, NULL), 0, 0);
    ROW(rsp_getaddrinfo_tags((const unsigned char *)"NoSuchPool", 10, &list, 1, 0, NULL), REAI_NONAME, ENOENT);
    ROW(rsp_pe_failure_tags(NAMED, 77, round), UINT_FAILED, EINVAL);
    ROW(rsp_pe_failure_tags(NAMED, 77, NULL), 0, 0); /* whoever that is */
    ROW(rsp_pe_deregistration_tags(NAMED, self.ai_pe_id, 0, round), UINT_FAILED, EINVAL);
    ROW(rsp_pe_deregistration_tags(NAMED, self.ai_pe_id, 0, NULL), 0, 0);
#undef NAMED
}

/* Ordinary descriptors among ours. */
static void mapped_descriptors(void) {
    int pair[2], sd, socket_sd, free_number, flags = 0, type = 0;
    socklen_t length = sizeof(type);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) {
        return;
    }
    ROW(rsp_mapsocket(-1, -1), -1, EBADF);
    ROW(rsp_mapsocket(pair[0], -2), -1, EINVAL);
    ROW(rsp_mapsocket(pair[0], pair[1]), -1, EMFILE);
    KEEP(sd, rsp_mapsocket(pair[0], -1));
    ROW(sd > 2 && sd != pair[0], 1, 0);
    ROW(rsp_mapsocket(sd, -1), -1, EINVAL);
    ROW(rsp_write(sd, "hello", 5), 5, 0);
    ROW(rsp_read(pair[1], buffer, sizeof(buffer)), -1, EBADF); /* not mapped */
    ROW(read(pair[1], buffer, sizeof(buffer)), 5, 0);
    ROW(write(pair[1], "answer", 6), 6, 0);
    struct pollfd entry = {sd, POLLIN, 0};
    ROW(rsp_poll(&entry, 1, 1000), 1, 0);
    ROW(entry.revents, POLLIN, 0);
    ROW(rsp_read(sd, buffer, sizeof(buffer)), 6, 0);
    ROW(rsp_getsockopt(sd, SOL_SOCKET, SO_TYPE, &type, &length), 0, 0);
    ROW(type, SOCK_STREAM, 0);
    ROW(rsp_setsockopt(sd, SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof(int)), 0, 0);
    ROW(rsp_setsockopt(sd, SOL_SOCKET, SO_TYPE, &type, sizeof(type)), -1, ENOPROTOOPT);
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0), -1, ENOTSOCK);
    ROW(rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0, 0), -1, ENOTSOCK);
    ROW(rsp_connect(sd, POOL, 0), -1, ENOTSOCK);
    ROW(rsp_unmapsocket(sd), 0, 0);
    ROW(rsp_unmapsocket(sd), -1, EBADF);
    ROW(rsp_read(sd, buffer, sizeof(buffer)), -1, EBADF);
    ROW(write(pair[0], "y", 1), 1, 0); /* it is as it was */
    free_number = dup(pair[0]);
    close(free_number);
    ROW(rsp_mapsocket(pair[0], free_number), free_number, 0);
    ROW(rsp_close(free_number), 0, 0);
    ROW(rsp_close(free_number), -1, EBADF);
    ROW(write(pair[0], "z", 1), 1, 0);
    KEEP(socket_sd, rsp_socket(0, SOCK_SEQPACKET, 0));
    ROW(rsp_unmapsocket(socket_sd), -1, EBADF);
    ROW(rsp_mapsocket(socket_sd, -1), -1, EINVAL);
    ROW(rsp_close(socket_sd), 0, 0);
    KEEP(sd, rsp_mapsocket(pair[1], -1)); /* for rsp_cleanup to close */
    close(pair[0]);
    close(pair[1]);
}

/* Sockets that the program has made itself. */
static void given_sockets(void) {
    static const unsigned char name[] = "ApiTableGiven";
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, at;
    socklen_t length = sizeof(at);
    int pipes[2], pair[2], fd, sd, user, flags = 0;
#define NAMED name, sizeof(name) - 1
    if (pipe(pipes) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) {
        return;
    }
    ROW(rsp_socket_internal(0, 99, 0, -1), -1, EINVAL);
    ROW(rsp_socket_internal(0, SOCK_STREAM, 0, 100000), -1, EBADF);
    ROW(rsp_socket_internal(0, SOCK_STREAM, 0, pipes[0]), -1, ENOTSOCK);
    ROW(rsp_socket_internal(0, SOCK_STREAM, 0, pair[0]), -1, EPROTONOSUPPORT);
    KEEP(sd, rsp_socket_internal(0, SOCK_SEQPACKET, 0, -1)); /* as rsp_socket */
    ROW(rsp_socket_internal(0, SOCK_SEQPACKET, 0, sd), -1, EINVAL);
    ROW(rsp_close(sd), 0, 0);
    /* neither bound nor listening; then bound; then listening, too */
    for (int stage = 0; stage < 3; stage++) {
        KEEP(fd, socket(AF_INET, SOCK_STREAM, protocol));
        ROW(rsp_socket_internal(0, SOCK_SEQPACKET, IPPROTO_UDP, fd), -1, EPROTOTYPE);
        if (stage > 0) {
            ROW(bind(fd, (struct sockaddr *)&loopback, sizeof(loopback)), 0, 0);
        }
        if (stage > 1) {
            ROW(listen(fd, 5), 0, 0);
        }
        KEEP(sd, rsp_socket_internal(0, SOCK_SEQPACKET, protocol, fd));
        ROW(rsp_bind(sd, (struct sockaddr *)&loopback, 1), stage > 0 ? -1 : 0, stage > 0 ? EINVAL : 0);
        ROW(rsp_register(sd, NAMED, &round_robin, 0, 0), 0, 0);
        KEEP(user, rsp_socket(0, SOCK_SEQPACKET, 0));
        EVENT_ROW(rsp_connect(user, NAMED, 0), 0, 0, sd, ADD);
        EVENT_ROW(rsp_write(user, "hello", 5), 5, 0, sd, DATA);
        ROW(rsp_close(user), 0, 0);
        ROW(rsp_close(sd), 0, 0);
    }
    /* one that is connected */
    int listener = socket(AF_INET, SOCK_STREAM, protocol);
    ROW(bind(listener, (struct sockaddr *)&loopback, sizeof(loopback)), 0, 0);
    ROW(listen(listener, 5), 0, 0);
    ROW(getsockname(listener, (struct sockaddr *)&at, &length), 0, 0);
    KEEP(fd, socket(AF_INET, SOCK_STREAM, protocol));
    ROW(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0, 0);
    ROW(rsp_socket_internal(0, SOCK_STREAM, 0, fd), -1, EISCONN);
    close(fd);
    close(listener);
    KEEP(fd, socket(AF_INET, SOCK_DGRAM, 0));
    KEEP(sd, rsp_socket_internal(0, SOCK_SEQPACKET, 0, fd));
    ROW(rsp_bind(sd, (struct sockaddr *)&loopback, 1), 0, 0);
    ROW(rsp_listen(sd, 1), 0, 0);
    ROW(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0), -1, EAGAIN);
    ROW(rsp_close(sd), 0, 0);
    for (int i = 0; i < 2; i++) {
        close(pipes[i]);
        close(pair[i]);
    }
#undef NAMED
}

static void session_parameters(void) {
    struct rserpool_session_parameters all = {0}, wrong = {0}, changed = {0};
    int sd;
    KEEP(sd, rsp_socket(0, SOCK_SEQPACKET, 0));
    ROW(rsp_update_session_parameters(sd, NULL), -1, EFAULT);
    ROW(rsp_update_session_parameters(sd, &all), 0, 0); /* what is the case */
    ROW(all.sp_rto_min > 0 && all.sp_rto_min <= all.sp_rto_initial && all.sp_rto_initial <= all.sp_rto_max, 1, 0);
    ROW(all.sp_assoc_max_rxt > 0 && all.sp_path_max_rxt > 0 && all.sp_hbinterval > 0, 1, 0);
    wrong.sp_rto_min = 70000;
    ROW(rsp_update_session_parameters(sd, &wrong), -1, EINVAL);
    wrong = (struct rserpool_session_parameters){.sp_path_max_rxt = 70000};
    ROW(rsp_update_session_parameters(sd, &wrong), -1, EINVAL);
    changed.sp_rto_initial = 2000;
    changed.sp_rto_max = 5000;
    changed.sp_assoc_max_rxt = 8;
    ROW(rsp_update_session_parameters(sd, &changed), 0, 0);
    ROW(changed.sp_rto_min, all.sp_rto_min, 0);
    ROW(changed.sp_rto_max, 5000, 0);
    changed = (struct rserpool_session_parameters){0};
    ROW(rsp_update_session_parameters(sd, &changed), 0, 0);
    ROW(changed.sp_rto_initial, 2000, 0);
    ROW(changed.sp_assoc_max_rxt, 8, 0);
    ROW(changed.sp_path_max_rxt, all.sp_path_max_rxt, 0);
    ROW(rsp_close(sd), 0, 0);
}

static void printed_notifications(void) {
    union rserpool_notification note;
    char *text = NULL;
    size_t size = 0;
    memset(&note, 0, sizeof(note));
    note.rn_session_change =
        (struct rserpool_session_change){.rsc_type = RSERPOOL_SESSION_CHANGE, .rsc_state = RSERPOOL_SESSION_ADD, .rsc_session = 7};
    FILE *stream = open_memstream(&text, &size);
    rsp_print_notification(&note, stream);
    rsp_print_notification(NULL, stream);
    rsp_print_notification(&note, NULL);
    fclose(stream);
    ROW(strcmp(text, "RSERPOOL_SESSION_CHANGE for session 7, state=RSERPOOL_SESSION_ADD"), 0, 0);
    free(text);
}

static void basic_mode(void) {
    static const unsigned char name[] = "ApiTableBasic";
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rsp_addrinfo self = {.ai_family = AF_INET,
                                .ai_socktype = SOCK_STREAM,
                                .ai_protocol = IPPROTO_TCP,
                                .ai_addrlen = sizeof(address),
                                .ai_addrs = 1,
                                .ai_addr = (struct sockaddr *)&address};
    struct rsp_addrinfo wrong = self, none = self, *list = NULL;
    wrong.ai_protocol = 200;
    none.ai_addrs = 0;
#define NAME name, sizeof(name) - 1
    ROW(rsp_getaddrinfo(NAME, &list, 1, 0), REAI_NONAME, ENOENT);
    ROW(rsp_getprimaryserver(NAME, &list), -1, ENOENT);
    ROW(rsp_getaddrinfo(NAME, NULL, 1, 0), REAI_SYSTEM, EFAULT);
    ROW(rsp_getaddrinfo(NULL, 3, &list, 1, 0), REAI_SYSTEM, EFAULT);
    ROW(rsp_getaddrinfo(long_handle, sizeof(long_handle), &list, 1, 0), REAI_SYSTEM, ENAMETOOLONG);
    ROW(rsp_getnextserver(NAME, &list), -1, EFAULT);
    ROW(rsp_pe_registration(NAME, NULL, &round_robin, 1000, 0), UINT_FAILED, EFAULT);
    ROW(rsp_pe_registration(NAME, &self, NULL, 1000, 0), UINT_FAILED, EFAULT);
    ROW(rsp_pe_registration(NAME, &self, &round_robin, 0, 0), UINT_FAILED, EINVAL);
    ROW(rsp_pe_registration(NAME, &self, &round_robin, 1000, 0x40), UINT_FAILED, EINVAL);
    ROW(rsp_pe_registration(NAME, &wrong, &round_robin, 1000, 0), UINT_FAILED, EPROTONOSUPPORT);
    ROW(rsp_pe_registration(NAME, &none, &round_robin, 1000, 0), UINT_FAILED, EINVAL);
    ROW(rsp_pe_registration(NAME, &self, &round_robin, 60000, 0), 0, 0);
    ROW(self.ai_pe_id != 0, 1, 0);
    ROW(rsp_pe_registration(NAME, &self, &round_robin, 60000, 0), 0, 0); /* renewed */
    ROW(rsp_getaddrinfo(NAME, &list, RSPGETADDRS_MAX, 0), 1, 0);
    ROW(list->ai_pe_id == self.ai_pe_id && list->ai_next == NULL, 1, 0);
    ROW(list->ai_family == AF_INET && list->ai_protocol == IPPROTO_TCP && list->ai_addrs == 1, 1, 0);
    ROW(((struct sockaddr_in *)list->ai_addr)->sin_port == htons(9), 1, 0);
    ROW(rsp_getnextserver(NAME, &list), -1, ENOENT); /* there is no other; the list is as it was */
    ROW(list->ai_pe_id == self.ai_pe_id, 1, 0);
    rsp_freeaddrinfo(list);
    ROW(rsp_pe_failure(NULL, 1, 1), UINT_FAILED, EFAULT);
    ROW(rsp_pe_deregistration(NAME, self.ai_pe_id, 0x40), UINT_FAILED, EINVAL);
    ROW(rsp_pe_deregistration(NAME, self.ai_pe_id, 0), 0, 0);
}

static void watching(void) {
    static const unsigned char name[] = "ApiTableWatch";
    struct rsp_poolchange change;
    struct pollfd entry;
    int sd, watch, flags = 0;
    KEEP(watch, rsp_watch(NAME));
    ROW(rsp_watch(NULL, 1), -1, EFAULT);
    ROW(rsp_watch_next(watch, NULL, sizeof(change), 0), -1, EFAULT);
    ROW(rsp_watch_next(watch, &change, 8, 0), -1, EINVAL);
    ROW(rsp_watch_next(-1, &change, sizeof(change), 0), -1, EBADF);
    ROW(rsp_watch_next(watch, &change, sizeof(change), 10000), 1, 0); /* an empty pool, all told */
    ROW(change.rpc_type, RSP_POOL_UPTODATE, 0);
    ROW(rsp_watch_next(watch, &change, sizeof(change), 0), 0, 0);
    ROW(rsp_recvmsg(watch, buffer, sizeof(buffer), NULL, &flags, 0), -1, ENOTCONN);
    ROW(rsp_connect(watch, NAME, 0), -1, EOPNOTSUPP);
    sd = server_socket();
    ROW(rsp_watch_next(sd, &change, sizeof(change), 0), -1, EOPNOTSUPP);
    ROW(rsp_register(sd, NAME, &weighted, 0, 0), 0, 0);
    entry.fd = watch;
    entry.events = POLLIN;
    ROW(rsp_poll(&entry, 1, 10000), 1, 0);
    ROW(rsp_watch_next(watch, &change, sizeof(change), 10000), 1, 0);
    ROW(change.rpc_type, RSP_POOL_ADDED, 0);
    ROW(change.rpc_loadinfo.rli_policy == PPT_WEIGHTED_RANDOM && change.rpc_loadinfo.rli_weight == 3, 1, 0);
    ROW(change.rpc_addr.ss_family, AF_INET, 0);
    ROW(rsp_close(sd), 0, 0);
    do { /* UPTODATE may come again */
        ROW(rsp_watch_next(watch, &change, sizeof(change), 10000), 1, 0);
    } while (change.rpc_type == RSP_POOL_UPTODATE);
    ROW(change.rpc_type, RSP_POOL_REMOVED, 0);
    ROW(rsp_close(watch), 0, 0);
}

static void waiting(void) {
    int pipes[2], sd = server_socket();
    fd_set set;
    struct timeval short_time = {0, 1000}, bad_time = {-1, 0}, bad_micros = {0, 2000000};
    if (pipe(pipes) < 0) {
        return;
    }
    struct pollfd entries[3] = {{sd, POLLIN, 0}, {pipes[0], POLLIN, 0}, {pipes[1], POLLOUT, 0}};
    ROW(rsp_listen(sd, 5), 0, 0);
    ROW(rsp_poll(entries, 2, 0), 0, 0);
    ROW(rsp_poll(entries, 3, 1000), 1, 0);
    ROW(entries[2].revents, POLLOUT, 0);
    ROW(rsp_poll(NULL, 0, 0), 0, 0);
    ROW(rsp_poll(NULL, 3, 0), -1, EFAULT);
    entries[0].fd = 100000;
    ROW(rsp_poll(entries, 1, 0), 1, 0);
    ROW(entries[0].revents, POLLNVAL, 0);
    ROW(write(pipes[1], "x", 1), 1, 0);
    FD_ZERO(&set);
    FD_SET(sd, &set);
    FD_SET(pipes[0], &set);
    ROW(rsp_select((sd > pipes[0] ? sd : pipes[0]) + 1, &set, NULL, NULL, NULL), 1, 0);
    ROW(FD_ISSET(pipes[0], &set) && !FD_ISSET(sd, &set), 1, 0);
    FD_ZERO(&set);
    FD_SET(sd, &set);
    ROW(rsp_select(sd + 1, &set, NULL, NULL, &short_time), 0, 0);
    ROW(FD_ISSET(sd, &set), 0, 0);
    ROW(rsp_select(-1, NULL, NULL, NULL, NULL), -1, EINVAL);
    ROW(rsp_select(2000, NULL, NULL, NULL, NULL), -1, EINVAL);
    ROW(rsp_select(0, NULL, NULL, NULL, &bad_time), -1, EINVAL);
    ROW(rsp_select(0, NULL, NULL, NULL, &bad_micros), -1, EINVAL);
    close(pipes[0]);
    close(pipes[1]);
    FD_ZERO(&set);
    FD_SET(pipes[0], &set);
    ROW(rsp_select(pipes[0] + 1, &set, NULL, NULL, &short_time), -1, EBADF);
    ROW(rsp_close(sd), 0, 0);
}

/* From two threads: the same failing and succeeding calls at once, and a close under a waiting receiver. */
static int shared_sd;
static void *receiver(void *result) {
    char in[32];
    int flags = 0;
    ssize_t got = rsp_recvmsg(shared_sd, in, sizeof(in), NULL, &flags, 20000);
    *(int *)result = got < 0 ? errno : 0;
    return NULL;
}

static void *closer(void *result) {
    *(int *)result = rsp_close(shared_sd);
    return NULL;
}

static void *hammer(void *unused) {
    (void)unused;
    for (int i = 0; i < 300; i++) {
        int flags = 0;
        char in[32];
        struct rsp_loadinfo load = {.rli_policy = PPT_ROUNDROBIN};
        int sd = rsp_socket(0, i % 2 ? SOCK_STREAM : SOCK_SEQPACKET, 0);
        rsp_recvmsg(sd, in, sizeof(in), NULL, &flags, 0);
        rsp_sendmsg(shared_sd, "x", 1, 0, 5, 0, 0, 0, 0, 0);
        rsp_recvmsg(shared_sd, in, sizeof(in), NULL, &flags, 0);
        rsp_register(shared_sd, NULL, 0, &load, 0, 0);
        rsp_listen(shared_sd, i);
        rsp_close(sd);
        rsp_close(-7);
        if (strlen(asap_last_error()) == 0) {
            bad_rows++;
        }
    }
    return NULL;
}

static void two_threads(void) {
    pthread_t a, b;
    int first = -9, second = -9;
    shared_sd = server_socket();
    ROW(rsp_listen(shared_sd, 1), 0, 0);
    ROW(pthread_create(&a, NULL, hammer, NULL), 0, 0);
    ROW(pthread_create(&b, NULL, hammer, NULL), 0, 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    ROW(pthread_create(&a, NULL, receiver, &first), 0, 0);
    ROW(rsp_close(shared_sd), 0, 0);
    pthread_join(a, NULL);
    ROW(first, EBADF, 0);
    shared_sd = server_socket();
    pthread_create(&a, NULL, closer, &first);
    pthread_create(&b, NULL, closer, &second);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    ROW(first + second, -1, 0); /* one of them was first */
}

int main(int argc, char **argv) {
    const char *transport = argc > 1 ? argv[1] : getenv("ASAP_TRANSPORT");
    if (transport != NULL && strcmp(transport, "sctp") == 0) {
        protocol = IPPROTO_SCTP;
    } else if (transport != NULL && strcmp(transport, "tcp") != 0) {
        printf("\"%s\" is neither tcp nor sctp\n", transport);
        return 2;
    }
    memset(long_handle, 'x', sizeof(long_handle));
    memset(buffer, 0, sizeof(buffer));
    arguments();
    printed_notifications();
    bad_descriptor(-1);
    without_initialisation();
    for (int round = 0; round < 2; round++) { /* the library can be started again */
        ROW(rsp_initialize(NULL), 0, 0);
        ROW(rsp_initialize(NULL), 0, 0);
        if (round == 0) {
            mapped_descriptors();
            given_sockets();
            session_parameters();
            tag_lists();
            one_to_many();
        }
        bad_descriptor(0);
        bad_descriptor(INT_MAX);
        fresh_socket();
        element_and_user();
        stream_sockets();
        basic_mode();
        watching();
        waiting();
        two_threads();
        rsp_cleanup();
        without_initialisation();
    }
    printf("%d rows, %d of them failing calls, %d not as expected\n", rows, failing_rows, bad_rows);
    if (failing_rows * 4 < rows) {
        printf("fewer than a quarter of the rows are failing calls\n");
        return 1;
    }
    return bad_rows == 0 ? 0 : 1;
}
