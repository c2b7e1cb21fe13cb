/* The layouts and constants that programs compiled for RSPLIB rely on (x86-64), and ours, which only ever grow at their end. */
#include <asap.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type)
#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), "offset of " #type "." #field)
#define IS(constant, value) _Static_assert((constant) == (value), #constant)

SIZE(struct rsp_registrar_info, 24);
AT(struct rsp_registrar_info, rri_next, 0);
AT(struct rsp_registrar_info, rri_addr, 8);
AT(struct rsp_registrar_info, rri_addrs, 16);

SIZE(struct rsp_info, 96);
AT(struct rsp_info, ri_version, 0);
AT(struct rsp_info, ri_revision, 4);
AT(struct rsp_info, ri_build_date, 8);
AT(struct rsp_info, ri_build_time, 16);
AT(struct rsp_info, ri_registrars, 24);
AT(struct rsp_info, ri_disable_autoconfig, 32);
AT(struct rsp_info, ri_registrar_announce, 40);
AT(struct rsp_info, ri_registrar_announce_timeout, 48);
AT(struct rsp_info, ri_registrar_connect_timeout, 52);
AT(struct rsp_info, ri_registrar_connect_max_trials, 56);
AT(struct rsp_info, ri_registrar_request_timeout, 60);
AT(struct rsp_info, ri_registrar_response_timeout, 64);
AT(struct rsp_info, ri_registrar_request_max_trials, 68);
AT(struct rsp_info, ri_csp_identifier, 72);
AT(struct rsp_info, ri_csp_server, 80);
AT(struct rsp_info, ri_csp_interval, 88);

SIZE(struct rsp_loadinfo, 24);
AT(struct rsp_loadinfo, rli_policy, 0);
AT(struct rsp_loadinfo, rli_weight, 4);
AT(struct rsp_loadinfo, rli_weight_dpf, 8);
AT(struct rsp_loadinfo, rli_load, 12);
AT(struct rsp_loadinfo, rli_load_degradation, 16);
AT(struct rsp_loadinfo, rli_load_dpf, 20);

SIZE(struct rsp_addrinfo, 56);
AT(struct rsp_addrinfo, ai_family, 0);
AT(struct rsp_addrinfo, ai_socktype, 4);
AT(struct rsp_addrinfo, ai_protocol, 8);
AT(struct rsp_addrinfo, ai_addrlen, 16);
AT(struct rsp_addrinfo, ai_addrs, 24);
AT(struct rsp_addrinfo, ai_addr, 32);
AT(struct rsp_addrinfo, ai_next, 40);
AT(struct rsp_addrinfo, ai_pe_id, 48);

SIZE(rserpool_session_t, 4);
SIZE(struct rsp_sndrcvinfo, 20);
AT(struct rsp_sndrcvinfo, rinfo_session, 0);
AT(struct rsp_sndrcvinfo, rinfo_ppid, 4);
AT(struct rsp_sndrcvinfo, rinfo_pe_id, 8);
AT(struct rsp_sndrcvinfo, rinfo_timetolive, 12);
AT(struct rsp_sndrcvinfo, rinfo_stream, 16);

SIZE(struct rserpool_failover, 20);
AT(struct rserpool_failover, rf_type, 0);
AT(struct rserpool_failover, rf_flags, 2);
AT(struct rserpool_failover, rf_length, 4);
AT(struct rserpool_failover, rf_state, 8);
AT(struct rserpool_failover, rf_session, 12);
AT(struct rserpool_failover, rf_has_cookie, 16);

SIZE(struct rserpool_session_change, 16);
AT(struct rserpool_session_change, rsc_state, 8);
AT(struct rserpool_session_change, rsc_session, 12);

SIZE(struct rserpool_shutdown_event, 12);
AT(struct rserpool_shutdown_event, rse_session, 8);

SIZE(union rserpool_notification, 20);
AT(union rserpool_notification, rn_header.rn_type, 0);
AT(union rserpool_notification, rn_header.rn_flags, 2);
AT(union rserpool_notification, rn_header.rn_length, 4);

SIZE(struct rserpool_session_parameters, 24);
AT(struct rserpool_session_parameters, sp_rto_initial, 0);
AT(struct rserpool_session_parameters, sp_rto_min, 4);
AT(struct rserpool_session_parameters, sp_rto_max, 8);
AT(struct rserpool_session_parameters, sp_assoc_max_rxt, 12);
AT(struct rserpool_session_parameters, sp_path_max_rxt, 16);
AT(struct rserpool_session_parameters, sp_hbinterval, 20);

SIZE(struct TagItem, 16);
AT(struct TagItem, Tag, 0);
AT(struct TagItem, Data, 8);

IS(RSPLIB_VERSION, 2);
IS(RSPLIB_REVISION, 3);
IS(REGF_DONTWAIT, 1);
IS(REGF_CONTROLCHANNEL, 2);
IS(REGF_DAEMONMODE, 4);
IS(DEREGF_DONTWAIT, 1);
IS(FFF_NONE, 0);
IS(FFF_UNREACHABLE, 1);
IS(MSG_RSERPOOL_NOTIFICATION, 1);
IS(MSG_RSERPOOL_COOKIE_ECHO, 2);
IS(RSERPOOL_SESSION_CHANGE, 1);
IS(RSERPOOL_FAILOVER, 2);
IS(RSERPOOL_SHUTDOWN_EVENT, 3);
IS(RSERPOOL_FAILOVER_NECESSARY, 1);
IS(RSERPOOL_FAILOVER_COMPLETE, 2);
IS(RSERPOOL_SESSION_ADD, 1);
IS(RSERPOOL_SESSION_REMOVE, 2);
IS(RSPGETADDRS_MIN, 1);
IS(RSPGETADDRS_MAX, 0xffffffff);
IS(RSPGETADDRS_DEFAULT, 0);
IS(REAI_NONAME, -1);
IS(REAI_MEMORY, -2);
IS(REAI_SYSTEM, -3);
IS(REAI_FAMILY, -4);
IS(SESSION_SETSIZE, 16384);
IS(PPT_ROUNDROBIN, 0x00000001);
IS(PPT_WEIGHTED_ROUNDROBIN, 0x00000002);
IS(PPT_RANDOM, 0x00000003);
IS(PPT_WEIGHTED_RANDOM, 0x00000004);
IS(PPT_PRIORITY, 0x00000005);
IS(PPT_LEASTUSED, 0x40000001);
IS(PPT_LEASTUSED_DEGRADATION, 0x40000002);
IS(PPT_PRIORITY_LEASTUSED, 0x40000003);
IS(PPT_RANDOMIZED_LEASTUSED, 0x40000004);

/* Linux' values of SCTP_UNORDERED, SCTP_ABORT and SCTP_EOF, which programs for RSPLIB pass. */
IS(RSP_UNORDERED, 1 << 0);
IS(RSP_ABORT, 1 << 2);
IS(RSP_EOF, 0x200);

SIZE(struct rsp_poolchange, 168);
AT(struct rsp_poolchange, rpc_type, 0);
AT(struct rsp_poolchange, rpc_pe_id, 4);
AT(struct rsp_poolchange, rpc_loadinfo, 8);
AT(struct rsp_poolchange, rpc_protocol, 32);
AT(struct rsp_poolchange, rpc_addr, 40);

SIZE(struct rsp_failover_info, 24);
AT(struct rsp_failover_info, rfi_gap, 16);

/* RFC 5352 6.5.5 */
IS(ASAP_USE_DEFAULT, 0x0000);
IS(ASAP_SEND_FAILOVER, 0x0001);
IS(ASAP_SEND_NO_FAILOVER, 0x0002);
IS(ASAP_SEND_TO_LAST, 0x0004);
IS(ASAP_SEND_TO_ALL, 0x0008);
IS(ASAP_SEND_TO_SELF, 0x0010);
IS(ASAP_SCTP_UNORDER, 0x1000);

SIZE(struct asap_registrar_config, 104);
AT(struct asap_registrar_config, arc_size, 0);
AT(struct asap_registrar_config, arc_asap, 8);
AT(struct asap_registrar_config, arc_admin, 56);
AT(struct asap_registrar_config, arc_id, 64);
AT(struct asap_registrar_config, arc_max_links, 88);
AT(struct asap_registrar_config, arc_dialect, 96);
