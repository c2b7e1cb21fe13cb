/*
 * For programs written for RSPLIB: they compile with this directory's headers unchanged, and are linked with -lasap or with -lrsplib. What is
 * the same and what is not is told by docs/semantics.md; everything is declared, and documented, in asap.h.
 */
#ifndef ASAP_RSERPOOL_RSERPOOL_H
#define ASAP_RSERPOOL_RSERPOOL_H

#include <asap.h>
#include "rserpool-csp.h"
#include "rserpool-policytypes.h"

/* Such programs find these there, too. */
#include <netdb.h>
#include <sys/poll.h>
#include <sys/time.h>

/* The ports assigned by IANA (RFC 5352 8.1, RFC 5353 6). */
#define ASAP_PORT 3863
#define ENRP_PORT 9901

/* The groups on which RSPLIB's registrars announce themselves, where nothing else is configured. */
#define ASAP_ANNOUNCE_MULTICAST_ADDRESS "239.0.0.50:3863"
#define ENRP_ANNOUNCE_MULTICAST_ADDRESS "239.0.0.51:9901"

#endif
