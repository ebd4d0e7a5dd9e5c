#include "reader.h"

#include <stdlib.h>
#include <string.h>

int reader_open(struct reader *reader, const char *path, const struct reader_options *options, struct error *error) {
    memset(reader, 0, sizeof *reader);
    reader->options = *options;
    if (bundled_open(&reader->file, path, options->page_bytes, error) < 0) return -1;
    uint32_t n_most = 0;
    bool has_two = false;
    for (size_t i = 0; i < reader->file.n_blocks; i++) {
        const struct block *block = &reader->file.blocks[i];
        if (block->n_units > n_most) n_most = block->n_units;
        has_two = has_two || block->second_slot;
    }
    reader->caches = calloc(reader->file.n_blocks, sizeof *reader->caches);
    reader->counters = calloc(reader->file.n_blocks, sizeof *reader->counters);
    reader->missed = malloc(n_most * sizeof *reader->missed);
    reader->places = malloc(n_most * sizeof *reader->places);
    reader->reads = malloc(2 * (size_t)n_most * sizeof *reader->reads); /* of two regions */
    int result = 0;
    if (!reader->caches || !reader->counters || !reader->missed || !reader->places || !reader->reads)
        result = fail(error, SYSTEM, "no memory for a reader of %zu blocks", reader->file.n_blocks);
    for (size_t i = 0; result == 0 && i < reader->file.n_blocks; i++)
        result = reader_set_cache(reader, i, CACHE_LRU, 0, error);
    if (result == 0 && has_two) result = two_copies_make(&reader->copies, n_most, error);
    if (result == 0) {
        reader->queue = queue_start(reader->file.descriptor, options->depth, error);
        result = reader->queue ? 0 : -1;
    }
    if (result < 0) reader_close(reader);
    return result;
}

int reader_set_cache(struct reader *reader, size_t block, enum policy policy, uint32_t capacity, struct error *error) {
    const struct block *at = &reader->file.blocks[block];
    cache_free(&reader->caches[block]);
    return cache_make(&reader->caches[block], policy, at->n_units, capacity, at->row_bytes, error);
}

/* Ask the cache for each unit, in the order of slots as the simulator does; list what must be read. */
static void ask_cache(struct reader *reader, const struct block *block, struct cache *cache) {
    reader->n_missed = 0;
    for (uint32_t i = 0; i < reader->n_slots; i++) {
        uint32_t slot = reader->slots[i];
        reader->places[i] = cache_ask(cache, block->order[slot]);
        if (reader->places[i] == NOT_KEPT) reader->missed[reader->n_missed++] = slot;
    }
}

/* Write the requests of all regions; return their number, of which what there is room for was written. */
static size_t list_requests(struct reader *reader, const struct block *block, size_t *memory_bytes) {
    struct paging paging = {reader->options.page_bytes, reader->options.max_request_bytes,
                            (uint64_t)reader->file.as_opened.st_size};
    struct read *reads = reader->reads;
    size_t n_requests = 0;
    *memory_bytes = 0;
    for (int region = 0; region < block->n_regions; region++) {
        n_requests = plan_requests(block, &block->regions[region], &paging, reads, reader->n_reads[region],
                                   reader->requests, n_requests, reader->room_requests, memory_bytes);
        reads += reader->n_reads[region];
    }
    return n_requests;
}

/* Make room for a batch; memory starts on a page, as O_DIRECT wants it. */
static int make_room(struct reader *reader, size_t n_requests, size_t memory_bytes, struct error *error) {
    if (n_requests > reader->room_requests) {
        free(reader->requests);
        reader->room_requests = 0;
        reader->requests = malloc(2 * n_requests * sizeof *reader->requests);
        if (!reader->requests) return fail(error, SYSTEM, "no memory for %zu reads", n_requests);
        reader->room_requests = 2 * n_requests;
    }
    if (memory_bytes > reader->memory_bytes) {
        void *memory = NULL;
        free(reader->memory);
        reader->memory = NULL;
        reader->memory_bytes = 0;
        if (posix_memalign(&memory, reader->options.page_bytes, memory_bytes + memory_bytes / 4))
            return fail(error, SYSTEM, "no memory for reads of %zu bytes", memory_bytes);
        reader->memory = memory;
        reader->memory_bytes = memory_bytes + memory_bytes / 4;
    }
    return 0;
}

/* Plan the reads of all regions, and the requests that storage will see; fails if there is no memory for them. */
static int plan(struct reader *reader, const struct block *block, size_t *n_requests, struct error *error) {
    const struct reader_options *options = &reader->options;
    size_t memory_bytes;
    struct read *reads = reader->reads;
    for (int region = 0; region < block->n_regions; region++) {
        uint32_t gap = region + 1 < block->n_regions ? options->gate_gap : options->gap;
        reader->n_reads[region] =
            block->second_slot ? plan_two_copies(&reader->copies, block, reader->missed, reader->n_missed, gap,
                                                 options->lambda, reads)
                               : plan_reads(reader->missed, reader->n_missed, gap, reads);
        reads += reader->n_reads[region];
    }
    *n_requests = list_requests(reader, block, &memory_bytes);
    if (*n_requests <= reader->room_requests && memory_bytes <= reader->memory_bytes) return 0;
    if (make_room(reader, *n_requests, memory_bytes, error) < 0) return -1;
    list_requests(reader, block, &memory_bytes);
    return 0;
}

static void count(struct reader *reader, size_t n_requests) {
    struct counters *counters = &reader->counters[reader->block];
    counters->n_rows++;
    counters->n_asked += reader->n_slots;
    counters->n_hits += reader->n_slots - reader->n_missed;
    for (int region = 0; region < reader->file.blocks[reader->block].n_regions; region++)
        counters->n_reads += reader->n_reads[region];
    counters->n_requests += n_requests;
    for (size_t i = 0; i < n_requests; i++) counters->bytes_read += reader->requests[i].length_bytes;
}

/* Refuse what would read beyond a block, or a unit twice. */
static int check_slots(const struct reader *reader, size_t block, const uint32_t *slots, uint32_t n_slots,
                       struct error *error) {
    if (reader->is_broken) return fail(error, SYSTEM, "a read has failed before; open the file again");
    if (reader->is_under_way) return fail(error, USAGE, "a row is under way; wait for it first");
    if (block >= reader->file.n_blocks) return fail(error, USAGE, "no such block");
    const struct block *at = &reader->file.blocks[block];
    for (uint32_t i = 0; i < n_slots; i++)
        if (slots[i] >= at->n_units || (i && slots[i] <= slots[i - 1]))
            return fail(error, USAGE, "%s: slot %u is out of order, or beyond %u; sort slots, each once", at->name,
                        slots[i], at->n_units - 1);
    return 0;
}

int reader_begin(struct reader *reader, size_t block, const uint32_t *slots, uint32_t n_slots, uint8_t *rows,
                 struct error *error) {
    if (check_slots(reader, block, slots, n_slots, error) < 0) return -1;
    double start_us = clock_us();
    const struct block *at = &reader->file.blocks[block];
    struct cache *cache = &reader->caches[block];
    size_t n_requests = 0;
    reader->block = block;
    reader->slots = slots;
    reader->n_slots = n_slots;
    reader->rows = rows;
    ask_cache(reader, at, cache);
    if (plan(reader, at, &n_requests, error) < 0) {
        reader->is_broken = true;
        return -1;
    }
    queue_begin(reader->queue, reader->requests, n_requests, reader->memory);
    reader->is_under_way = true;
    count(reader, n_requests); /* here and below: while storage reads */
    for (uint32_t i = 0; i < n_slots; i++)
        if (reader->places[i] != NOT_KEPT)
            memcpy(rows + i * at->row_bytes, cache->kept + reader->places[i] * at->row_bytes, at->row_bytes);
    reader->counters[block].serve_us += clock_us() - start_us;
    return 0;
}

/* Return the read that has a slot, NULL if none has; reads ascend. */
static const struct read *find_read(const struct read *reads, size_t n_reads, uint32_t slot) {
    size_t low = 0, high = n_reads;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reads[middle].first <= slot) low = middle + 1;
        else high = middle;
    }
    return low && reads[low - 1].last >= slot ? &reads[low - 1] : NULL;
}

/* Copy what was read of each slot to its row, and keep what the cache holds of it. */
static void copy_fetched(struct reader *reader, const struct block *block, struct cache *cache) {
    for (uint32_t i = 0; i < reader->n_slots; i++) {
        if (reader->places[i] != NOT_KEPT) continue;
        const struct read *reads = reader->reads;
        uint8_t *row = reader->rows + i * block->row_bytes, *target = row;
        for (int region = 0; region < block->n_regions; region++) {
            const struct region *at = &block->regions[region];
            uint32_t slot = reader->slots[i];
            const struct read *read = find_read(reads, reader->n_reads[region], slot);
            if (!read) { /* then it comes from the second copy */
                slot = block->n_units + block->second_slot[slot];
                read = find_read(reads, reader->n_reads[region], slot);
            }
            memcpy(target, reader->memory + read->at + (slot - read->first) * at->stride_bytes, at->length_bytes);
            target += at->length_bytes;
            reads += reader->n_reads[region];
        }
        cache_keep(cache, block->order[reader->slots[i]], row);
    }
}

int reader_wait(struct reader *reader, struct error *error) {
    double start_us = clock_us(), read_us = 0;
    struct counters *counters = &reader->counters[reader->block];
    if (!reader->is_under_way) return fail(error, USAGE, "no row is under way; begin one first");
    reader->is_under_way = false;
    if (queue_finish(reader->queue, &read_us, error) < 0 || bundled_check_unchanged(&reader->file, error) < 0) {
        reader->is_broken = true;
        return -1;
    }
    copy_fetched(reader, &reader->file.blocks[reader->block], &reader->caches[reader->block]);
    counters->read_us += read_us;
    counters->serve_us += clock_us() - start_us;
    return 0;
}

int reader_serve(struct reader *reader, size_t block, const uint32_t *slots, uint32_t n_slots, uint8_t *rows,
                 struct error *error) {
    if (reader_begin(reader, block, slots, n_slots, rows, error) < 0) return -1;
    return reader_wait(reader, error);
}

int reader_pin(struct reader *reader, size_t block, const uint32_t *slots, uint32_t n_slots, struct error *error) {
    if (check_slots(reader, block, slots, n_slots, error) < 0) return -1;
    const struct block *at = &reader->file.blocks[block];
    struct cache *cache = &reader->caches[block];
    struct counters before = reader->counters[block];
    uint8_t *rows = malloc(n_slots * at->row_bytes + 1);
    if (!rows) return fail(error, SYSTEM, "no memory for %u units to pin", n_slots);
    int result = reader_serve(reader, block, slots, n_slots, rows, error);
    for (uint32_t i = 0; result == 0 && i < n_slots; i++) {
        if (cache_pin(cache, at->order[slots[i]])) cache_keep(cache, at->order[slots[i]], rows + i * at->row_bytes);
        else result = fail(error, USAGE, "%s: %u slots to pin, room for %u; raise --capacity", at->name, n_slots, cache->capacity);
    }
    free(rows);
    reader->counters[block] = before;
    return result;
}

void reader_close(struct reader *reader) {
    queue_stop(reader->queue);
    for (size_t i = 0; reader->caches && i < reader->file.n_blocks; i++) cache_free(&reader->caches[i]);
    two_copies_free(&reader->copies);
    free(reader->caches);
    free(reader->counters);
    free(reader->missed);
    free(reader->places);
    free(reader->reads);
    free(reader->requests);
    free(reader->memory);
    bundled_close(&reader->file);
    memset(reader, 0, sizeof *reader);
    reader->file.descriptor = -1;
}
