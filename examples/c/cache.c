#include "cache.h"

#include <stdlib.h>
#include <string.h>

int cache_make(struct cache *cache, enum policy policy, uint32_t n_units, uint32_t capacity, size_t row_bytes,
               struct error *error) {
    if (capacity > n_units) capacity = n_units;
    memset(cache, 0, sizeof *cache);
    cache->policy = policy;
    cache->n_units = n_units;
    cache->capacity = capacity;
    cache->row_bytes = row_bytes;
    size_t links = ((size_t)n_units + 1) * sizeof(uint32_t);
    cache->newer = malloc(links);
    cache->older = malloc(links);
    cache->place_of = malloc(links);
    cache->kept = capacity ? malloc(capacity * row_bytes) : NULL;
    if (!cache->newer || !cache->older || !cache->place_of || (capacity && !cache->kept)) {
        cache_free(cache);
        return fail(error, SYSTEM, "no memory for %u units of %zu bytes; lower --capacity", capacity, row_bytes);
    }
    memset(cache->place_of, 0xFF, links);
    cache->newer[n_units] = cache->older[n_units] = n_units;
    return 0;
}

static void take_out(struct cache *cache, uint32_t unit) {
    uint32_t before = cache->older[unit], after = cache->newer[unit];
    cache->newer[before] = after;
    cache->older[after] = before;
}

static void put_newest(struct cache *cache, uint32_t unit) {
    uint32_t anchor = cache->n_units, newest = cache->older[anchor];
    cache->newer[unit] = anchor;
    cache->older[unit] = newest;
    cache->newer[newest] = unit;
    cache->older[anchor] = unit;
}

uint32_t cache_ask(struct cache *cache, uint32_t unit) {
    uint32_t place = cache->place_of[unit];
    if (cache->policy == CACHE_PINNED || cache->capacity == 0) return place;
    if (place != NOT_KEPT) {
        take_out(cache, unit);
    } else if (cache->n_kept < cache->capacity) {
        cache->place_of[unit] = cache->n_kept++;
    } else { /* the oldest gives its place: its bytes stay there until cache_keep, for whoever was told of them */
        uint32_t oldest = cache->newer[cache->n_units];
        take_out(cache, oldest);
        cache->place_of[unit] = cache->place_of[oldest];
        cache->place_of[oldest] = NOT_KEPT;
    }
    put_newest(cache, unit);
    return place;
}

bool cache_pin(struct cache *cache, uint32_t unit) {
    if (cache->place_of[unit] != NOT_KEPT) return true;
    if (cache->n_kept == cache->capacity) return false;
    cache->place_of[unit] = cache->n_kept++;
    return true;
}

void cache_keep(struct cache *cache, uint32_t unit, const uint8_t *row) {
    uint32_t place = cache->place_of[unit];
    if (place != NOT_KEPT) memcpy(cache->kept + (size_t)place * cache->row_bytes, row, cache->row_bytes);
}

void cache_free(struct cache *cache) {
    free(cache->newer);
    free(cache->older);
    free(cache->place_of);
    free(cache->kept);
    memset(cache, 0, sizeof *cache);
}
