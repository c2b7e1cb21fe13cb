/*
 * What stateful_server.c and stateful_client.c share: messages (all numbers in network byte
 * order) and the running hash.
 *
 * The hash covers every request so far, so a request lost, repeated or changed anywhere shows
 * in every later reply.
 */
#ifndef STATEFUL_H
#define STATEFUL_H
#include <stdint.h>

struct request {
    uint64_t number; /* 1, 2, 3 ... */
    uint64_t value;  /* anything */
};

enum reply_kind { PROCESSED = 0, REPLAYED = 1, REFUSED = 2 };

struct reply {
    uint64_t number; /* of the request; if refused: the last one the server knows */
    uint64_t hash;   /* over all requests up to this one */
    uint64_t kind;   /* enum reply_kind */
};

/* The server's whole state: it travels with the client, as a cookie. */
struct state {
    uint64_t number; /* of the last request */
    uint64_t hash;
};

/* FNV-1a over the 16 bytes of one more request. */
static inline uint64_t hash_more(uint64_t hash, uint64_t number, uint64_t value) {
    uint64_t words[2] = {number, value};
    hash ^= 0xcbf29ce484222325u;
    for (int i = 0; i < 16; i++) {
        hash ^= (words[i / 8] >> (8 * (i % 8))) & 0xff;
        hash *= 0x100000001b3u;
    }
    return hash;
}
#endif
