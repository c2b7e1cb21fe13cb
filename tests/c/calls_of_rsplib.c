/*
 * Calls of RSPLIB's 51 functions, good and bad and in every state, and a line for each: what was called, what it returned, errno if it
 * failed, the event if one was awaited. It judges nothing: it runs unchanged on RSPLIB's librsplib.so.3, on ours, and on libasap.so, and what the three
 * say is compared (tests/lab/calls.py).
 *
 *     calls_of_rsplib SECTION POOL [REGISTRAR ADDRESS]       REGISTRAR as address:port, ADDRESS of this host, not on loopback; needs kernel SCTP
 *
 * What may end the process is called in a child: that it was killed, and by what, is an outcome like others.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <rserpool/rserpool-internals.h>
#include <rserpool/rserpool.h>
#include <rserpool/tagitem.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNKNOWN 77               /* no descriptor of anybody's */
#define ASSOCIATION_ABORT 0x0004 /* SCTP_ABORT and SCTP_EOF of Linux */
#define ASSOCIATION_EOF 0x0200
#define HANG 10                  /* seconds after which a call in a child is taken not to end */

static const char *section;
static const char *registrar, *own_address;
static const unsigned char *pool;
static size_t pool_size;
#define POOL pool, pool_size
#define NO_POOL (const unsigned char *)"NoSuchPool", 10
static unsigned char bytes33[33];
#define LONG_POOL bytes33, sizeof(bytes33)

static const unsigned int odd_flags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM;
static char buffer[1024];
static union rserpool_notification note;
static struct rsp_sndrcvinfo rinfo;
static int flags, value, sd;
static socklen_t value_size = sizeof(value);
static size_t size;
static uint32_t id;
static struct rsp_addrinfo *list;
static struct rserpool_session_parameters parameters;
static struct pollfd entry;
static fd_set set;
static struct timeval no_time, a_second = {1, 0};
static struct rsp_loadinfo round_robin = {PPT_ROUNDROBIN, 0, 0, 0, 0, 0};
static struct rsp_loadinfo random_policy = {PPT_RANDOM, 0, 0, 0, 0, 0};
static struct rsp_loadinfo no_policy = {0x77, 0, 0, 0, 0, 0};
static struct TagItem no_tags[1] = {{TAG_DONE, 0}};

/* --- What is said --- */

__attribute__((format(printf, 2, 3))) static void say(const char *call, const char *format, ...) {
    va_list arguments;
    printf("%s | %s | ", section, call);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static const char *name_of(int error) {
    const char *name = error == 0 ? "no errno" : strerrorname_np(error);
    return name ? name : "another errno";
}

/* A number: as it is. */
static void number(const char *call, long result, int error) {
    if (result < 0) {
        say(call, "%ld %s", result, name_of(error));
    } else {
        say(call, "%ld", result);
    }
}

/* A descriptor or something else that differs from run to run. */
static void some(const char *call, long result, int error) {
    if (result < 0) {
        number(call, result, error);
    } else {
        say(call, "some");
    }
}

/* One that says by errno what became of it even if it returns 0. */
static void told(const char *call, long result, int error) {
    say(call, "%ld %s", result, name_of(error));
}

/* The same, if nothing else is left behind by one that was done. */
static void moved(const char *call, long result, int error) {
    told(call, result, error == ENOENT || result < 0 ? error : 0);
}

/* One whose errno means nothing. */
static void bare(const char *call, long result, int error) {
    (void)error;
    say(call, "%ld", result);
}

/* A call in a session that is lost. On RSPLIB it is a matter of chance, and of what was called before, which of three values errno has. */
static void lost(const char *call, long result, int error) {
    if (result < 0 && (error == EPIPE || error == EIO || error == EBADF)) {
        say(call, "%ld EPIPE, EIO or EBADF", result);
    } else {
        number(call, result, error);
    }
}

/* One for which there is no registrar: that is known after all have been tried, or when the time is over. */
static void unanswered(const char *call, long result, int error) {
    if (result < 0 && (error == EHOSTUNREACH || error == ETIMEDOUT)) {
        say(call, "%ld EHOSTUNREACH or ETIMEDOUT", result);
    } else {
        told(call, result, error == EIO || result < 0 ? error : 0);
    }
}

/* An unsigned int that is no number of anything. */
static void code(const char *call, long result, int error) {
    if ((unsigned int)result == 0xffffffff) {
        say(call, "0xffffffff %s", name_of(error));
    } else {
        say(call, "0x%x", (unsigned int)result);
    }
}

/* One call, under its name. */
#define DO(form, name, call)                                                                                           \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long result = (long)(call);                                                                                    \
        form(name, result, errno);                                                                                     \
    } while (0)
#define CALL(form, call) DO(form, #call, call)
/* The same, and keeps the result. */
#define KEEP(variable, call) DO(some, #call, (variable) = (call))
/* One that gives nothing back: that it comes back. */
#define DOES(call)                                                                                                     \
    do {                                                                                                               \
        call;                                                                                                          \
        say(#call, "done");                                                                                            \
    } while (0)

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* One call, and whether it took the second that it may. */
static long long begun;
static void timed(const char *call, long result, int error) {
    const char *when = now() - begun >= 900 ? "after a second" : "at once";
    say(call, "%ld%s%s, %s", result, result < 0 ? " " : "", result < 0 ? name_of(error) : "", when);
}
#define TIMED(call)                                                                                                    \
    do {                                                                                                               \
        begun = now();                                                                                                 \
        CALL(timed, call);                                                                                             \
    } while (0)

/* How a child ended that has not come to its end. */
static void killed(const char *call, int status) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        say(call, "does not return");
    } else if (WIFSIGNALED(status)) {
        say(call, "killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    } else if (WEXITSTATUS(status) != 0) {
        say(call, "exits with %d", WEXITSTATUS(status));
    }
}

/* A call in a child of its own, after what prepares it there. */
#define ALONE(prepare, form, call)                                                                                     \
    do {                                                                                                               \
        int status = 0;                                                                                                \
        pid_t child = fork();                                                                                          \
        if (child == 0) {                                                                                              \
            alarm(HANG);                                                                                               \
            prepare;                                                                                                   \
            begun = now();                                                                                             \
            DO(form, #call, call);                                                                                     \
            _exit(0);                                                                                                  \
        }                                                                                                              \
        waitpid(child, &status, 0);                                                                                    \
        killed(#call, status);                                                                                         \
    } while (0)

/* --- Events --- */

static void describe(char *text, size_t room, ssize_t got, int error, const char *data) {
    const union rserpool_notification *in = (const union rserpool_notification *)data;
    const char *eor = flags & MSG_EOR ? "" : ", without MSG_EOR";
    /* Without errno: RSPLIB has kept to itself what came. */
    if (got < 0 && (error == EAGAIN || error == 0)) {
        snprintf(text, room, "nothing");
    } else if (got < 0) {
        snprintf(text, room, "%zd %s", got, name_of(error));
    } else if (flags & MSG_RSERPOOL_COOKIE_ECHO) {
        snprintf(text, room, "cookie echo \"%.*s\"%s", (int)got, data, eor);
    } else if (!(flags & MSG_RSERPOOL_NOTIFICATION)) {
        snprintf(text, room, got ? "%zd \"%.*s\", ppid %u, stream %u%s" : "0", got, (int)got, data, ntohl(rinfo.rinfo_ppid),
                 rinfo.rinfo_stream, eor);
    } else if (in->rn_header.rn_type == RSERPOOL_SESSION_CHANGE) {
        snprintf(text, room, "%zd SESSION_%s%s", got,
                 in->rn_session_change.rsc_state == RSERPOOL_SESSION_ADD ? "ADD" : "REMOVE", eor);
    } else if (in->rn_header.rn_type == RSERPOOL_FAILOVER) {
        snprintf(text, room, "%zd FAILOVER_%s, %s cookie%s", got,
                 in->rn_failover.rf_state == RSERPOOL_FAILOVER_COMPLETE ? "COMPLETE" : "NECESSARY",
                 in->rn_failover.rf_has_cookie ? "a" : "no", eor);
    } else {
        snprintf(text, room, "%zd %s%s", got,
                 in->rn_header.rn_type == RSERPOOL_SHUTDOWN_EVENT ? "SHUTDOWN_EVENT" : "another notification", eor);
    }
}

/* Whatever comes next on a descriptor, and the session it came in. */
static int event(const char *what, int on) {
    char text[256], data[64] = {0};
    long long until = now() + 20000;
    ssize_t got;
    int error;
    do {
        struct pollfd readable = {on, POLLIN, 0};
        rsp_poll(&readable, 1, 100);
        flags = 0;
        errno = 0;
        got = rsp_recvmsg(on, data, sizeof(data), &rinfo, &flags, 0);
        error = errno;
    } while (got < 0 && (error == EAGAIN || error == 0) && now() < until);
    describe(text, sizeof(text), got, error, data);
    say(what, "%s", text);
    return (int)rinfo.rinfo_session;
}
#define EVENT(on) event("event on " #on, on)

/* Takes what may be there or not. */
static void drain(int on) {
    struct pollfd readable = {on, POLLIN, 0};
    do {
        flags = 0;
    } while (rsp_recvmsg(on, buffer, sizeof(buffer), &rinfo, &flags, 0) >= 0 || rsp_poll(&readable, 1, 500) > 0);
}

/* What is there now. */
static void nothing(const char *what, int on) {
    char text[256], data[64] = {0};
    ssize_t got;
    flags = 0;
    errno = 0;
    got = rsp_recvmsg(on, data, sizeof(data), &rinfo, &flags, 0);
    describe(text, sizeof(text), got, errno, data);
    say(what, "%s", text);
}
#define NOW(on) nothing("now on " #on, on)

/* --- What the sections begin with --- */

static void begin(const char *word) {
    static struct rsp_info info;
    char at[128];
    rsp_initinfo(&info);
    rsp_initarg(&info, word);
    rsp_initarg(&info, "-asapannounce=off");
    if (registrar != NULL) {
        snprintf(at, sizeof(at), "-registrar=%s", registrar);
        rsp_initarg(&info, at);
    } else {
        info.ri_registrar_connect_timeout = 1000;
        info.ri_registrar_request_timeout = 1000;
        info.ri_registrar_response_timeout = 1000;
    }
    if (rsp_initialize(&info) < 0) {
        printf("rsp_initialize fails: %s\n", strerror(errno));
        exit(1);
    }
}

static int make(int type) {
    int made = rsp_socket(0, type, IPPROTO_SCTP);
    if (made < 0) {
        printf("rsp_socket fails: %s\n", strerror(errno));
        exit(1);
    }
    return made;
}

static void quietly(int type) {
    begin("");
    sd = make(type);
}

/* --- Sections --- */

static void arguments(void) {
    static const char *const words[] = {
        "-registrar=10.0.0.1:3863", "-registrar=10.0.0.1:3863,10.0.0.2:3863", "-registrar=[fd00::1]:3863", "-registrar=10.0.0.1",
        "-registrar=10.0.0.1:nonsense", "-registrar=", "-registrar=10.0.0.1:3863,", "-asapannounce=auto", "-asapannounce=off",
        "-asapannounce=239.0.0.1:4000", "-asapannounce=239.0.0.1", "-asapannounce=239.0.0.1:nonsense", "-asapannounce=", "-asapannounce",
        "-cspserver=10.0.0.1:2960", "-cspserver=10.0.0.1", "-cspserver=10.0.0.1:nonsense", "-cspserver=", "-cspinterval=250",
        "-cspinterval=1", "-cspinterval=0", "-cspinterval=often", "-cspinterval=", "-cspidentifier=0x1234", "-cspidentifier=1234",
        "-cspidentifier=zz", "-cspidentifier=", "-registrarannouncetimeout=1000", "-registrarconnecttimeout=1000",
        "-registrarconnectmaxtrials=2", "-registrarrequesttimeout=1000", "-registrarresponsetimeout=1000", "-registrarrequestmaxtrials=2",
        "-registrarrequestmaxtrials=x", "-loglevel=4", "-loglevel=99", "-loglevel=x", "-logquiet", "-logcolor=off", "-logcolor=on",
        "-logcolor=green", "-logfile=/tmp/calls.log", "-logfile=/nowhere/calls.log", "-logappend=/tmp/calls.log", "-logxyz", "-log", "-foo",
        "-Registrar=10.0.0.1:3863", "registrar=10.0.0.1:3863", "-", "", "word"};
    static const unsigned int types[] = {
        PPT_UNDEFINED, PPT_ROUNDROBIN, PPT_WEIGHTED_ROUNDROBIN, PPT_RANDOM, PPT_WEIGHTED_RANDOM, PPT_PRIORITY, PPT_LEASTUSED,
        PPT_LEASTUSED_DEGRADATION, PPT_PRIORITY_LEASTUSED, PPT_RANDOMIZED_LEASTUSED, PPT_RANDOMIZED_PRIORITY_LEASTUSED,
        PPT_RANDOMIZED_LEASTUSED_DEGRADATION, PPT_PRIORITY_LEASTUSED_DEGRADATION, PPT_RANDOMIZED_PRIORITY_LEASTUSED_DEGRADATION,
        PPT_WEIGHTED_RANDOM_DPF, PPT_LEASTUSED_DPF, PPT_LEASTUSED_DEGRADATION_DPF, PPT_PRIORITY_LEASTUSED_DPF,
        PPT_PRIORITY_LEASTUSED_DEGRADATION_DPF, 6, 0x40000005, 0xb0001005, 0xb0002006, 0xffffffff};
    static const char *const names[] = {
        "RoundRobin", "WeightedRoundRobin", "Random", "WeightedRandom", "Priority", "LeastUsed", "LeastUsedDegradation",
        "PriorityLeastUsed", "RandomizedLeastUsed", "RandomizedPriorityLeastUsed", "RandomizedLeastUsedDegradation",
        "PriorityLeastUsedDegradation", "RandomizedPriorityLeastUsedDegradation", "WeightedRandomDPF", "LeastUsedDPF",
        "LeastUsedDegradationDPF", "PriorityLeastUsedDPF", "PriorityLeastUsedDegradationDPF", "", "roundrobin", "Round Robin",
        "RoundRobin:1", "Nonsense"};
    static struct rsp_info info;
    char call[128];
    size_t i;

    memset(&info, 0xa5, sizeof(info));
    DOES(rsp_initinfo(&info));
    CALL(number, info.ri_registrars == NULL && info.ri_registrar_announce == NULL && info.ri_csp_server == NULL);
    CALL(number, info.ri_version);
    CALL(number, info.ri_disable_autoconfig);
    CALL(number, info.ri_registrar_connect_timeout);
    CALL(number, info.ri_csp_interval);
    for (i = 0; i < sizeof(words) / sizeof(*words); i++) {
        snprintf(call, sizeof(call), "rsp_initarg(&info, \"%s\")", words[i]);
        errno = 0;
        number(call, rsp_initarg(&info, words[i]), errno);
    }
    CALL(number, info.ri_registrar_connect_timeout);
    CALL(number, info.ri_registrar_request_max_trials);
    CALL(number, info.ri_csp_interval);
    CALL(number, info.ri_csp_identifier == 0x0200000000001234ULL);
    CALL(number, info.ri_registrars->rri_addrs);
    CALL(number, info.ri_registrars->rri_next != NULL);
    DOES(rsp_freeinfo(&info));
    CALL(number, info.ri_registrars == NULL);
    DOES(rsp_freeinfo(&info));
    setenv("CSP_SERVER", "127.0.0.1:5", 1);
    setenv("CSP_INTERVAL", "7", 1);
    DOES(rsp_initinfo(&info));
    CALL(number, info.ri_csp_server != NULL && ntohs(((struct sockaddr_in *)info.ri_csp_server)->sin_port) == 5);
    CALL(number, info.ri_csp_interval);
    rsp_freeinfo(&info);
    setenv("CSP_SERVER", "nonsense:", 1);
    setenv("CSP_INTERVAL", "often", 1);
    DOES(rsp_initinfo(&info));
    CALL(number, info.ri_csp_server != NULL);
    CALL(number, info.ri_csp_interval);
    rsp_freeinfo(&info);
    unsetenv("CSP_SERVER");
    unsetenv("CSP_INTERVAL");
    ALONE(rsp_initinfo(&info), number, rsp_initarg(&info, NULL));
    ALONE(, number, rsp_initarg(NULL, "-foo"));
    ALONE(, number, (rsp_initinfo(NULL), 0));
    ALONE(, number, (rsp_freeinfo(NULL), 0));

    for (i = 0; i < sizeof(types) / sizeof(*types); i++) {
        const char *name = rsp_getpolicybytype(types[i]);
        snprintf(call, sizeof(call), "rsp_getpolicybytype(0x%x)", types[i]);
        say(call, "%s", name ? name : "NULL");
    }
    for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(call, sizeof(call), "rsp_getpolicybyname(\"%s\")", names[i]);
        say(call, "0x%x", rsp_getpolicybyname(names[i]));
    }
    ALONE(, code, rsp_getpolicybyname(NULL));
    ALONE(, number, (rsp_freeaddrinfo(NULL), 0));
}

static void print(const char *what, uint16_t type, uint16_t state, int cookie) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    memset(&note, 0, sizeof(note));
    note.rn_header.rn_type = type;
    note.rn_header.rn_length = sizeof(note);
    if (type == RSERPOOL_FAILOVER) {
        note.rn_failover.rf_state = state;
        note.rn_failover.rf_session = 7;
        note.rn_failover.rf_has_cookie = (unsigned char)cookie;
    } else if (type == RSERPOOL_SESSION_CHANGE) {
        note.rn_session_change.rsc_state = state;
        note.rn_session_change.rsc_session = 7;
    } else {
        note.rn_shutdown_event.rse_session = 7;
    }
    rsp_print_notification(&note, stream);
    fclose(stream);
    for (char *at = text; (at = strchr(at, '\n')) != NULL;) {
        *at = '/';
    }
    say(what, "\"%s\"", text);
    free(text);
}
#define PRINT(type, state, cookie) print("rsp_print_notification of " #type ", " #state ", " #cookie, type, state, cookie)

static void printing(void) {
    PRINT(RSERPOOL_SESSION_CHANGE, RSERPOOL_SESSION_ADD, 0);
    PRINT(RSERPOOL_SESSION_CHANGE, RSERPOOL_SESSION_REMOVE, 0);
    PRINT(RSERPOOL_SESSION_CHANGE, 9, 0);
    PRINT(RSERPOOL_FAILOVER, RSERPOOL_FAILOVER_NECESSARY, 0);
    PRINT(RSERPOOL_FAILOVER, RSERPOOL_FAILOVER_COMPLETE, 1);
    PRINT(RSERPOOL_FAILOVER, 9, 1);
    PRINT(RSERPOOL_SHUTDOWN_EVENT, 0, 0);
    PRINT(9, 0, 0);
    ALONE(, number, (rsp_print_notification(NULL, stdout), 0));
    ALONE(, number, (rsp_print_notification(&note, NULL), 0));
}

/* Every function that takes a descriptor, on one. `EACH` is what is done with each call. */
#define ON_DESCRIPTOR(EACH, on)                                                                                        \
    EACH(rsp_bind(on, NULL, 0));                                                                                       \
    EACH(rsp_listen(on, 5));                                                                                           \
    EACH(rsp_accept(on, 0));                                                                                           \
    EACH(rsp_accept_tags(on, 0, no_tags));                                                                             \
    EACH(rsp_connect(on, POOL, 0));                                                                                    \
    EACH(rsp_connect_tags(on, POOL, 0, no_tags));                                                                      \
    EACH(rsp_register(on, POOL, &round_robin, 30000, 0));                                                              \
    EACH(rsp_register_tags(on, POOL, &round_robin, 30000, 0, no_tags));                                                \
    EACH(rsp_deregister(on, 0));                                                                                       \
    EACH(rsp_deregister_tags(on, 0, no_tags));                                                                         \
    EACH(rsp_forcefailover(on, FFF_NONE, 0));                                                                          \
    EACH(rsp_forcefailover_tags(on, FFF_UNREACHABLE, 0, no_tags));                                                     \
    EACH(rsp_has_cookie(on));                                                                                          \
    EACH(rsp_sendmsg(on, "x", 1, 0, 0, 0, 0, 0, 0, 0));                                                                \
    EACH(rsp_send_cookie(on, pool, 1, 0, 0));                                                                          \
    EACH(rsp_recvmsg(on, buffer, sizeof(buffer), &rinfo, &flags, 0));                                                  \
    EACH(rsp_recvfullmsg(on, buffer, sizeof(buffer), &rinfo, &flags, 0));                                              \
    EACH(rsp_send(on, "x", 1, 0));                                                                                     \
    EACH(rsp_recv(on, buffer, sizeof(buffer), 0));                                                                     \
    EACH(rsp_getsockname(on, (unsigned char *)buffer, &size, &id));                                                    \
    EACH(rsp_getpeername(on, (unsigned char *)buffer, &size, &id));                                                    \
    EACH(rsp_getsockopt(on, SOL_SOCKET, SO_TYPE, &value, &value_size));                                                \
    EACH(rsp_setsockopt(on, SOL_SOCKET, SO_KEEPALIVE, &value, value_size));                                            \
    EACH(rsp_update_session_parameters(on, &parameters));                                                              \
    EACH(rsp_csp_setstatus(on, 0, "status"))
/* Those that take mapped ones, too. */
#define ON_EITHER(EACH, on)                                                                                            \
    EACH(rsp_read(on, buffer, sizeof(buffer)));                                                                        \
    EACH(rsp_write(on, "x", 1));                                                                                       \
    EACH(rsp_unmapsocket(on));                                                                                         \
    EACH(rsp_close(on))

static void look_at(int on) {
    entry.fd = on;
    entry.events = POLLIN | POLLOUT;
    entry.revents = 0;
    FD_ZERO(&set);
    FD_SET(on, &set);
    no_time = (struct timeval){0, 0};
}

/* Before rsp_initialize(). */
static void before(void) {
#define CHILD(call) ALONE(, number, call)
    ALONE(, number, (rsp_cleanup(), 0));
    ALONE(, number, rsp_socket(0, SOCK_SEQPACKET, IPPROTO_SCTP));
    ALONE(, number, rsp_socket_internal(0, SOCK_SEQPACKET, IPPROTO_SCTP, -1));
    ALONE(, number, rsp_mapsocket(0, -1));
    ON_DESCRIPTOR(CHILD, 3);
    ON_EITHER(CHILD, 3);
    ALONE(look_at(3), number, rsp_poll(&entry, 1, 0));
    ALONE(look_at(3), number, rsp_select(4, &set, NULL, NULL, &no_time));
    ALONE(, number, rsp_getaddrinfo(POOL, &list, 1, 0));
    ALONE(, number, rsp_getaddrinfo_tags(POOL, &list, 1, 0, no_tags));
    ALONE(, code, rsp_pe_failure(POOL, 1));
    ALONE(, code, rsp_pe_failure_tags(POOL, 1, no_tags));
    ALONE(, code, rsp_pe_deregistration(POOL, 1, 0));
    ALONE(, code, rsp_pe_deregistration_tags(POOL, 1, 0, no_tags));
#undef CHILD
}

/* A descriptor that is not the library's: as programs are started, and with RSPLIB's checks out of the way. */
static void unknown(void) {
#define CHILD(call) ALONE(begin(""), number, call)
    ON_DESCRIPTOR(CHILD, UNKNOWN);
    ON_EITHER(CHILD, UNKNOWN);
    ALONE((begin(""), look_at(UNKNOWN)), number, rsp_poll(&entry, 1, 0));
    ALONE((begin(""), look_at(UNKNOWN)), number, rsp_select(UNKNOWN + 1, &set, NULL, NULL, &no_time));
    CHILD(rsp_listen(-1, 5));
    CHILD(rsp_listen(1024, 5));
#undef CHILD
}

static void unknown_to_silent_ones(void) {
#define EACH(call) CALL(number, call)
    begin("-loglevel=0");
    ON_DESCRIPTOR(EACH, UNKNOWN);
    ON_EITHER(EACH, UNKNOWN);
    EACH(rsp_listen(-1, 5));
    EACH(rsp_listen(1024, 5));
    EACH(rsp_close(1024));
    look_at(UNKNOWN);
    EACH(rsp_poll(&entry, 1, 0));
    EACH(entry.revents & POLLIN);
    rsp_cleanup();
}

static void starting(void) {
    static struct rsp_info info;
    rsp_initinfo(&info);
    rsp_initarg(&info, "-asapannounce=off");
    info.ri_registrar_connect_timeout = 1000; /* RSPLIB looks for one to the end before it ends itself */
    CALL(number, rsp_initialize(&info));
    CALL(number, info.ri_version);
    CALL(number, info.ri_revision);
    CALL(number, info.ri_build_date == NULL && info.ri_build_time == NULL);
    CALL(number, rsp_initialize(&info));
    CALL(number, rsp_initialize(NULL));
    CALL(some, rsp_socket(0, SOCK_SEQPACKET, IPPROTO_SCTP));
    CALL(some, rsp_socket(0, SOCK_STREAM, IPPROTO_SCTP));
    CALL(some, rsp_socket(0, SOCK_DGRAM, IPPROTO_SCTP));
    CALL(some, rsp_socket(AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP));
    CALL(some, rsp_socket(AF_INET6, SOCK_SEQPACKET, IPPROTO_SCTP));
    CALL(some, rsp_socket(77, SOCK_SEQPACKET, IPPROTO_SCTP));
    CALL(some, rsp_socket(AF_UNIX, SOCK_STREAM, IPPROTO_SCTP));
    CALL(some, rsp_socket(0, 99, IPPROTO_SCTP));
    CALL(some, rsp_socket(0, SOCK_RAW, IPPROTO_SCTP));
    CALL(some, rsp_socket(0, SOCK_SEQPACKET, 0));
    CALL(some, rsp_socket(0, SOCK_STREAM, IPPROTO_TCP));
    CALL(some, rsp_socket(0, SOCK_DGRAM, IPPROTO_UDP));
    CALL(some, rsp_socket(0, SOCK_STREAM, 99));
    CALL(some, rsp_socket_internal(0, SOCK_SEQPACKET, IPPROTO_SCTP, -1));
    CALL(some, rsp_socket_internal(0, SOCK_SEQPACKET, IPPROTO_SCTP, socket(AF_INET6, SOCK_SEQPACKET, IPPROTO_SCTP)));
    DOES(rsp_cleanup());
    CALL(number, rsp_initialize(&info));
    CALL(some, rsp_socket(0, SOCK_SEQPACKET, IPPROTO_SCTP));
    DOES(rsp_cleanup());
    DOES(rsp_cleanup());
}

static void fresh(int type) {
    begin("-loglevel=0");
    sd = make(type);
    CALL(number, rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, 0));
    CALL(number, rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, -1));
    TIMED(rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, 1000));
    CALL(number, rsp_recvfullmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, 0));
    CALL(number, rsp_read(sd, buffer, sizeof(buffer)));
    CALL(number, rsp_recv(sd, buffer, sizeof(buffer), 0));
    CALL(number, rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    CALL(number, rsp_sendmsg(sd, "x", 1, 0, 5, 0, 0, 0, 0, 0));
    CALL(number, rsp_send(sd, "x", 1, 0));
    CALL(number, rsp_write(sd, "x", 1));
    CALL(number, rsp_send_cookie(sd, pool, 1, 0, 0));
    CALL(number, rsp_csp_setstatus(sd, 0, "status"));
    CALL(number, rsp_csp_setstatus(sd, 5, "status"));
    CALL(number, rsp_forcefailover(sd, FFF_NONE, 0));
    CALL(number, rsp_forcefailover(sd, 0x40, 0));
    CALL(number, rsp_forcefailover_tags(sd, FFF_UNREACHABLE, 0, no_tags));
    CALL(number, rsp_deregister(sd, 0));
    CALL(number, rsp_deregister_tags(sd, DEREGF_DONTWAIT, no_tags));
    size = sizeof(buffer);
    CALL(number, rsp_getpeername(sd, (unsigned char *)buffer, &size, &id));
    CALL(number, rsp_getpeername(sd, NULL, NULL, &id));
    CALL(number, rsp_getsockname(sd, (unsigned char *)buffer, &size, &id));
    CALL(number, rsp_getsockname(sd, NULL, NULL, &id));
    CALL(number, rsp_accept(sd, 0));
    TIMED(rsp_accept(sd, 1000));
    CALL(bare, rsp_getsockopt(sd, SOL_SOCKET, SO_TYPE, &value, &value_size));
    CALL(bare, rsp_setsockopt(sd, SOL_SOCKET, SO_KEEPALIVE, &value, value_size));
    memset(&parameters, 0, sizeof(parameters));
    CALL(number, rsp_update_session_parameters(sd, &parameters));
    CALL(number, parameters.sp_rto_initial);
    CALL(number, parameters.sp_rto_min);
    CALL(number, parameters.sp_rto_max);
    CALL(number, parameters.sp_assoc_max_rxt);
    CALL(number, parameters.sp_path_max_rxt);
    CALL(number, parameters.sp_hbinterval);
    memset(&parameters, 0, sizeof(parameters));
    parameters.sp_rto_initial = 700;
    CALL(number, rsp_update_session_parameters(sd, &parameters));
    memset(&parameters, 0, sizeof(parameters));
    CALL(number, rsp_update_session_parameters(sd, &parameters));
    CALL(number, parameters.sp_rto_initial);
    CALL(number, rsp_unmapsocket(sd));
    look_at(sd);
    entry.events = POLLIN;
    CALL(number, rsp_poll(&entry, 1, 0));
    CALL(number, entry.revents & POLLIN);
    CALL(number, rsp_poll(&entry, 0, 0));
    TIMED(rsp_poll(&entry, 1, 1000));
    CALL(number, rsp_select(sd + 1, &set, NULL, NULL, &no_time));
    CALL(number, FD_ISSET(sd, &set) != 0);
    CALL(number, rsp_close(sd));
    rsp_cleanup();
}

static void fresh_seqpacket(void) { fresh(SOCK_SEQPACKET); }
static void fresh_stream(void) { fresh(SOCK_STREAM); }

/* Those that some library does not survive. */
static void fatal(void) {
#define FRESH(call) ALONE(quietly(SOCK_SEQPACKET), number, call)
    FRESH(rsp_has_cookie(sd));
    FRESH(rsp_bind(sd, NULL, 1));
    FRESH(rsp_bind(sd, NULL, -1));
    FRESH(rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, 0));
    FRESH(rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, NULL, 0));
    FRESH(rsp_recvmsg(sd, NULL, 8, &rinfo, &flags, 0));
    FRESH(rsp_connect(sd, LONG_POOL, 0));
    FRESH(rsp_register(sd, LONG_POOL, &round_robin, 30000, 0));
    FRESH(rsp_connect(sd, NULL, 4, 0));
    FRESH(rsp_register(sd, NULL, 4, &round_robin, 30000, 0));
    FRESH(rsp_register(sd, POOL, NULL, 30000, 0));
    FRESH(rsp_register(sd, pool, 0, &round_robin, 30000, 0));
    FRESH(rsp_register(sd, POOL, &no_policy, 30000, 0));
    FRESH(rsp_register(sd, POOL, &round_robin, 30000, 0x4000));
    FRESH(rsp_connect(sd, pool, 0, 0));
    FRESH(rsp_update_session_parameters(sd, NULL));
    FRESH(rsp_csp_setstatus(sd, 0, NULL));
    FRESH(rsp_getsockname(sd, NULL, NULL, NULL));
    FRESH(rsp_getpeername(sd, NULL, NULL, NULL));
    FRESH(rsp_poll(NULL, 1, 0));
    FRESH(rsp_select(-1, NULL, NULL, NULL, &no_time));
    FRESH(rsp_select(2000, NULL, NULL, NULL, &no_time));
    ALONE(quietly(SOCK_SEQPACKET), timed, rsp_select(0, NULL, NULL, NULL, &a_second));
    ALONE((quietly(SOCK_SEQPACKET), look_at(1)), number, rsp_select(2, NULL, &set, NULL, NULL));
    ALONE((quietly(SOCK_SEQPACKET), rsp_close(sd)), number, rsp_close(sd));
    ALONE(begin(""), number, rsp_getaddrinfo(POOL, NULL, 1, 0));
    ALONE(begin(""), number, rsp_getaddrinfo(NULL, 4, &list, 1, 0));
    ALONE(begin(""), number, rsp_getaddrinfo(pool, 0, &list, 1, 0));
    ALONE(begin(""), number, rsp_getaddrinfo(LONG_POOL, &list, 1, 0));
    ALONE(begin(""), code, rsp_pe_failure(LONG_POOL, 1));
    ALONE(begin(""), code, rsp_pe_deregistration(LONG_POOL, 1, 0));
    ALONE(begin(""), code, rsp_pe_registration(POOL, NULL, &round_robin, 30000, 0));
#undef FRESH
}

static int pipes[2];

/* A pipe, mapped: what is written into `out` can be read from `in`; both are `sd`, if there is only one. */
static void map_pipe(void) {
    begin("-loglevel=0");
    if (pipe(pipes) < 0 || write(pipes[1], "abc", 3) != 3) {
        exit(1);
    }
    sd = rsp_mapsocket(pipes[0], -1);
}

static void map_pair(void) {
    begin("-loglevel=0");
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pipes) < 0) {
        exit(1);
    }
    sd = rsp_mapsocket(pipes[0], -1);
}

/* On a mapped descriptor RSPLIB tries these again and again, and it is a matter of chance for how long. */
static int tries_long(const char *call) {
    return strncmp(call, "rsp_bind", 8) == 0 || strncmp(call, "rsp_register", 12) == 0 || strncmp(call, "rsp_connect", 11) == 0;
}

static void mapped(void) {
    int in, out = 500;
#define CHILD(call)                                                                                                    \
    if (!tries_long(#call)) ALONE(map_pipe(), number, call)
    CHILD(rsp_mapsocket(pipes[1], 1024));
    CHILD(rsp_mapsocket(pipes[1], -2));
    CHILD(rsp_mapsocket(UNKNOWN, -1));
    ON_DESCRIPTOR(CHILD, sd);
#undef CHILD
    ALONE(map_pair(), number, rsp_send(sd, "abc", 3, 0));
    ALONE((map_pair(), rsp_write(sd, "abc", 3)), number, read(pipes[1], buffer, sizeof(buffer)));
    ALONE((map_pair(), send(pipes[1], "abc", 3, 0)), number, rsp_recv(sd, buffer, sizeof(buffer), 0));
    ALONE(map_pair(), number, rsp_getsockopt(sd, SOL_SOCKET, SO_TYPE, &value, &value_size));
    ALONE(map_pair(), number, rsp_setsockopt(sd, SOL_SOCKET, SO_KEEPALIVE, &value, value_size));
    ALONE(map_pipe(), number, rsp_unmapsocket(2));
    ALONE((map_pipe(), rsp_unmapsocket(2)), number, (rsp_cleanup(), 0));
    map_pipe();
    CALL(some, sd);
    in = sd;
    CALL(number, rsp_mapsocket(pipes[1], 500));
    CALL(number, rsp_mapsocket(pipes[1], 500));
    CALL(number, rsp_mapsocket(pipes[1], 1023));
    CALL(number, rsp_mapsocket(pipes[1], 1));
    CALL(number, rsp_write(out, "defg", 4));
    look_at(in);
    entry.events = POLLIN;
    CALL(number, rsp_poll(&entry, 1, 1000));
    CALL(number, entry.revents & POLLIN);
    CALL(number, rsp_select(in + 1, &set, NULL, NULL, &no_time));
    CALL(number, FD_ISSET(in, &set) != 0);
    CALL(number, rsp_read(in, buffer, 3));
    CALL(number, rsp_read(in, buffer, sizeof(buffer)));
    CALL(number, rsp_unmapsocket(in));
    CALL(number, write(pipes[1], "x", 1));
    CALL(number, rsp_close(out));
    CALL(number, write(pipes[1], "x", 1));
    CALL(number, rsp_read(0, buffer, sizeof(buffer)));
    rsp_cleanup();
}

/* What waits. */
static void listening(int type) {
    begin("-loglevel=0");
    sd = make(type);
    rsp_listen(sd, 5);
}

static void waiting(void) {
    ALONE(listening(SOCK_STREAM), timed, rsp_accept(sd, 0));
    ALONE(listening(SOCK_STREAM), timed, rsp_accept(sd, 1000));
    ALONE(listening(SOCK_STREAM), timed, rsp_accept(sd, -1));
    ALONE(listening(SOCK_SEQPACKET), timed, rsp_accept(sd, 1000));
    ALONE(listening(SOCK_SEQPACKET), timed, rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, 1000));
    ALONE(listening(SOCK_SEQPACKET), timed, rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, -1));
    ALONE(listening(SOCK_SEQPACKET), timed, rsp_read(sd, buffer, sizeof(buffer)));
    ALONE(listening(SOCK_SEQPACKET), timed, rsp_connect(sd, NO_POOL, 0));
    ALONE(listening(SOCK_SEQPACKET), number, rsp_forcefailover(sd, FFF_NONE, 0));
}

/* A server with all sessions on one descriptor, and no user. */
static void element(void) {
    struct TagItem tags[3] = {{TAG_IGNORE, 0}, {TAG_PoolElement_Identifier, 0x00c0ffee}, {TAG_DONE, 0}};
    int other;
    begin("-loglevel=0");
    sd = make(SOCK_SEQPACKET);
    CALL(number, rsp_bind(sd, NULL, 0));
    CALL(number, rsp_bind(sd, NULL, 0));
    CALL(number, rsp_listen(sd, 5));
    CALL(number, rsp_listen(sd, 10));
    CALL(number, rsp_getsockname(sd, NULL, NULL, &id));
    CALL(number, rsp_register_tags(sd, POOL, &round_robin, 30000, 0, tags));
    size = sizeof(buffer);
    CALL(number, rsp_getsockname(sd, (unsigned char *)buffer, &size, &id));
    CALL(number, size == pool_size && id == 0x00c0ffee);
    size = 2;
    CALL(number, rsp_getsockname(sd, (unsigned char *)buffer, &size, &id));
    CALL(number, rsp_getsockname(sd, NULL, NULL, &id));
    CALL(number, rsp_register(sd, POOL, &round_robin, 20000, 0));
    CALL(number, rsp_register(sd, POOL, &round_robin, 20000, REGF_DONTWAIT));
    CALL(number, rsp_register(sd, NO_POOL, &round_robin, 20000, 0));
    CALL(number, rsp_accept(sd, 0));
    CALL(number, rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    CALL(number, rsp_sendmsg(sd, "x", 1, 0, 99, 0, 0, 0, 0, 0));
    CALL(number, rsp_send_cookie(sd, pool, 1, 0, 0));
    CALL(number, rsp_send_cookie(sd, pool, 1, 99, 0));
    CALL(number, rsp_csp_setstatus(sd, 0, "status"));
    CALL(number, rsp_csp_setstatus(sd, 99, "status"));
    CALL(number, rsp_getpeername(sd, NULL, NULL, &id));
    CALL(number, rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, 0));
    CALL(number, rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, -1));
    TIMED(rsp_recvmsg(sd, buffer, sizeof(buffer), &rinfo, &flags, 1000));
    look_at(sd);
    entry.events = POLLIN;
    CALL(number, rsp_poll(&entry, 1, 0));
    CALL(number, rsp_deregister(sd, 0));
    CALL(number, rsp_deregister(sd, 0));
    CALL(number, rsp_getsockname(sd, NULL, NULL, &id));
    CALL(number, rsp_register(sd, POOL, &round_robin, 30000, 0));
    /* The registrar refuses another policy than the pool's. */
    KEEP(other, rsp_socket(0, SOCK_SEQPACKET, IPPROTO_SCTP));
    CALL(number, rsp_register(other, POOL, &random_policy, 30000, 0));
    CALL(number, rsp_deregister(other, 0));
    CALL(number, rsp_close(other));
    CALL(number, rsp_deregister_tags(sd, DEREGF_DONTWAIT, no_tags));
    CALL(number, rsp_register(sd, POOL, &round_robin, 30000, 0));
    CALL(number, rsp_close(sd));
    rsp_cleanup();
}

/* A server and its user, in one process. */
static int serve(int type) {
    int server = make(type);
    if (rsp_listen(server, 5) < 0 || rsp_register(server, POOL, &round_robin, 30000, 0) < 0) {
        printf("no server: %s\n", strerror(errno));
        exit(1);
    }
    return server;
}

static void sessions(void) {
    int server, user, session;
    begin("-loglevel=0");
    server = serve(SOCK_SEQPACKET);
    user = make(SOCK_SEQPACKET);
    CALL(number, rsp_connect(user, POOL, 0));
    CALL(number, rsp_connect(user, POOL, 0));
    CALL(number, rsp_connect_tags(user, NO_POOL, 0, no_tags));
    CALL(number, rsp_listen(user, 5));
    CALL(number, rsp_bind(user, NULL, 0));
    CALL(number, rsp_accept(user, 0));
    CALL(number, rsp_has_cookie(user));
    size = sizeof(buffer);
    CALL(number, rsp_getpeername(user, (unsigned char *)buffer, &size, &id));
    CALL(number, size == pool_size && id != 0);
    size = 2;
    CALL(number, rsp_getpeername(user, (unsigned char *)buffer, &size, &id));
    CALL(number, rsp_getpeername(user, NULL, NULL, &id));
    CALL(number, rsp_getpeername(user, NULL, NULL, NULL));
    CALL(number, rsp_getsockname(user, NULL, NULL, &id));
    NOW(user);
    EVENT(server);
    NOW(server);
    CALL(number, rsp_sendmsg(user, "hello", 5, 0, 0, htonl(7), 3, 0, 0, 1000));
    session = EVENT(server);
    CALL(number, session);
    CALL(number, rinfo.rinfo_pe_id != 0);
    CALL(number, rsp_sendmsg(user, "hello", 5, 0, 1, htonl(7), 3, 0, 0, 1000));
    EVENT(server);
    CALL(number, rsp_sendmsg(user, "by 99", 5, 0, 99, 0, 0, 0, 0, 0));
    CALL(number, rsp_sendmsg(user, "flags", 5, odd_flags, 0, 0, 0, 0, 1, 0));
    drain(server);
    CALL(number, rsp_send_cookie(server, (const unsigned char *)"cookie", 6, session, 1000));
    CALL(number, rsp_send_cookie(server, (const unsigned char *)"cookie", 6, 99, 1000));
    CALL(number, rsp_sendmsg(server, "world", 5, 0, session, htonl(8), 2, 0, 0, 1000));
    CALL(number, rsp_sendmsg(server, "world", 5, 0, 0, 0, 0, 0, 0, 1000));
    EVENT(user);
    CALL(number, rinfo.rinfo_session);
    CALL(number, rinfo.rinfo_pe_id != 0);
    CALL(number, rsp_has_cookie(user));
    NOW(user);
    CALL(number, rsp_csp_setstatus(server, session, "status"));
    CALL(number, rsp_csp_setstatus(user, 0, "status"));
    CALL(number, rsp_csp_setstatus(user, 1, "status"));
    CALL(number, rsp_csp_setstatus(user, 99, "status"));
    CALL(bare, rsp_getsockopt(user, SOL_SOCKET, SO_TYPE, &value, &value_size));
    memset(&parameters, 0, sizeof(parameters));
    CALL(number, rsp_update_session_parameters(user, &parameters));
    CALL(number, rsp_recvmsg(user, buffer, sizeof(buffer), &rinfo, &flags, -1));
    TIMED(rsp_recvmsg(user, buffer, sizeof(buffer), &rinfo, &flags, 1000));
    TIMED(rsp_recvfullmsg(user, buffer, sizeof(buffer), &rinfo, &flags, 1000));
    CALL(number, rsp_write(user, "written", 7));
    EVENT(server);
    CALL(number, rsp_send(user, "sent", 4, MSG_NOSIGNAL));
    EVENT(server);
    CALL(number, rsp_sendmsg(server, "read me", 7, 0, session, 0, 0, 0, 0, 1000));
    look_at(user);
    entry.events = POLLIN;
    CALL(number, rsp_poll(&entry, 1, 10000));
    CALL(number, entry.revents & POLLIN);
    FD_ZERO(&set);
    FD_SET(user, &set);
    CALL(number, rsp_select(user + 1, &set, NULL, NULL, &no_time));
    CALL(number, FD_ISSET(user, &set) != 0);
    CALL(number, rsp_read(user, buffer, sizeof(buffer)));
    CALL(number, rsp_sendmsg(server, "in one piece", 12, 0, session, 0, 0, 0, 0, 1000));
    flags = 0;
    CALL(number, rsp_recvfullmsg(user, buffer, sizeof(buffer), &rinfo, &flags, 10000));
    CALL(number, flags);

    /* On to the same element, with the cookie. */
    CALL(moved, rsp_forcefailover(user, FFF_NONE, 0));
    EVENT(user);
    EVENT(server);
    EVENT(server);
    EVENT(server);
    EVENT(server);
    NOW(user);
    CALL(number, rsp_sendmsg(user, "again", 5, 0, 0, 0, 0, 0, 0, 1000));
    session = EVENT(server);
    CALL(number, session);

    CALL(number, rsp_deregister(server, 0));
    CALL(number, rsp_close(user));
    EVENT(server);
    EVENT(server);
    NOW(server);
    CALL(number, rsp_sendmsg(server, "late", 4, 0, session, 0, 0, 0, 0, 0));
    CALL(number, rsp_close(server));
    rsp_cleanup();
}

/* The element ends the session, then the pool is gone. */
static void failures(int flag) {
    int server, user, session;
    begin("-loglevel=0");
    server = serve(SOCK_SEQPACKET);
    user = make(SOCK_SEQPACKET);
    CALL(number, rsp_connect(user, POOL, 0));
    CALL(number, rsp_sendmsg(user, "hello", 5, 0, 0, 0, 0, 0, 0, 1000));
    EVENT(server);
    session = EVENT(server);
    CALL(number, rsp_send_cookie(server, (const unsigned char *)"cookie", 6, session, 1000));
    CALL(number, rsp_sendmsg(server, "bye", 3, 0, session, 0, 0, 0, 0, 1000));
    EVENT(user);
    CALL(number, rsp_deregister(server, 0));
    CALL(number, rsp_sendmsg(server, NULL, 0, 0, session, 0, 0, 0, (uint16_t)flag, 0));
    EVENT(user);
    EVENT(user);
    look_at(user);
    entry.events = POLLIN;
    CALL(number, rsp_poll(&entry, 1, 10000));
    CALL(number, entry.revents & POLLIN);
    CALL(number, rsp_has_cookie(user));
    CALL(lost, rsp_sendmsg(user, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    CALL(lost, rsp_sendmsg(user, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    CALL(lost, rsp_write(user, "x", 1));
    CALL(number, rsp_connect(user, POOL, 0));
    EVENT(user);
    CALL(told, rsp_forcefailover(user, FFF_UNREACHABLE, 0));
    CALL(number, rsp_has_cookie(user));
    CALL(number, rsp_getpeername(user, NULL, NULL, &id));
    CALL(lost, rsp_sendmsg(user, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    EVENT(user);
    CALL(moved, rsp_forcefailover(user, FFF_NONE, 0));
    EVENT(user);
    CALL(number, rsp_register(server, POOL, &round_robin, 30000, 0));
    CALL(moved, rsp_forcefailover(user, FFF_NONE, 0));
    EVENT(user);
    CALL(number, rsp_sendmsg(user, "back", 4, 0, 0, 0, 0, 0, 0, 1000));
    CALL(number, rsp_close(user));
    CALL(number, rsp_close(server));
    rsp_cleanup();
}

static void aborted(void) { failures(ASSOCIATION_ABORT); }
static void ended(void) { failures(ASSOCIATION_EOF); }

/* A server that accepts. */
static void streams(void) {
    int server, user, one;
    begin("-loglevel=0");
    KEEP(server, rsp_socket(0, SOCK_STREAM, IPPROTO_SCTP));
    CALL(number, rsp_bind(server, NULL, 0));
    CALL(number, rsp_listen(server, 5));
    CALL(number, rsp_register(server, POOL, &round_robin, 30000, 0));
    CALL(number, rsp_accept(server, 0));
    TIMED(rsp_accept(server, 1000));
    CALL(number, rsp_sendmsg(server, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    CALL(number, rsp_recvmsg(server, buffer, sizeof(buffer), &rinfo, &flags, 0));
    KEEP(user, rsp_socket(0, SOCK_STREAM, IPPROTO_SCTP));
    CALL(number, rsp_connect(user, POOL, 0));
    look_at(server);
    entry.events = POLLIN;
    CALL(number, rsp_poll(&entry, 1, 10000));
    CALL(number, entry.revents & POLLIN);
    KEEP(one, rsp_accept_tags(server, 10000, no_tags));
    CALL(number, rsp_getsockname(one, NULL, NULL, &id));
    CALL(number, rsp_getpeername(one, NULL, NULL, &id));
    CALL(number, rsp_accept(one, 0));
    CALL(number, rsp_listen(one, 5));
    NOW(one);
    CALL(number, rsp_sendmsg(user, "hello", 5, 0, 0, htonl(7), 3, 0, 0, 1000));
    EVENT(one);
    CALL(number, rsp_send_cookie(one, (const unsigned char *)"cookie", 6, 0, 1000));
    CALL(number, rsp_sendmsg(one, "world", 5, 0, 0, 0, 0, 0, 0, 1000));
    EVENT(user);
    CALL(number, rsp_has_cookie(user));
    CALL(number, rsp_sendmsg(one, "world", 5, 0, 1, 0, 0, 0, 0, 1000));
    EVENT(user);
    CALL(number, rsp_sendmsg(one, "by 99", 5, 0, 99, 0, 0, 0, 0, 1000));
    drain(user);
    CALL(moved, rsp_forcefailover(user, FFF_NONE, 0));
    NOW(user);
    EVENT(one);
    EVENT(one);
    CALL(number, rsp_forcefailover(one, FFF_NONE, 0));
    CALL(number, rsp_close(one));
    KEEP(one, rsp_accept(server, 10000));
    EVENT(one);
    CALL(number, rsp_sendmsg(user, "again", 5, 0, 0, 0, 0, 0, 0, 1000));
    EVENT(one);
    /* Its end, at the user. */
    CALL(number, rsp_deregister(server, 0));
    CALL(number, rsp_sendmsg(one, NULL, 0, 0, 0, 0, 0, 0, ASSOCIATION_ABORT, 0));
    CALL(number, rsp_close(one));
    EVENT(user);
    EVENT(user);
    look_at(user);
    entry.events = POLLIN;
    CALL(number, rsp_poll(&entry, 1, 1000));
    CALL(number, rsp_read(user, buffer, sizeof(buffer)));
    CALL(lost, rsp_sendmsg(user, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    CALL(lost, rsp_sendmsg(user, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    CALL(moved, rsp_forcefailover(user, FFF_NONE, 0));
    EVENT(user);
    CALL(number, rsp_close(user));
    CALL(number, rsp_close(server));
    rsp_cleanup();
}

/* A user of a pool that does not exist. */
static void no_pool(int type) {
    begin("-loglevel=0");
    sd = make(type);
    CALL(told, rsp_connect(sd, NO_POOL, 0));
    CALL(lost, rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    look_at(sd);
    entry.events = POLLIN;
    CALL(number, rsp_poll(&entry, 1, 0));
    EVENT(sd);
    CALL(lost, rsp_sendmsg(sd, "x", 1, 0, 0, 0, 0, 0, 0, 0));
    CALL(lost, rsp_send(sd, "x", 1, 0));
    CALL(number, rsp_has_cookie(sd));
    CALL(number, rsp_csp_setstatus(sd, 0, "status"));
    size = sizeof(buffer);
    CALL(number, rsp_getpeername(sd, (unsigned char *)buffer, &size, &id));
    CALL(told, rsp_connect(sd, NO_POOL, 0));
    CALL(told, rsp_forcefailover(sd, FFF_NONE, 0));
    CALL(told, rsp_forcefailover(sd, FFF_UNREACHABLE, 1000));
    EVENT(sd);
    CALL(number, rsp_close(sd));
    rsp_cleanup();
}

static void no_pool_seqpacket(void) { no_pool(SOCK_SEQPACKET); }
static void no_pool_stream(void) { no_pool(SOCK_STREAM); }

static void no_registrar_user(void) {
    begin("-loglevel=0");
    CALL(bare, rsp_getaddrinfo(POOL, &list, 1, 0));
    sd = make(SOCK_SEQPACKET);
    CALL(unanswered, rsp_connect(sd, POOL, 0));
    EVENT(sd);
    CALL(unanswered, rsp_forcefailover(sd, FFF_NONE, 0));
    CALL(number, rsp_close(sd));
    CALL(code, rsp_pe_failure(POOL, 1));
    CALL(code, rsp_pe_deregistration(POOL, 1, 0));
    DOES(rsp_cleanup());
}

static void no_registrar_element(void) {
    begin("-loglevel=0");
    sd = make(SOCK_SEQPACKET);
    CALL(unanswered, rsp_register(sd, POOL, &round_robin, 30000, 0));
    CALL(number, rsp_getsockname(sd, NULL, NULL, &id));
    CALL(unanswered, rsp_register(sd, POOL, &round_robin, 30000, REGF_DONTWAIT));
    CALL(number, rsp_deregister(sd, 0));
    CALL(number, rsp_close(sd));
    DOES(rsp_cleanup());
}

/* For programs with sockets of their own. */
static void basic(void) {
    struct sockaddr_in address;
    struct rsp_addrinfo self, other;
    begin("-loglevel=0");
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons(9);
    address.sin_addr.s_addr = inet_addr(own_address);
    memset(&self, 0, sizeof(self));
    self.ai_family = AF_INET;
    self.ai_socktype = SOCK_STREAM;
    self.ai_protocol = IPPROTO_SCTP;
    self.ai_addrlen = sizeof(union { struct sockaddr_in in; struct sockaddr_in6 in6; });
    self.ai_addrs = 1;
    self.ai_addr = (struct sockaddr *)&address;
    other = self;
    CALL(bare, rsp_getaddrinfo(NO_POOL, &list, 1, 0));
    CALL(bare, rsp_getaddrinfo_tags(NO_POOL, &list, 1, 1000, no_tags));
    CALL(code, rsp_pe_registration(POOL, &self, &round_robin, 30000, 0));
    CALL(number, self.ai_pe_id != 0);
    CALL(code, rsp_pe_registration(POOL, &self, &round_robin, 30000, 0));
    CALL(code, rsp_pe_registration(POOL, &self, &round_robin, 30000, REGF_DONTWAIT));
    CALL(code, rsp_pe_registration_tags(POOL, &other, &round_robin, 30000, 0, no_tags));
    CALL(number, other.ai_pe_id != 0 && other.ai_pe_id != self.ai_pe_id);
    CALL(bare, rsp_getaddrinfo(POOL, &list, RSPGETADDRS_MAX, 0));
    CALL(number, list->ai_next != NULL && list->ai_next->ai_next == NULL);
    CALL(number, list->ai_family);
    CALL(number, list->ai_socktype);
    CALL(number, list->ai_protocol);
    CALL(number, list->ai_addrlen);
    CALL(number, list->ai_addrs);
    CALL(number, ntohs(((struct sockaddr_in *)list->ai_addr)->sin_port));
    CALL(number, list->ai_pe_id == self.ai_pe_id || list->ai_pe_id == other.ai_pe_id);
    DOES(rsp_freeaddrinfo(list));
    CALL(bare, rsp_getaddrinfo(POOL, &list, RSPGETADDRS_DEFAULT, 0));
    rsp_freeaddrinfo(list);
    CALL(bare, rsp_getaddrinfo(POOL, &list, RSPGETADDRS_MIN, 0));
    rsp_freeaddrinfo(list);
    CALL(bare, rsp_getaddrinfo_tags(POOL, &list, 2, 60000, no_tags));
    rsp_freeaddrinfo(list);
    other.ai_pe_id = 0x00c0ffee;
    CALL(code, rsp_pe_registration(POOL, &other, &random_policy, 30000, 0));
    CALL(code, rsp_pe_failure(POOL, self.ai_pe_id));
    CALL(code, rsp_pe_failure_tags(POOL, 0x12345, no_tags));
    CALL(code, rsp_pe_failure(NO_POOL, 0x12345));
    CALL(code, rsp_pe_deregistration(POOL, 0x12345, 0));
    CALL(code, rsp_pe_deregistration(NO_POOL, 0x12345, 0));
    CALL(code, rsp_pe_deregistration(POOL, self.ai_pe_id, 0));
    CALL(code, rsp_pe_deregistration_tags(POOL, self.ai_pe_id, DEREGF_DONTWAIT, no_tags));
    rsp_cleanup();
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } sections[] = {
        {"arguments", arguments},
        {"printing", printing},
        {"before", before},
        {"unknown", unknown},
        {"unknown -loglevel=0", unknown_to_silent_ones},
        {"starting", starting},
        {"fresh SEQPACKET", fresh_seqpacket},
        {"fresh STREAM", fresh_stream},
        {"fatal", fatal},
        {"mapped", mapped},
        {"element", element},
        {"sessions", sessions},
        {"aborted", aborted},
        {"ended", ended},
        {"streams", streams},
        {"no pool SEQPACKET", no_pool_seqpacket},
        {"no pool STREAM", no_pool_stream},
        {"waiting", waiting},
        {"no registrar, user", no_registrar_user},
        {"no registrar, element", no_registrar_element},
        {"basic", basic},
    };
    struct rlimit no_core = {0, 0};
    size_t i;
    setrlimit(RLIMIT_CORE, &no_core);
    memset(bytes33, 'x', sizeof(bytes33));
    if (argc < 3) {
        for (i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
            puts(sections[i].name);
        }
        return 2;
    }
    section = argv[1];
    pool = (const unsigned char *)argv[2];
    pool_size = strlen(argv[2]);
    registrar = argc > 4 ? argv[3] : NULL;
    own_address = argc > 4 ? argv[4] : NULL;
    for (i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
        if (strcmp(sections[i].name, section) == 0) {
            alarm(15 * HANG);
            sections[i].run();
            return 0;
        }
    }
    return 2;
}
