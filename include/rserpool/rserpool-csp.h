/* Identifiers of the component status protocol: what kind of component it is, above the component's own 56 bits. */
#ifndef ASAP_RSERPOOL_CSP_H
#define ASAP_RSERPOOL_CSP_H

#include <stdint.h>

#define CID_GROUP_REGISTRAR   0x0001
#define CID_GROUP_POOLELEMENT 0x0002
#define CID_GROUP_POOLUSER    0x0003

#define CID_OBJECT(id) ((uint64_t)(id) & UINT64_C(0x00ffffffffffffff))
#define CID_GROUP(id) ((uint64_t)(id) >> 56)
#define CID_COMPOUND(group, object) (((uint64_t)(group) << 56) | CID_OBJECT(object))

#endif
