/* The functions that take tags are declared in asap.h; these are the names by which programs for RSPLIB know the tags. */
#ifndef ASAP_RSERPOOL_INTERNALS_H
#define ASAP_RSERPOOL_INTERNALS_H

#include "rserpool.h"
#include "tagitem.h"

#define TAG_PoolElement_Identifier                RSP_TAG_PE_IDENTIFIER
#define TAG_RspSession_ConnectTimeout             RSP_TAG_CONNECT_TIMEOUT
#define TAG_RspSession_HandleResolutionRetryDelay RSP_TAG_RESOLUTION_RETRY_DELAY

/* Without effect: what they are named for is said by struct rsp_info. */
#define TAG_RspLib_CacheElementTimeout       (TAG_USER + 4000)
#define TAG_RspLib_RegistrarAnnounceAddress  (TAG_USER + 4001)
#define TAG_RspLib_RegistrarAnnounceTimeout  (TAG_USER + 4002)
#define TAG_RspLib_RegistrarConnectMaxTrials (TAG_USER + 4003)
#define TAG_RspLib_RegistrarConnectTimeout   (TAG_USER + 4004)
#define TAG_RspLib_RegistrarRequestMaxTrials (TAG_USER + 4005)
#define TAG_RspLib_RegistrarRequestTimeout   (TAG_USER + 4006)
#define TAG_RspLib_RegistrarResponseTimeout  (TAG_USER + 4007)

#endif
