#include "queue.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct worker {
    struct queue *queue;
    pthread_t thread;
    double end_us; /* when it found nothing left */
};

struct queue {
    int descriptor;
    unsigned depth, n_woken;
    sem_t wake, done;
    /* Of the batch; written before workers wake, so that the semaphore orders it. */
    struct request *requests;
    size_t n_requests;
    uint8_t *memory;
    double begun_us;
    atomic_size_t next;
    atomic_bool has_failed;
    bool is_ending;
    struct worker workers[];
};

double clock_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) < 0 && errno == EINTR) continue;
}

/* Take requests until none is left, or one has failed: no token can be made then. */
static void take_requests(struct queue *queue) {
    while (!atomic_load(&queue->has_failed)) {
        size_t number = atomic_fetch_add(&queue->next, 1);
        if (number >= queue->n_requests) return;
        struct request *request = &queue->requests[number];
        do {
            errno = 0;
            request->n_read = pread(queue->descriptor, queue->memory + request->target, request->length_bytes,
                                    (off_t)request->offset_bytes);
        } while (request->n_read < 0 && errno == EINTR);
        request->error = errno;
        /* A short read is not continued: behind it, offset and memory would no longer be aligned. */
        if (request->n_read < 0 || (size_t)request->n_read < request->least_bytes) atomic_store(&queue->has_failed, true);
    }
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct queue *queue = worker->queue;
    for (;;) {
        wait_for(&queue->wake);
        if (queue->is_ending) return NULL;
        take_requests(queue);
        worker->end_us = clock_us();
        sem_post(&queue->done);
    }
}

struct queue *queue_start(int descriptor, unsigned depth, struct error *error) {
    struct queue *queue = calloc(1, sizeof *queue + depth * sizeof *queue->workers);
    if (!queue) {
        fail(error, SYSTEM, "no memory for a queue of %u reads", depth);
        return NULL;
    }
    queue->descriptor = descriptor;
    sem_init(&queue->wake, 0, 0);
    sem_init(&queue->done, 0, 0);
    for (; queue->depth < depth; queue->depth++) {
        struct worker *worker = &queue->workers[queue->depth];
        worker->queue = queue;
        int refused = pthread_create(&worker->thread, NULL, work, worker);
        if (refused) {
            fail(error, SYSTEM, "thread %u of the queue: %s", queue->depth + 1, strerror(refused));
            queue_stop(queue);
            return NULL;
        }
    }
    return queue;
}

void queue_begin(struct queue *queue, struct request *requests, size_t n_requests, uint8_t *memory) {
    queue->requests = requests;
    queue->n_requests = n_requests;
    queue->memory = memory;
    atomic_store(&queue->next, 0);
    atomic_store(&queue->has_failed, false);
    for (unsigned worker = 0; worker < queue->depth; worker++) queue->workers[worker].end_us = 0;
    for (size_t i = 0; i < n_requests; i++) requests[i].n_read = (ssize_t)requests[i].least_bytes;
    queue->begun_us = clock_us();
    queue->n_woken = n_requests < queue->depth ? (unsigned)n_requests : queue->depth;
    for (unsigned i = 0; i < queue->n_woken; i++) sem_post(&queue->wake);
}

int queue_finish(struct queue *queue, double *read_us, struct error *error) {
    *read_us = 0;
    for (; queue->n_woken; queue->n_woken--) wait_for(&queue->done);
    for (unsigned worker = 0; worker < queue->depth; worker++) {
        double us = queue->workers[worker].end_us - queue->begun_us;
        if (us > *read_us) *read_us = us;
    }
    if (!queue->n_requests || !atomic_load(&queue->has_failed)) return 0;
    for (size_t i = 0; i < queue->n_requests; i++) {
        const struct request *request = &queue->requests[i];
        if (request->n_read >= 0 && (size_t)request->n_read >= request->least_bytes) continue;
        return fail(error, SYSTEM, "a read of %zu bytes at byte %llu %s; no token was made of it; check the storage",
                    request->length_bytes, (unsigned long long)request->offset_bytes,
                    request->n_read < 0 ? strerror(request->error) : "was cut short");
    }
    return 0;
}

void queue_stop(struct queue *queue) {
    if (!queue) return;
    for (; queue->n_woken; queue->n_woken--) wait_for(&queue->done);
    queue->is_ending = true;
    for (unsigned i = 0; i < queue->depth; i++) sem_post(&queue->wake);
    for (unsigned i = 0; i < queue->depth; i++) pthread_join(queue->workers[i].thread, NULL);
    sem_destroy(&queue->wake);
    sem_destroy(&queue->done);
    free(queue);
}
