/* Tag lists. The functions that make and search them are another library's of RSPLIB's (libtdtagitem), and so is their header. */
#ifndef ASAP_RSERPOOL_TAGITEM_H
#define ASAP_RSERPOOL_TAGITEM_H

#include <asap.h>

#define TAG_DONE   RSP_TAG_DONE
#define TAG_END    RSP_TAG_DONE
#define TAG_IGNORE RSP_TAG_IGNORE
#define TAG_MORE   RSP_TAG_MORE
#define TAG_SKIP   RSP_TAG_SKIP
/* Tags below are the lists' own. */
#define TAG_USER   1000000

typedef unsigned int tag_t;
typedef unsigned long tagdata_t;

#endif
