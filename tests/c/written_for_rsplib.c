/*
 * A program as it is written for RSPLIB: C and C++ at once, it names every function, macro, structure and constant of RSPLIB's headers, and must compile
 * without a word against those and against ours (tests/rsplib.rs does both). What it looks for is the same everywhere; it needs no registrar.
 */
#include <rserpool/rserpool-internals.h>
#include <rserpool/rserpool.h>
#include <rserpool/tagitem.h>

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#ifdef __cplusplus
#define IS(what) static_assert(what, #what)
#else
#define IS(what) _Static_assert(what, #what)
#endif
#define HAS(type, field, offset) IS(offsetof(struct type, field) == (offset))

IS(sizeof(struct rsp_registrar_info) == 24);
IS(sizeof(struct rsp_info) == 96);
IS(sizeof(struct rsp_loadinfo) == 24);
IS(sizeof(struct rsp_addrinfo) == 56);
IS(sizeof(struct rsp_sndrcvinfo) == 20);
IS(sizeof(struct rserpool_failover) == 20);
IS(sizeof(struct rserpool_session_change) == 16);
IS(sizeof(struct rserpool_shutdown_event) == 12);
IS(sizeof(union rserpool_notification) == 20);
IS(sizeof(struct rserpool_session_parameters) == 24);
IS(sizeof(struct TagItem) == 16);
IS(sizeof(rserpool_session_t) == 4 && (rserpool_session_t)-1 < 0);
IS(sizeof(tag_t) == 4 && sizeof(tagdata_t) == 8);

HAS(rsp_registrar_info, rri_next, 0);
HAS(rsp_registrar_info, rri_addr, 8);
HAS(rsp_registrar_info, rri_addrs, 16);
HAS(rsp_info, ri_version, 0);
HAS(rsp_info, ri_revision, 4);
HAS(rsp_info, ri_build_date, 8);
HAS(rsp_info, ri_build_time, 16);
HAS(rsp_info, ri_registrars, 24);
HAS(rsp_info, ri_disable_autoconfig, 32);
HAS(rsp_info, ri_registrar_announce, 40);
HAS(rsp_info, ri_registrar_announce_timeout, 48);
HAS(rsp_info, ri_registrar_connect_timeout, 52);
HAS(rsp_info, ri_registrar_connect_max_trials, 56);
HAS(rsp_info, ri_registrar_request_timeout, 60);
HAS(rsp_info, ri_registrar_response_timeout, 64);
HAS(rsp_info, ri_registrar_request_max_trials, 68);
HAS(rsp_info, ri_csp_identifier, 72);
HAS(rsp_info, ri_csp_server, 80);
HAS(rsp_info, ri_csp_interval, 88);
HAS(rsp_loadinfo, rli_policy, 0);
HAS(rsp_loadinfo, rli_weight, 4);
HAS(rsp_loadinfo, rli_weight_dpf, 8);
HAS(rsp_loadinfo, rli_load, 12);
HAS(rsp_loadinfo, rli_load_degradation, 16);
HAS(rsp_loadinfo, rli_load_dpf, 20);
HAS(rsp_addrinfo, ai_family, 0);
HAS(rsp_addrinfo, ai_socktype, 4);
HAS(rsp_addrinfo, ai_protocol, 8);
HAS(rsp_addrinfo, ai_addrlen, 16);
HAS(rsp_addrinfo, ai_addrs, 24);
HAS(rsp_addrinfo, ai_addr, 32);
HAS(rsp_addrinfo, ai_next, 40);
HAS(rsp_addrinfo, ai_pe_id, 48);
HAS(rsp_sndrcvinfo, rinfo_session, 0);
HAS(rsp_sndrcvinfo, rinfo_ppid, 4);
HAS(rsp_sndrcvinfo, rinfo_pe_id, 8);
HAS(rsp_sndrcvinfo, rinfo_timetolive, 12);
HAS(rsp_sndrcvinfo, rinfo_stream, 16);
HAS(rserpool_failover, rf_type, 0);
HAS(rserpool_failover, rf_flags, 2);
HAS(rserpool_failover, rf_length, 4);
HAS(rserpool_failover, rf_state, 8);
HAS(rserpool_failover, rf_session, 12);
HAS(rserpool_failover, rf_has_cookie, 16);
HAS(rserpool_session_change, rsc_type, 0);
HAS(rserpool_session_change, rsc_flags, 2);
HAS(rserpool_session_change, rsc_length, 4);
HAS(rserpool_session_change, rsc_state, 8);
HAS(rserpool_session_change, rsc_session, 12);
HAS(rserpool_shutdown_event, rse_type, 0);
HAS(rserpool_shutdown_event, rse_flags, 2);
HAS(rserpool_shutdown_event, rse_length, 4);
HAS(rserpool_shutdown_event, rse_session, 8);
HAS(rserpool_session_parameters, sp_rto_initial, 0);
HAS(rserpool_session_parameters, sp_rto_min, 4);
HAS(rserpool_session_parameters, sp_rto_max, 8);
HAS(rserpool_session_parameters, sp_assoc_max_rxt, 12);
HAS(rserpool_session_parameters, sp_path_max_rxt, 16);
HAS(rserpool_session_parameters, sp_hbinterval, 20);
HAS(TagItem, Tag, 0);
HAS(TagItem, Data, 8);

IS(RSPLIB_VERSION == 2 && RSPLIB_REVISION == 3);
IS(ASAP_PORT == 3863 && ENRP_PORT == 9901);
IS(sizeof(ASAP_ANNOUNCE_MULTICAST_ADDRESS) == sizeof("239.0.0.50:3863"));
IS(sizeof(ENRP_ANNOUNCE_MULTICAST_ADDRESS) == sizeof("239.0.0.51:9901"));
IS(REGF_DONTWAIT == 1 && REGF_CONTROLCHANNEL == 2 && REGF_DAEMONMODE == 4 && DEREGF_DONTWAIT == 1);
IS(FFF_NONE == 0 && FFF_UNREACHABLE == 1);
IS(MSG_RSERPOOL_NOTIFICATION == 1 && MSG_RSERPOOL_COOKIE_ECHO == 2);
IS(RSERPOOL_SESSION_CHANGE == 1 && RSERPOOL_FAILOVER == 2 && RSERPOOL_SHUTDOWN_EVENT == 3);
IS(RSERPOOL_FAILOVER_NECESSARY == 1 && RSERPOOL_FAILOVER_COMPLETE == 2);
IS(RSERPOOL_SESSION_ADD == 1 && RSERPOOL_SESSION_REMOVE == 2);
IS(RSPGETADDRS_MIN == 1 && RSPGETADDRS_MAX == 0xffffffff && RSPGETADDRS_DEFAULT == 0);
IS(REAI_NONAME == -1 && REAI_MEMORY == -2 && REAI_SYSTEM == -3 && REAI_FAMILY == -4);
IS(SESSION_SETSIZE == 16384);
IS(PPT_UNDEFINED == 0 && PPT_ROUNDROBIN == 1 && PPT_WEIGHTED_ROUNDROBIN == 2 && PPT_RANDOM == 3);
IS(PPT_WEIGHTED_RANDOM == 4 && PPT_PRIORITY == 5 && PPT_LEASTUSED == 0x40000001);
IS(PPT_LEASTUSED_DEGRADATION == 0x40000002 && PPT_PRIORITY_LEASTUSED == 0x40000003);
IS(PPT_RANDOMIZED_LEASTUSED == 0x40000004 && PPT_RANDOMIZED_PRIORITY_LEASTUSED == 0xb0001001);
IS(PPT_RANDOMIZED_LEASTUSED_DEGRADATION == 0xb0001002 && PPT_PRIORITY_LEASTUSED_DEGRADATION == 0xb0001003);
IS(PPT_RANDOMIZED_PRIORITY_LEASTUSED_DEGRADATION == 0xb0001004 && PPT_WEIGHTED_RANDOM_DPF == 0xb0002001);
IS(PPT_LEASTUSED_DPF == 0xb0002002 && PPT_LEASTUSED_DEGRADATION_DPF == 0xb0002003);
IS(PPT_PRIORITY_LEASTUSED_DPF == 0xb0002004 && PPT_PRIORITY_LEASTUSED_DEGRADATION_DPF == 0xb0002005);
IS(!PPT_IS_ADAPTIVE(PPT_UNDEFINED) && !PPT_IS_ADAPTIVE(PPT_ROUNDROBIN) && !PPT_IS_ADAPTIVE(PPT_WEIGHTED_ROUNDROBIN));
IS(!PPT_IS_ADAPTIVE(PPT_RANDOM) && !PPT_IS_ADAPTIVE(PPT_WEIGHTED_RANDOM) && !PPT_IS_ADAPTIVE(PPT_PRIORITY));
IS(!PPT_IS_ADAPTIVE(PPT_WEIGHTED_RANDOM_DPF));
IS(PPT_IS_ADAPTIVE(PPT_LEASTUSED) && PPT_IS_ADAPTIVE(PPT_LEASTUSED_DEGRADATION));
IS(PPT_IS_ADAPTIVE(PPT_PRIORITY_LEASTUSED) && PPT_IS_ADAPTIVE(PPT_RANDOMIZED_LEASTUSED));
IS(PPT_IS_ADAPTIVE(PPT_RANDOMIZED_PRIORITY_LEASTUSED) && PPT_IS_ADAPTIVE(PPT_RANDOMIZED_LEASTUSED_DEGRADATION));
IS(PPT_IS_ADAPTIVE(PPT_PRIORITY_LEASTUSED_DEGRADATION));
IS(PPT_IS_ADAPTIVE(PPT_RANDOMIZED_PRIORITY_LEASTUSED_DEGRADATION));
IS(PPT_IS_ADAPTIVE(PPT_LEASTUSED_DPF) && PPT_IS_ADAPTIVE(PPT_LEASTUSED_DEGRADATION_DPF));
IS(PPT_IS_ADAPTIVE(PPT_PRIORITY_LEASTUSED_DPF) && PPT_IS_ADAPTIVE(PPT_PRIORITY_LEASTUSED_DEGRADATION_DPF));
IS(PPV_MIN_WEIGHT == 0 && PPV_MAX_WEIGHT == 0xffffffff && PPV_MIN_LOAD == 0 && PPV_MAX_LOAD == 0xffffffff);
IS(PPV_MIN_LOAD_DEGRADATION == 0 && PPV_MAX_LOAD_DEGRADATION == 0xffffffff);
IS(PPV_MIN_LOADDPF == 0 && PPV_MAX_LOADDPF == 0xffffffff && PPV_MIN_WEIGHTDPF == 0 && PPV_MAX_WEIGHTDPF == 0xffffffff);
IS(CID_GROUP_REGISTRAR == 1 && CID_GROUP_POOLELEMENT == 2 && CID_GROUP_POOLUSER == 3);
IS(CID_COMPOUND(CID_GROUP_POOLELEMENT, 0x1234) == 0x0200000000001234);
IS(CID_GROUP(0x0300000000001234) == 3 && CID_OBJECT(0x0300000000001234) == 0x1234);
IS(TAG_DONE == 0 && TAG_END == 0 && TAG_IGNORE == 1 && TAG_MORE == 2 && TAG_SKIP == 3 && TAG_USER == 1000000);
IS(TAG_PoolElement_Identifier == 1001000 && TAG_RspSession_ConnectTimeout == 1002000);
IS(TAG_RspSession_HandleResolutionRetryDelay == 1002001);
IS(TAG_RspLib_CacheElementTimeout == 1004000 && TAG_RspLib_RegistrarAnnounceAddress == 1004001);
IS(TAG_RspLib_RegistrarAnnounceTimeout == 1004002 && TAG_RspLib_RegistrarConnectMaxTrials == 1004003);
IS(TAG_RspLib_RegistrarConnectTimeout == 1004004 && TAG_RspLib_RegistrarRequestMaxTrials == 1004005);
IS(TAG_RspLib_RegistrarRequestTimeout == 1004006 && TAG_RspLib_RegistrarResponseTimeout == 1004007);

static const unsigned char *const pool = (const unsigned char *)"Pool";

/* A server with its sessions on one descriptor, as they are written. */
int serve(int turns) {
    struct rsp_loadinfo load;
    struct TagItem tags[2];
    char buffer[4096];
    struct rsp_sndrcvinfo info;
    int sd = rsp_socket(0, SOCK_SEQPACKET, IPPROTO_SCTP);
    uint32_t identifier = 0;
    unsigned char handle[32];
    size_t size = sizeof(handle);

    memset(&load, 0, sizeof(load));
    load.rli_policy = PPT_LEASTUSED_DEGRADATION;
    load.rli_load_degradation = PPV_MAX_LOAD_DEGRADATION / 10;
    tags[0].Tag = TAG_PoolElement_Identifier;
    tags[0].Data = 0x1234;
    tags[1].Tag = TAG_DONE;
    if (sd < 0 || rsp_bind(sd, NULL, 0) < 0 || rsp_listen(sd, 10) < 0 ||
        rsp_register_tags(sd, pool, 4, &load, 30000, REGF_DAEMONMODE | REGF_CONTROLCHANNEL, tags) < 0 ||
        rsp_register(sd, pool, 4, &load, 30000, REGF_DONTWAIT) < 0 || rsp_getsockname(sd, NULL, NULL, &identifier) < 0 ||
        rsp_getsockname(sd, handle, &size, &identifier) < 0) {
        return -1;
    }
    while (turns-- > 0) {
        int flags = 0;
        ssize_t got = rsp_recvfullmsg(sd, buffer, sizeof(buffer), &info, &flags, 1000);
        if (got > 0 && (flags & MSG_RSERPOOL_NOTIFICATION)) {
            union rserpool_notification *notification = (union rserpool_notification *)buffer;
            rsp_print_notification(notification, stdout);
            if (notification->rn_header.rn_type == RSERPOOL_SESSION_CHANGE &&
                notification->rn_session_change.rsc_state == RSERPOOL_SESSION_ADD) {
                rserpool_session_t session = notification->rn_session_change.rsc_session;
                rsp_csp_setstatus(sd, session, "here");
                rsp_send_cookie(sd, (const unsigned char *)"cookie", 6, session, 0);
            } else if (notification->rn_header.rn_type == RSERPOOL_SHUTDOWN_EVENT) {
                int ended = notification->rn_shutdown_event.rse_session;
                printf("session %d ends, length %u\n", ended, notification->rn_shutdown_event.rse_length);
            }
        } else if (got > 0 && !(flags & MSG_RSERPOOL_COOKIE_ECHO)) {
            rsp_sendmsg(sd, buffer, (size_t)got, 0, info.rinfo_session, info.rinfo_ppid, info.rinfo_stream, info.rinfo_timetolive, 0, 0);
        }
    }
    return rsp_deregister(sd, DEREGF_DONTWAIT) + rsp_deregister_tags(sd, 0, NULL) + rsp_close(sd);
}

/* A server that accepts, of which a caller sees to the sessions. */
int accepted(int sd) {
    int one = rsp_accept(sd, 500);
    return one >= 0 ? one : rsp_accept_tags(sd, 500, NULL);
}

/* A client. */
int use(void) {
    struct rserpool_session_parameters parameters = {1000, 500, 2000, 4, 2, 5000};
    struct pollfd fds[2];
    fd_set set;
    struct timeval second = {1, 0};
    char buffer[64];
    uint32_t peer = 0;
    int flags = 0, number = 0;
    socklen_t length = sizeof(number);
    int sd = rsp_socket(AF_UNSPEC, SOCK_STREAM, IPPROTO_SCTP);
    int input = rsp_mapsocket(0, -1);

    if (rsp_update_session_parameters(sd, &parameters) < 0 || rsp_connect(sd, pool, 4, 0) < 0 ||
        rsp_connect_tags(sd, pool, 4, 0, NULL) < 0 || rsp_getpeername(sd, NULL, NULL, &peer) < 0) {
        return -1;
    }
    fds[0].fd = sd;
    fds[0].events = POLLIN;
    fds[1].fd = input;
    fds[1].events = POLLIN;
    if (rsp_poll(fds, 2, 0) < 0 || rsp_write(sd, "text", 4) < 0 || rsp_send(sd, "text", 4, 0) < 0 ||
        rsp_recvmsg(sd, buffer, sizeof(buffer), NULL, &flags, -1) < 0 || rsp_read(input, buffer, sizeof(buffer)) < 0 ||
        rsp_recv(sd, buffer, sizeof(buffer), 0) < 0 || rsp_has_cookie(sd) < 0) {
        rsp_forcefailover(sd, FFF_UNREACHABLE, 0);
        rsp_forcefailover_tags(sd, FFF_NONE, 0, NULL);
    }
    FD_ZERO(&set);
    FD_SET(sd, &set);
    rsp_select(sd + 1, &set, NULL, NULL, &second);
    rsp_getsockopt(input, SOL_SOCKET, SO_TYPE, &number, &length);
    rsp_setsockopt(input, SOL_SOCKET, SO_KEEPALIVE, &number, length);
    return rsp_unmapsocket(input) + rsp_close(sd);
}

/* A program with sockets of its own. */
unsigned int basic(void) {
    struct rsp_loadinfo load = {PPT_ROUNDROBIN, 0, 0, 0, 0, 0};
    struct sockaddr_in address;
    struct rsp_addrinfo self, *found = NULL;
    int count;

    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    memset(&self, 0, sizeof(self));
    self.ai_family = AF_INET;
    self.ai_socktype = SOCK_STREAM;
    self.ai_protocol = IPPROTO_SCTP;
    self.ai_addrlen = sizeof(address);
    self.ai_addrs = 1;
    self.ai_addr = (struct sockaddr *)&address;
    count = rsp_getaddrinfo(pool, 4, &found, RSPGETADDRS_MAX, 1000);
    if (count == REAI_NONAME || rsp_getaddrinfo_tags(pool, 4, &found, RSPGETADDRS_DEFAULT, 0, NULL) < 0) {
        rsp_freeaddrinfo(found);
    }
    return rsp_pe_registration(pool, 4, &self, &load, 60000, REGF_DONTWAIT) +
           rsp_pe_registration_tags(pool, 4, &self, &load, 60000, 0, NULL) + rsp_pe_failure(pool, 4, self.ai_pe_id) +
           rsp_pe_failure_tags(pool, 4, self.ai_pe_id, NULL) + rsp_pe_deregistration(pool, 4, self.ai_pe_id, 0) +
           rsp_pe_deregistration_tags(pool, 4, self.ai_pe_id, 0, NULL);
}

static int faults;
static void check(int good, const char *what) {
    if (!good) {
        faults++;
        printf("not so: %s\n", what);
    }
}
#define CHECK(what) check(what, #what)

int main(int argc, char **argv) {
    struct {
        struct rsp_info info;
        unsigned char beyond[64];
    } place;
    struct rsp_info info;
    int i, sd;

    memset(&place, 0xa5, sizeof(place));
    rsp_initinfo(&place.info);
    for (i = 0; i < 64; i++) {
        CHECK(place.beyond[i] == 0xa5);
    }
    info = place.info;
    CHECK(info.ri_build_date == NULL && info.ri_build_time == NULL);
    CHECK(info.ri_registrars == NULL && info.ri_registrar_announce == NULL && info.ri_disable_autoconfig == 0);
    CHECK(rsp_initarg(&info, "-asapannounce=off") == 1 && info.ri_disable_autoconfig != 0);
    CHECK(rsp_initarg(&info, "-asapannounce=auto") == 1 && info.ri_disable_autoconfig == 0);
    CHECK(rsp_initarg(&info, "-asapannounce=" ASAP_ANNOUNCE_MULTICAST_ADDRESS) == 1 && info.ri_registrar_announce != NULL);
    CHECK(rsp_initarg(&info, "-registrar=127.0.0.1:9,[::1]:9") == 1 && info.ri_registrars->rri_addrs == 2);
    CHECK(rsp_initarg(&info, "-cspserver=127.0.0.1:2960") == 1 && info.ri_csp_server != NULL);
    CHECK(rsp_initarg(&info, "-cspinterval=0") == 1 && info.ri_csp_interval == 0);
    CHECK(rsp_initarg(&info, "-cspidentifier=0x1234") == 1);
    CHECK(CID_GROUP(info.ri_csp_identifier) == CID_GROUP_POOLELEMENT && CID_OBJECT(info.ri_csp_identifier) == 0x1234);
    CHECK(rsp_initarg(&info, "-foo") == 0);
    for (i = 1; i < argc; i++) {
        printf("%d %s\n", rsp_initarg(&info, argv[i]), argv[i]);
    }
    CHECK(rsp_initialize(&info) == 0 && rsp_initialize(NULL) == 0);
    CHECK(info.ri_version == RSPLIB_VERSION && info.ri_revision == RSPLIB_REVISION);
    CHECK(strcmp(rsp_getpolicybytype(PPT_LEASTUSED_DPF), "LeastUsedDPF") == 0);
    CHECK(rsp_getpolicybyname("Priority") == PPT_PRIORITY && rsp_getpolicybytype(PPT_UNDEFINED) == NULL);
    sd = rsp_mapsocket(1, -1);
    CHECK(sd > 0 && rsp_unmapsocket(sd) == 0);
    rsp_freeinfo(&info);
    rsp_cleanup();
    return faults != 0;
}
