#define _GNU_SOURCE /* O_DIRECT */
#include "bundled.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"

enum { MAX_HEADER_BYTES = 100000000 /* as in the safetensors library */, MAX_KEY = 128 };

/* Read all that was asked for, through the page cache; return whether it was there. */
static bool read_all(int descriptor, void *target, size_t n_bytes, off_t offset) {
    for (size_t done = 0; done < n_bytes;) {
        ssize_t n = pread(descriptor, (char *)target + done, n_bytes - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

/* Return the bytes of a unit: the end of its last component. */
static uint64_t parse_components(struct json *json) {
    uint64_t longest = 0;
    json_array(json);
    while (json_element(json)) {
        uint64_t offset = 0, length = 0;
        char key[MAX_KEY];
        json_object(json);
        while (json_key(json, key, sizeof key)) {
            if (!strcmp(key, "offset_bytes")) offset = json_number(json);
            else if (!strcmp(key, "length_bytes")) length = json_number(json);
            else json_skip(json);
        }
        if (offset + length > longest) longest = offset + length;
    }
    return longest;
}

/* Return a list of numbers below 2^31, of which there are *n; NULL if it is malformed or stands there already. */
static uint32_t *parse_order(struct json *json, uint32_t *already, uint32_t *n) {
    size_t room = 1024, count = 0;
    uint32_t *order = already ? NULL : malloc(room * sizeof *order);
    json_array(json);
    while (order && json_element(json)) {
        uint64_t value = json_number(json);
        if (count == room) { /* grows with what is there, not with what the file says will come */
            uint32_t *larger = realloc(order, 2 * room * sizeof *order);
            if (!larger) {
                json_fail(json);
                break;
            }
            order = larger;
            room *= 2;
        }
        if (value > INT32_MAX) json_fail(json);
        order[count++] = (uint32_t)value;
    }
    if (!order || json->failed || count > INT32_MAX) {
        json_fail(json);
        free(order);
        return already;
    }
    *n = (uint32_t)count;
    return order;
}

static void parse_region(struct json *json, struct region *region) {
    char key[MAX_KEY];
    json_object(json);
    while (json_key(json, key, sizeof key)) {
        if (!strcmp(key, "offset_bytes")) region->offset_bytes = json_number(json);
        else if (!strcmp(key, "stride_bytes")) region->stride_bytes = json_number(json);
        else if (!strcmp(key, "components")) region->length_bytes = parse_components(json);
        else json_skip(json);
    }
}

/* Fill slot_of (slot_of[order[slot]] == slot); return whether `order` has every unit once. */
static bool invert(const uint32_t *order, uint32_t n, uint32_t *slot_of) {
    memset(slot_of, 0xFF, n * sizeof *slot_of);
    for (uint32_t slot = 0; slot < n; slot++) {
        if (order[slot] >= n || slot_of[order[slot]] != UINT32_MAX) return false;
        slot_of[order[slot]] = slot;
    }
    return true;
}

static bool lies_within(const struct region *region, uint32_t n_units, uint64_t first, uint64_t end) {
    if (region->length_bytes == 0 || region->length_bytes > region->stride_bytes) return false;
    if (region->offset_bytes < first || region->offset_bytes > end) return false;
    uint64_t room = end - region->offset_bytes;
    return region->length_bytes <= room && n_units - 1 <= (room - region->length_bytes) / region->stride_bytes;
}

/* Check all that readers rely on, so that no arithmetic on a hostile index can leave the file. */
static bool check_block(struct block *block, uint32_t n_order, uint32_t *order_2, uint32_t n_order_2, uint64_t data_at,
                        uint64_t end) {
    uint32_t n = block->n_units;
    if (n == 0 || !block->order || n_order != n || (order_2 && n_order_2 != n)) return false;
    for (int i = 0; i < block->n_regions; i++) {
        if (!lies_within(&block->regions[i], n, data_at, end)) return false;
        block->row_bytes += block->regions[i].length_bytes;
    }
    struct region second = block->regions[0];
    second.offset_bytes = block->offset_2_bytes;
    if (order_2 && (block->n_regions != 1 || !lies_within(&second, n, data_at, end))) return false;
    uint32_t *slot_of = malloc((size_t)n * sizeof *slot_of);
    bool is_right = slot_of && invert(block->order, n, slot_of);
    if (is_right && order_2) {
        block->second_slot = malloc((size_t)n * sizeof *block->second_slot);
        is_right = block->second_slot && invert(order_2, n, slot_of);
        for (uint32_t slot = 0; is_right && slot < n; slot++) block->second_slot[slot] = slot_of[block->order[slot]];
    }
    free(slot_of);
    return is_right;
}

/* Parse what the index says of a block; return whether it makes sense. */
static bool parse_block(struct json *json, struct block *block, uint64_t data_at, uint64_t end) {
    struct region whole = {0}, gates = {0};
    uint32_t *order_2 = NULL, n_order = 0, n_order_2 = 0;
    char key[MAX_KEY];
    bool has_gates = false;
    for (const char *c = block->name; *c; c++)
        if (*c <= ' ' || *c > '~') return json_fail(json); /* it would be shown in messages */
    json_object(json);
    while (json_key(json, key, sizeof key)) {
        if (!strcmp(key, "offset_bytes")) whole.offset_bytes = json_number(json);
        else if (!strcmp(key, "stride_bytes")) whole.stride_bytes = json_number(json);
        else if (!strcmp(key, "components")) whole.length_bytes = parse_components(json);
        else if (!strcmp(key, "offset_2_bytes")) block->offset_2_bytes = json_number(json);
        else if (!strcmp(key, "order")) block->order = parse_order(json, block->order, &n_order);
        else if (!strcmp(key, "order_2")) order_2 = parse_order(json, order_2, &n_order_2);
        else if (!strcmp(key, "n_neurons")) {
            uint64_t n = json_number(json);
            block->n_units = n > INT32_MAX ? 0 : (uint32_t)n;
        } else if (!strcmp(key, "gates")) {
            has_gates = true;
            parse_region(json, &gates);
        } else json_skip(json);
    }
    block->n_regions = has_gates ? 2 : 1;
    block->regions[0] = has_gates ? gates : whole;
    block->regions[1] = whole;
    bool is_right = !json->failed && check_block(block, n_order, order_2, n_order_2, data_at, end);
    free(order_2);
    return is_right || json_fail(json);
}

/* Parse the index: JSON of its own, which stands in the header as a string. */
static bool parse_index(struct bundled *file, char *text, size_t length, uint64_t data_at, uint64_t end) {
    struct json json = {text, text + length, false, false};
    char name[sizeof file->blocks->name];
    size_t room = 0;
    json_object(&json);
    while (json_key(&json, name, sizeof name)) {
        if (strlen(name) + 1 == sizeof name) return false; /* it may have been cut */
        if (file->n_blocks == room) {
            room = room ? 2 * room : 64;
            struct block *larger = realloc(file->blocks, room * sizeof *larger);
            if (!larger) return false;
            file->blocks = larger;
        }
        struct block *block = &file->blocks[file->n_blocks++];
        memset(block, 0, sizeof *block);
        strcpy(block->name, name);
        parse_block(&json, block, data_at, end);
    }
    return json_ended(&json) && file->n_blocks > 0;
}

/* What of a safetensors header matters here. */
struct header {
    char format[64];
    char *index; /* text of the index; NULL if there is none */
    size_t index_length;
    uint64_t data_bytes; /* the end of the last tensor */
};

static void parse_metadata(struct json *json, struct header *header) {
    char key[MAX_KEY];
    json_object(json);
    while (json_key(json, key, sizeof key)) {
        if (!strcmp(key, "format")) json_string(json, header->format, sizeof header->format);
        else if (!strcmp(key, "index") && !header->index) {
            size_t room = (size_t)(json->end - json->at) + 1;
            header->index = malloc(room);
            if (header->index) header->index_length = json_string(json, header->index, room);
            else json_fail(json);
        } else json_skip(json);
    }
}

static void parse_tensor(struct json *json, struct header *header) {
    char key[MAX_KEY];
    json_object(json);
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, "data_offsets")) {
            json_skip(json);
            continue;
        }
        json_array(json);
        while (json_element(json)) {
            uint64_t end = json_number(json);
            if (end > header->data_bytes) header->data_bytes = end;
        }
    }
}

static bool parse_header(char *text, size_t length, struct header *header) {
    struct json json = {text, text + length, false, false};
    char key[MAX_KEY];
    json_object(&json);
    while (json_key(&json, key, sizeof key)) {
        if (!strcmp(key, "__metadata__")) parse_metadata(&json, header);
        else parse_tensor(&json, header);
    }
    return json_ended(&json);
}

static int check_header(struct bundled *file, const char *path, struct header *header, uint64_t data_at,
                        struct error *error) {
    static const char family[] = "ripple-place.bundled/";
    uint64_t size = (uint64_t)file->as_opened.st_size, end = data_at + header->data_bytes;
    if (strncmp(header->format, family, sizeof family - 1) || !header->index)
        return fail(error, MALFORMED, "%s: no bundled file of ripple-place; name OUT/ripple_place/bundled.safetensors", path);
    const char *version = header->format + sizeof family - 1;
    if (strlen(version) != 1 || *version < '1' || *version > '3')
        return fail(error, UNSUPPORTED, "%s: a later format than this reader knows (1 to 3); use a newer reader", path);
    if (size != end)
        return fail(error, MALFORMED, "%s: %llu bytes, expected %llu as its header says; copy it again", path,
                    (unsigned long long)size, (unsigned long long)end);
    if (!parse_index(file, header->index, header->index_length, data_at, end))
        return fail(error, MALFORMED, "%s: a damaged index; copy the file again, or run `ripple-place reorder` again", path);
    return 0;
}

static int read_index(struct bundled *file, const char *path, struct error *error) {
    uint64_t size = (uint64_t)file->as_opened.st_size, n_bytes = 0;
    unsigned char length[8];
    if (size < 8 || !read_all(file->descriptor, length, 8, 0))
        return fail(error, MALFORMED, "%s: too short for a safetensors file; copy it again", path);
    for (int i = 7; i >= 0; i--) n_bytes = n_bytes << 8 | length[i]; /* little-endian, whatever this machine is */
    if (n_bytes > MAX_HEADER_BYTES || n_bytes > size - 8)
        return fail(error, MALFORMED, "%s: a header that is longer than the file, or no safetensors file", path);
    char *text = malloc(n_bytes + 1);
    if (!text) return fail(error, SYSTEM, "%s: no memory for its header", path);
    struct header header = {0};
    int result;
    if (!read_all(file->descriptor, text, n_bytes, 8)) result = fail(error, SYSTEM, "%s: %s", path, strerror(errno));
    else if (!parse_header(text, n_bytes, &header))
        result = fail(error, MALFORMED, "%s: a damaged header; copy the file again", path);
    else result = check_header(file, path, &header, 8 + n_bytes, error);
    free(header.index);
    free(text);
    return result;
}

/* Let reads bypass the page cache, if the file system can: from now on they must be aligned. */
static bool go_direct(int descriptor, uint32_t page_bytes) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_DIRECT) < 0) return false;
    /* Some file systems take the flag and refuse the reads, or want a coarser alignment. */
    void *probe = NULL;
    bool works = posix_memalign(&probe, page_bytes, page_bytes) == 0 && pread(descriptor, probe, page_bytes, 0) > 0;
    free(probe);
    if (!works) fcntl(descriptor, F_SETFL, flags);
    return works;
}

int bundled_open(struct bundled *file, const char *path, uint32_t page_bytes, struct error *error) {
    memset(file, 0, sizeof *file);
    file->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (file->descriptor < 0) return fail(error, errno == ENOENT ? USAGE : SYSTEM, "%s: %s", path, strerror(errno));
    if (fstat(file->descriptor, &file->as_opened) < 0 || !S_ISREG(file->as_opened.st_mode)) {
        bundled_close(file);
        return fail(error, USAGE, "%s: no regular file", path);
    }
    if (read_index(file, path, error) < 0) {
        bundled_close(file);
        return -1;
    }
    file->is_direct = go_direct(file->descriptor, page_bytes);
    return 0;
}

size_t bundled_find(const struct bundled *file, const char *name) {
    size_t block = 0;
    while (block < file->n_blocks && strcmp(file->blocks[block].name, name)) block++;
    return block;
}

int bundled_check_unchanged(const struct bundled *file, struct error *error) {
    struct stat now;
    if (fstat(file->descriptor, &now) < 0) return fail(error, SYSTEM, "the bundled file: %s", strerror(errno));
    const struct stat *then = &file->as_opened;
    if (now.st_size != then->st_size || now.st_mtim.tv_sec != then->st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != then->st_mtim.tv_nsec)
        return fail(error, MALFORMED, "the bundled file was written to or cut short while it was read; copy it again");
    return 0;
}

void bundled_close(struct bundled *file) {
    for (size_t i = 0; i < file->n_blocks; i++) {
        free(file->blocks[i].order);
        free(file->blocks[i].second_slot);
    }
    free(file->blocks);
    if (file->descriptor >= 0) close(file->descriptor);
    memset(file, 0, sizeof *file);
    file->descriptor = -1;
}
