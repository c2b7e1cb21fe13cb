/* Policies: beside those of asap.h the ones nobody can register with, and the ranges of their values. */
#ifndef ASAP_RSERPOOL_POLICYTYPES_H
#define ASAP_RSERPOOL_POLICYTYPES_H

#include <asap.h>

#define PPT_UNDEFINED 0x00000000

/* RSPLIB has numbers for these, but no way to tell a registrar of them. Registering gives EINVAL. */
#define PPT_PRIORITY_LEASTUSED_DPF             0xb0002004
#define PPT_PRIORITY_LEASTUSED_DEGRADATION_DPF 0xb0002005

/* Whether the registrar goes by a load that elements report: all policies with "least used" in their names (RFC 5356 5 and private ones). */
#define PPT_IS_ADAPTIVE(policy) \
    ((policy) >> 28 == 0x4 || (policy) >> 12 == 0xb0001 || ((policy) >> 12 == 0xb0002 && (policy) != PPT_WEIGHTED_RANDOM_DPF))

#define PPV_MIN_WEIGHT           0
#define PPV_MAX_WEIGHT           0xffffffff
#define PPV_MIN_LOAD             0
#define PPV_MAX_LOAD             0xffffffff
#define PPV_MIN_LOAD_DEGRADATION 0
#define PPV_MAX_LOAD_DEGRADATION 0xffffffff
#define PPV_MIN_LOADDPF          0
#define PPV_MAX_LOADDPF          0xffffffff
#define PPV_MIN_WEIGHTDPF        0
#define PPV_MAX_WEIGHTDPF        0xffffffff

#endif
