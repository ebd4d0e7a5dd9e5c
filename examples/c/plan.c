#include "plan.h"

size_t plan_reads(const uint32_t *slots, size_t n_slots, uint32_t gap, struct read *reads) {
    size_t n_reads = 0;
    for (size_t i = 0; i < n_slots; i++) {
        if (n_reads && slots[i] - reads[n_reads - 1].last - 1 <= gap) reads[n_reads - 1].last = slots[i];
        else reads[n_reads++] = (struct read){slots[i], slots[i], 0};
    }
    return n_reads;
}

size_t plan_requests(const struct block *block, const struct region *region, const struct paging *paging,
                     struct read *reads, size_t n_reads, struct request *requests, size_t n_requests, size_t room,
                     size_t *memory_end) {
    uint64_t page = paging->page_bytes;
    for (size_t i = 0; i < n_reads; i++) {
        struct read *read = &reads[i];
        uint32_t n = block->n_units;
        uint64_t base = read->first < n ? region->offset_bytes : block->offset_2_bytes;
        uint64_t first = base + (uint64_t)(read->first % n) * region->stride_bytes;
        uint64_t end = base + (uint64_t)(read->last % n) * region->stride_bytes + region->length_bytes;
        uint64_t offset = first / page * page, left = (end + page - 1) / page * page - offset;
        read->at = *memory_end + (size_t)(first - offset);
        while (left) {
            uint64_t length = left < paging->max_request_bytes ? left : paging->max_request_bytes;
            uint64_t to_end = paging->file_bytes - offset;
            if (n_requests < room)
                requests[n_requests] = (struct request){
                    .offset_bytes = offset, .length_bytes = (size_t)length, .target = *memory_end,
                    .least_bytes = (size_t)(length < to_end ? length : to_end),
                };
            n_requests++;
            *memory_end += (size_t)length;
            offset += length;
            left -= length;
        }
    }
    return n_requests;
}
