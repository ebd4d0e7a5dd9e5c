/* Serve rows of a bundled file, write their bytes and what they cost: a driver for tests and measurements.
 *
 *   make && build/reader OUT/ripple_place/bundled.safetensors requests.txt --capacity 400 --gap 5 --rows rows.raw
 *
 * A line of requests is a block and the slots that a token wants of it, ascending: `layers.1 3 4 17`. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reader.h"

static const char usage[] =
    "usage: reader FILE REQUESTS [--rows FILE] [--capacity [BLOCK=]UNITS]... [--pin FILE] [--gap SLOTS]\n"
    "              [--gate-gap SLOTS] [--lambda UNITS] [--depth READS] [--page BYTES] [--max-request BYTES]\n"
    "              [--repeat TIMES]\n";

struct request_row {
    size_t block;
    uint32_t first, n_slots; /* in `slots` */
};

/* What a file of requests says. */
struct request_list {
    struct request_row *rows;
    uint32_t *slots;
    size_t n_rows, n_slots, room_rows, room_slots;
};

struct settings {
    const char *path, *requests, *rows, *pin;
    const char *capacities[64];
    int n_capacities;
    uint64_t repeat;
    struct reader_options reader;
};

/* Read a whole number of a range; returns -1 if a text is none. */
static int parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *value) {
    char *end;
    errno = 0;
    unsigned long long number = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : (end = NULL, 0ULL);
    if (!end || *end || errno || number < least || number > most) return -1;
    *value = number;
    return 0;
}

/* Return an array of n elements with room for one more, NULL if there is no memory: the array is as it was then. */
static void *grown(void *array, size_t n, size_t *room, size_t size) {
    if (n < *room) return array;
    void *larger = realloc(array, (2 * n + 64) * size);
    if (larger) *room = 2 * n + 64;
    return larger;
}

/* Take a line apart. */
static int parse_line(const struct bundled *file, char *line, struct request_list *list, struct error *error) {
    char *rest = NULL, *word = strtok_r(line, " \t\r\n", &rest);
    if (!word) return 0;
    struct request_row row = {bundled_find(file, word), (uint32_t)list->n_slots, 0};
    if (row.block == file->n_blocks) return fail(error, USAGE, "no block %.100s in the bundled file", word);
    while ((word = strtok_r(NULL, " \t\r\n", &rest))) {
        uint64_t slot;
        if (parse_number(word, 0, INT32_MAX, &slot) < 0) return fail(error, USAGE, "%.100s: no slot", word);
        uint32_t *slots = grown(list->slots, list->n_slots, &list->room_slots, sizeof *slots);
        if (!slots || list->n_slots == INT32_MAX) return fail(error, SYSTEM, "no memory for so many slots");
        list->slots = slots;
        list->slots[list->n_slots++] = (uint32_t)slot;
        row.n_slots++;
    }
    struct request_row *rows = grown(list->rows, list->n_rows, &list->room_rows, sizeof *rows);
    if (!rows) return fail(error, SYSTEM, "no memory for so many rows");
    list->rows = rows;
    list->rows[list->n_rows++] = row;
    return 0;
}

static int read_requests(const struct bundled *file, const char *path, struct request_list *list, struct error *error) {
    FILE *stream = fopen(path, "r");
    if (!stream) return fail(error, errno == ENOENT ? USAGE : SYSTEM, "%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t room = 0;
    int result = 0;
    while (result == 0 && getline(&line, &room, stream) >= 0) result = parse_line(file, line, list, error);
    if (result == 0 && ferror(stream)) result = fail(error, SYSTEM, "%s: %s", path, strerror(errno));
    free(line);
    fclose(stream);
    return result;
}

static void free_requests(struct request_list *list) {
    free(list->rows);
    free(list->slots);
}

/* Give blocks the DRAM that --capacity says: UNITS for all, or BLOCK=UNITS for one. */
static int set_capacities(struct reader *reader, const struct settings *settings, struct error *error) {
    for (int i = 0; i < settings->n_capacities; i++) {
        const char *text = settings->capacities[i], *number = strrchr(text, '=');
        char name[128];
        uint64_t units;
        snprintf(name, sizeof name, "%.*s", number ? (int)(number - text) : 0, text);
        if (parse_number(number ? number + 1 : text, 0, INT32_MAX, &units) < 0)
            return fail(error, USAGE, "--capacity %.100s: expected units, or block=units", text);
        size_t block = number ? bundled_find(&reader->file, name) : 0;
        size_t end = number ? block + 1 : reader->file.n_blocks;
        if (number && block == reader->file.n_blocks) return fail(error, USAGE, "--capacity %.100s: no such block", text);
        for (; block < end; block++)
            if (reader_set_cache(reader, block, settings->pin ? CACHE_PINNED : CACHE_LRU, (uint32_t)units, error) < 0)
                return -1;
    }
    return 0;
}

static int pin(struct reader *reader, const char *path, struct error *error) {
    struct request_list list = {0};
    int result = read_requests(&reader->file, path, &list, error);
    for (size_t i = 0; result == 0 && i < list.n_rows; i++)
        result = reader_pin(reader, list.rows[i].block, list.slots + list.rows[i].first, list.rows[i].n_slots, error);
    free_requests(&list);
    return result;
}

/* Serve all rows once; write their bytes if there is a stream. */
static int serve_all(struct reader *reader, const struct request_list *list, uint8_t *memory, FILE *output,
                     struct error *error) {
    for (size_t i = 0; i < list->n_rows; i++) {
        const struct request_row *row = &list->rows[i];
        if (reader_serve(reader, row->block, list->slots + row->first, row->n_slots, memory, error) < 0) return -1;
        size_t n_bytes = row->n_slots * reader->file.blocks[row->block].row_bytes;
        if (output && fwrite(memory, 1, n_bytes, output) != n_bytes)
            return fail(error, SYSTEM, "writing rows: %s", strerror(errno));
    }
    return 0;
}

static int serve(struct reader *reader, const struct settings *settings, struct error *error) {
    struct request_list list = {0};
    size_t largest = 1;
    if (read_requests(&reader->file, settings->requests, &list, error) < 0) {
        free_requests(&list);
        return -1;
    }
    for (size_t i = 0; i < list.n_rows; i++) {
        const struct block *block = &reader->file.blocks[list.rows[i].block];
        uint32_t n = list.rows[i].n_slots < block->n_units ? list.rows[i].n_slots : block->n_units; /* more are refused */
        if (n * block->row_bytes > largest) largest = n * block->row_bytes;
    }
    uint8_t *memory = malloc(largest);
    FILE *output = memory && settings->rows ? fopen(settings->rows, "wb") : NULL;
    int result = 0;
    if (!memory) result = fail(error, SYSTEM, "no memory for rows of %zu bytes", largest);
    else if (settings->rows && !output) result = fail(error, SYSTEM, "%s: %s", settings->rows, strerror(errno));
    for (uint64_t turn = 0; result == 0 && turn < settings->repeat; turn++)
        result = serve_all(reader, &list, memory, turn ? NULL : output, error);
    if (output && fclose(output) && result == 0) result = fail(error, SYSTEM, "writing rows: %s", strerror(errno));
    if (output && result < 0) unlink(settings->rows); /* no half of it stays */
    free(memory);
    free_requests(&list);
    return result;
}

static void print_counters(const struct reader *reader) {
    printf("block\trows\tasked\thits\treads\trequests\tbytes\tread_us\tserve_us\n");
    for (size_t i = 0; i < reader->file.n_blocks; i++) {
        const struct counters *c = &reader->counters[i];
        printf("%s\t%llu\t%llu\t%llu\t%llu\t%llu\t%llu\t%.1f\t%.1f\n", reader->file.blocks[i].name,
               (unsigned long long)c->n_rows, (unsigned long long)c->n_asked, (unsigned long long)c->n_hits,
               (unsigned long long)c->n_reads, (unsigned long long)c->n_requests, (unsigned long long)c->bytes_read,
               c->read_us, c->serve_us);
    }
}

/* Take an option's number; returns -1 and fills the error if it is none. */
static int take_number(const char *option, uint64_t least, uint64_t most, uint64_t *value, struct error *error) {
    if (parse_number(optarg, least, most, value) == 0) return 0;
    return fail(error, USAGE, "--%s %.100s: expected a whole number from %llu to %llu", option, optarg,
                (unsigned long long)least, (unsigned long long)most);
}

static int take_lambda(double *value, struct error *error) {
    char *end;
    *value = strtod(optarg, &end);
    if (end != optarg && !*end && *value >= 0 && *value < 1e9) return 0;
    return fail(error, USAGE, "--lambda %.100s: expected a number from 0 on", optarg);
}

static int check_settings(const struct settings *settings, struct error *error) {
    uint32_t page = settings->reader.page_bytes;
    if (page & (page - 1)) return fail(error, USAGE, "--page %u: expected a power of two", page);
    if (settings->reader.max_request_bytes % page) return fail(error, USAGE, "--max-request: expected whole pages of %u bytes", page);
    if (settings->pin && !settings->n_capacities) return fail(error, USAGE, "--pin needs --capacity: the room for what is pinned");
    return 0;
}

static int parse_options(int argc, char **argv, struct settings *settings, struct error *error) {
    static const struct option options[] = {
        {"rows", 1, NULL, 'r'}, {"capacity", 1, NULL, 'c'}, {"pin", 1, NULL, 'i'}, {"gap", 1, NULL, 'g'},
        {"gate-gap", 1, NULL, 'a'}, {"lambda", 1, NULL, 'l'}, {"depth", 1, NULL, 'd'}, {"page", 1, NULL, 'p'}, {"max-request", 1, NULL, 'm'},
        {"repeat", 1, NULL, 'n'}, {NULL, 0, NULL, 0},
    };
    uint64_t gap = 0, gate_gap = UINT64_MAX, depth = 8, page = 4096, max_request = 256 << 10;
    double lambda = -1;
    settings->repeat = 1;
    int option, result = 0;
    while (result == 0 && (option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (option == 'r') settings->rows = optarg;
        else if (option == 'i') settings->pin = optarg;
        else if (option == 'g') result = take_number("gap", 0, INT32_MAX, &gap, error);
        else if (option == 'a') result = take_number("gate-gap", 0, INT32_MAX, &gate_gap, error);
        else if (option == 'l') result = take_lambda(&lambda, error);
        else if (option == 'd') result = take_number("depth", 1, 1024, &depth, error);
        else if (option == 'p') result = take_number("page", 512, 1 << 20, &page, error);
        else if (option == 'm') result = take_number("max-request", 512, 1 << 30, &max_request, error);
        else if (option == 'n') result = take_number("repeat", 1, 1000000, &settings->repeat, error);
        else if (option == 'c' && settings->n_capacities < 64) settings->capacities[settings->n_capacities++] = optarg;
        else result = fail(error, USAGE, "%s", usage);
    }
    if (result == 0 && argc - optind != 2) result = fail(error, USAGE, "%s", usage);
    if (result < 0) return -1;
    settings->path = argv[optind];
    settings->requests = argv[optind + 1];
    settings->reader = (struct reader_options){
        .depth = (unsigned)depth, .page_bytes = (uint32_t)page, .max_request_bytes = max_request, .gap = (uint32_t)gap,
        .gate_gap = (uint32_t)(gate_gap == UINT64_MAX ? gap : gate_gap), .lambda = lambda < 0 ? (double)gap : lambda,
    };
    return check_settings(settings, error);
}

int main(int argc, char **argv) {
    struct settings settings = {0};
    struct error error = {0};
    struct reader reader;
    int result = parse_options(argc, argv, &settings, &error);
    if (result == 0 && (result = reader_open(&reader, settings.path, &settings.reader, &error)) == 0) {
        if (!reader.file.is_direct)
            fprintf(stderr, "reader: warning: no O_DIRECT here; reads go through the page cache, and times say little\n");
        result = set_capacities(&reader, &settings, &error);
        if (result == 0 && settings.pin) result = pin(&reader, settings.pin, &error);
        if (result == 0) result = serve(&reader, &settings, &error);
        if (result == 0) print_counters(&reader);
        reader_close(&reader);
    }
    if (result == 0 && (fflush(stdout) || ferror(stdout))) result = fail(&error, SYSTEM, "standard output: %s", strerror(errno));
    if (result < 0) fprintf(stderr, "reader: %s\n", error.text);
    return result < 0 ? error.code : 0;
}
