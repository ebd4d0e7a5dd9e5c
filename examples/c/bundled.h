/* The bundled file: opened, its index read and checked. docs/formats.md describes the file. */
#ifndef BUNDLED_H
#define BUNDLED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "error.h"

/* Where one piece of each unit lies: slot s from offset_bytes + s * stride_bytes on, length_bytes of it. */
struct region {
    uint64_t offset_bytes, stride_bytes, length_bytes;
};

/* A block: all units of an FFN (neurons or columns), or all experts of a layer. */
struct block {
    char name[128];
    uint32_t n_units;
    struct region regions[2]; /* gates and the rest where gates lie apart (format /3), else whole units */
    int n_regions;
    uint64_t row_bytes;       /* of a unit: all its regions */
    uint32_t *order;          /* order[slot]: the unit of the source model */
    uint32_t *second_slot;    /* of a second copy, by slot of the first; NULL if there is one copy */
    uint64_t offset_2_bytes;  /* where the second copy begins */
};

struct bundled {
    int descriptor;
    bool is_direct; /* whether reads bypass the page cache */
    struct stat as_opened;
    struct block *blocks;
    size_t n_blocks;
};

/* Open a file and read its index; `page_bytes` is what reads will be multiples of. */
int bundled_open(struct bundled *file, const char *path, uint32_t page_bytes, struct error *error);

/* Return the number of a block, or n_blocks if there is none by that name. */
size_t bundled_find(const struct bundled *file, const char *name);

/* Fail if the file was written to or cut short since it was opened. Microseconds: to be asked after every batch. */
int bundled_check_unchanged(const struct bundled *file, struct error *error);

void bundled_close(struct bundled *file);

#endif
