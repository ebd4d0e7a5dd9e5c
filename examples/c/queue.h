/* A bounded queue of reads: so many threads over pread, which sleep between batches. One batch at a time. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

struct request {
    uint64_t offset_bytes; /* in the file; a multiple of the page */
    size_t length_bytes;   /* whole pages */
    size_t target;         /* where in the batch's memory */
    size_t least_bytes;    /* what must come back: less than the length at the end of the file */
    ssize_t n_read;        /* written: what came back, or -1 */
    int error;             /* written: errno */
};

struct queue;

/* Start the threads; returns NULL and fills the error if that fails. */
struct queue *queue_start(int descriptor, unsigned depth, struct error *error);

/* Start reading; requests and memory must stay where they are until queue_finish. */
void queue_begin(struct queue *queue, struct request *requests, size_t n_requests, uint8_t *memory);

/* Wait for the batch; fails if a read did, or was short. *read_us is the time from its start to the last read's end. */
int queue_finish(struct queue *queue, double *read_us, struct error *error);

/* End the threads; a batch that was begun is finished first. Takes NULL. */
void queue_stop(struct queue *queue);

/* A clock that never goes back, in microseconds. */
double clock_us(void);

#endif
