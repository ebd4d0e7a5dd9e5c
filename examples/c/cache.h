/* A DRAM cache of one block's units, and their bytes: least recently used, or a fixed set that is never evicted. */
#ifndef CACHE_H
#define CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum policy { CACHE_LRU, CACHE_PINNED };

#define NOT_KEPT UINT32_MAX

struct cache {
    enum policy policy;
    uint32_t n_units, capacity, n_kept;
    uint32_t *newer, *older; /* a ring over units; entry n_units is its anchor, older of which is the newest unit */
    uint32_t *place_of;      /* where the bytes of a unit are kept; NOT_KEPT if they are not */
    uint8_t *kept;
    size_t row_bytes;
};

/* Make an empty cache of at most `capacity` units. */
int cache_make(struct cache *cache, enum policy policy, uint32_t n_units, uint32_t capacity, size_t row_bytes,
               struct error *error);

/* Ask for a unit, and admit it if it is not there; return the place of its bytes, or NOT_KEPT for a miss.
 * The bytes stay valid until the next cache_keep. */
uint32_t cache_ask(struct cache *cache, uint32_t unit);

/* Pin a unit whose bytes cache_keep will bring; return false if the cache is full. */
bool cache_pin(struct cache *cache, uint32_t unit);

/* Keep the bytes of a unit that was missed, if the cache still holds it. */
void cache_keep(struct cache *cache, uint32_t unit, const uint8_t *row);

void cache_free(struct cache *cache);

#endif
