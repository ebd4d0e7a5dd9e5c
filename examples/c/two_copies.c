/* Which units of a row to read from which of two copies (docs/copies.md): a covering problem. The search starts with all
 * of them in the first copy, and moves stretches that follow each other in either copy to the other one as long as that
 * saves. It equals ripple_place/kernels/two_copies.py move for move. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

enum { LONGEST = 8 /* units that move together */, MAX_PASSES = 3 };
static const double LEAST_SAVING = 1e-9; /* above the rounding of sums */

int two_copies_make(struct two_copies *copies, uint32_t n_units, struct error *error) {
    memset(copies, 0, sizeof *copies);
    copies->place_at = malloc((size_t)n_units * sizeof(uint32_t));
    for (int copy = 0; copy < 2; copy++) {
        copies->slots[copy] = malloc((size_t)n_units * sizeof(uint32_t));
        copies->places[copy] = malloc((size_t)n_units * sizeof(uint32_t));
        copies->is_read[copy] = malloc(n_units);
        if (!copies->slots[copy] || !copies->places[copy] || !copies->is_read[copy] || !copies->place_at) {
            two_copies_free(copies);
            return fail(error, SYSTEM, "no memory to plan reads of two copies");
        }
    }
    return 0;
}

void two_copies_free(struct two_copies *copies) {
    for (int copy = 0; copy < 2; copy++) {
        free(copies->slots[copy]);
        free(copies->places[copy]);
        free(copies->is_read[copy]);
    }
    free(copies->place_at);
    memset(copies, 0, sizeof *copies);
}

/* Return what reading a unit from a copy adds to the cost of the others that are read from it. */
static double share_of(const uint32_t *slots, const uint8_t *is_read, size_t n, size_t place, int64_t reach, double limit) {
    int64_t slot = slots[place], left = reach + 1, right = reach + 1;
    for (size_t other = place; other-- > 0 && slot - slots[other] <= reach;)
        if (is_read[other]) {
            left = slot - slots[other];
            break;
        }
    for (size_t other = place + 1; other < n && slots[other] - slot <= reach; other++)
        if (is_read[other]) {
            right = slots[other] - slot;
            break;
        }
    double share = left > reach ? limit : (double)left;
    share += right > reach ? limit : (double)right;
    return share - (left + right > reach ? limit : (double)(left + right));
}

/* Move the best stretch from `start` on, along the slots of copy `along`, from copy `source`; return what it saves. */
static double move_stretch(struct two_copies *copies, size_t n, int source, int along, size_t start, int64_t reach,
                           double limit) {
    int target = 1 - source;
    double change = 0, best = 0;
    size_t moved[LONGEST], n_moved = 0, n_best = 0;
    int64_t last = copies->slots[along][start];
    for (size_t place = start; place < n && copies->slots[along][place] - last <= reach && n_moved < LONGEST; place++) {
        last = copies->slots[along][place];
        size_t here = along == source ? place : copies->places[along][place];
        if (!copies->is_read[source][here]) continue;
        size_t there = copies->places[source][here];
        change -= share_of(copies->slots[source], copies->is_read[source], n, here, reach, limit);
        change += share_of(copies->slots[target], copies->is_read[target], n, there, reach, limit);
        copies->is_read[source][here] = 0;
        copies->is_read[target][there] = 1;
        moved[n_moved++] = here;
        if (change < best - LEAST_SAVING) {
            best = change;
            n_best = n_moved;
        }
    }
    while (n_moved > n_best) {
        size_t here = moved[--n_moved];
        copies->is_read[source][here] = 1;
        copies->is_read[target][copies->places[source][here]] = 0;
    }
    return n_best ? -best : 0;
}

static void divide(struct two_copies *copies, size_t n, uint32_t gap, double lambda) {
    double saved = 0, before = -1;
    for (int pass = 0; pass < MAX_PASSES && saved != before; pass++) {
        before = saved;
        for (int source = 0; source < 2; source++)
            for (int step = 0; step < 2; step++) { /* first along the copy to which they move */
                int along = step == 0 ? 1 - source : source;
                for (size_t start = 0; start < n; start++) {
                    size_t here = along == source ? start : copies->places[along][start];
                    if (copies->is_read[source][here])
                        saved += move_stretch(copies, n, source, along, start, (int64_t)gap + 1, lambda + 1);
                }
            }
    }
}

static int by_number(const void *a, const void *b) {
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return (first > second) - (first < second);
}

size_t plan_two_copies(struct two_copies *copies, const struct block *block, const uint32_t *slots, size_t n_slots,
                       uint32_t gap, double lambda, struct read *reads) {
    for (size_t place = 0; place < n_slots; place++) {
        copies->slots[0][place] = slots[place];
        copies->slots[1][place] = block->second_slot[slots[place]];
        copies->place_at[copies->slots[1][place]] = (uint32_t)place;
        copies->is_read[0][place] = 1;
        copies->is_read[1][place] = 0;
    }
    qsort(copies->slots[1], n_slots, sizeof(uint32_t), by_number);
    for (size_t place = 0; place < n_slots; place++) {
        copies->places[1][place] = copies->place_at[copies->slots[1][place]];
        copies->places[0][copies->places[1][place]] = (uint32_t)place;
    }
    divide(copies, n_slots, gap, lambda);
    size_t n_reads = 0;
    for (uint32_t copy = 0; copy < 2; copy++) {
        size_t n_before = n_reads;
        for (size_t place = 0; place < n_slots; place++) {
            if (!copies->is_read[copy][place]) continue;
            uint32_t slot = copy * block->n_units + copies->slots[copy][place];
            if (n_reads > n_before && slot - reads[n_reads - 1].last - 1 <= gap) reads[n_reads - 1].last = slot;
            else reads[n_reads++] = (struct read){slot, slot, 0};
        }
    }
    return n_reads;
}
