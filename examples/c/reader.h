/* A reader of a layout: the units of a row come from DRAM or from storage. One caller at a time: engines that serve
 * several rows at once put a lock around it, or give each its own. */
#ifndef READER_H
#define READER_H

#include "bundled.h"
#include "cache.h"
#include "plan.h"
#include "queue.h"

struct reader_options {
    unsigned depth;             /* reads in flight */
    uint32_t page_bytes;        /* what reads are rounded out to; a power of two, at least 512 */
    uint64_t max_request_bytes; /* where reads are split; whole pages */
    uint32_t gap;               /* unwanted slots that are read through: access collapse */
    uint32_t gate_gap;          /* the same of gates that lie apart */
    double lambda;              /* break-even gap: unwanted units that cost as much as a read; of two copies only */
};

struct counters {
    uint64_t n_rows, n_asked, n_hits, n_reads, n_requests, bytes_read;
    double read_us;  /* from the first read's start to the last one's end, of all rows */
    double serve_us; /* inside of reader_begin and reader_wait */
};

struct reader {
    struct bundled file;
    struct reader_options options;
    struct queue *queue;
    struct cache *caches;     /* by block */
    struct counters *counters; /* by block */
    struct two_copies copies;
    uint32_t *missed, *places, n_missed; /* of the row under way: slots to read, and by slot asked the place in DRAM */
    struct read *reads;
    size_t n_reads[2]; /* by region */
    struct request *requests;
    size_t room_requests;
    uint8_t *memory; /* what is read goes here */
    size_t memory_bytes;
    /* The row under way. */
    size_t block;
    const uint32_t *slots;
    uint32_t n_slots;
    uint8_t *rows;
    bool is_under_way;
    bool is_broken; /* a read failed: caches hold units whose bytes never came */
};

/* Open a bundled file and start the threads. No cache yet: every unit is read. */
int reader_open(struct reader *reader, const char *path, const struct reader_options *options, struct error *error);

/* Give a block a cache, before anything was asked for. */
int reader_set_cache(struct reader *reader, size_t block, enum policy policy, uint32_t capacity, struct error *error);

/* Read some slots of a block into its cache for good, uncounted; the cache must pin. */
int reader_pin(struct reader *reader, size_t block, const uint32_t *slots, uint32_t n_slots, struct error *error);

/* Start reading the units in some slots of a block: ascending, none twice. rows[i * row_bytes] will be the unit in
 * slots[i]; both arrays must stay where they are until reader_wait, and an engine computes something else meanwhile. */
int reader_begin(struct reader *reader, size_t block, const uint32_t *slots, uint32_t n_slots, uint8_t *rows,
                 struct error *error);

/* Wait until all rows are there. On failure nothing of `rows` may be used, and the reader serves no more. */
int reader_wait(struct reader *reader, struct error *error);

/* Both. */
int reader_serve(struct reader *reader, size_t block, const uint32_t *slots, uint32_t n_slots, uint8_t *rows,
                 struct error *error);

void reader_close(struct reader *reader);

#endif
