/* Plans of reads: from the slots that were missed to reads, and from reads to requests of whole pages. */
#ifndef PLAN_H
#define PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bundled.h"
#include "error.h"
#include "queue.h"

/* A read takes all slots from first to last, both included. Slots of a second copy count on from those of the first. */
struct read {
    uint32_t first, last;
    size_t at; /* where in memory its first slot begins */
};

/* A row's misses in both copies, and which copy each is read from: scratch of plan_two_copies. */
struct two_copies {
    uint32_t *slots[2];  /* by copy, ascending */
    uint32_t *places[2]; /* where a copy's unit stands among the slots of the other */
    uint8_t *is_read[2];
    uint32_t *place_at; /* of a slot of the second copy */
};

int two_copies_make(struct two_copies *copies, uint32_t n_units, struct error *error);
void two_copies_free(struct two_copies *copies);

/* Access collapse: read through up to `gap` unwanted slots between two wanted ones. Slots ascend; there is room for as
 * many reads. Returns the number of reads. */
size_t plan_reads(const uint32_t *slots, size_t n_slots, uint32_t gap, struct read *reads);

/* The same where a block lies twice: each slot is read from whichever copy makes lambda x reads + units read least. */
size_t plan_two_copies(struct two_copies *copies, const struct block *block, const uint32_t *slots, size_t n_slots,
                       uint32_t gap, double lambda, struct read *reads);

/* How reads become requests. */
struct paging {
    uint32_t page_bytes;
    uint64_t max_request_bytes; /* longer ones are split */
    uint64_t file_bytes;
};

/* Write the requests of some reads of a region, from requests[n_requests] on while there is room, and `at` of each read.
 * Returns how many requests there are by then; *memory_end, where memory is filled to, moves on. */
size_t plan_requests(const struct block *block, const struct region *region, const struct paging *paging,
                     struct read *reads, size_t n_reads, struct request *requests, size_t n_requests, size_t room,
                     size_t *memory_end);

#endif
