/* Read one neuron's or expert's weights from a bundled file with a single pread, or two where its gate lies apart.
 *
 *   cc -O2 -o read_bundled read_bundled.c
 *   ./read_bundled OUT/ripple_place/bundled.safetensors layers.1 17 > weights.raw
 *
 * prints the neuron in slot 17 (gate row, up row, down column) to stdout, and to stderr which of the original model it
 * is; of columns, one of down (layers.1.input: of gate and up); of experts, all bytes of one. Engines keep the index.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *what) {
    fprintf(stderr, "read_bundled: %s\n", what);
    exit(1);
}

/* The index is JSON inside of a JSON string, so that its quotes are escaped: find \"key\": from `text` on. */
static char *after_key(char *text, const char *key) {
    char quoted[256];
    snprintf(quoted, sizeof quoted, "\\\"%s\\\":", key);
    char *found = text ? strstr(text, quoted) : NULL;
    if (!found) fail("no such block, or no bundled file");
    return found + strlen(quoted);
}

static uint64_t number(char *text, const char *key) { return strtoull(after_key(text, key), NULL, 10); }

static void copy(int file, uint64_t offset, uint64_t stride, uint64_t slot) {
    char *weights = malloc(stride);
    if (!weights || pread(file, weights, stride, (off_t)(offset + slot * stride)) != (ssize_t)stride) fail("a short read");
    fwrite(weights, 1, stride, stdout);
}

int main(int argc, char **argv) {
    if (argc != 4) fail("usage: read_bundled FILE BLOCK SLOT");
    int file = open(argv[1], O_RDONLY);
    uint64_t header_bytes; /* little-endian, as this machine must be */
    if (file < 0 || pread(file, &header_bytes, 8, 0) != 8 || header_bytes > 100000000) fail("no such file");
    char *header = calloc(header_bytes + 1, 1);
    if (!header || pread(file, header, header_bytes, 8) != (ssize_t)header_bytes) fail("a header cut short");
    char *format = strstr(header, "\"format\":\"ripple-place.bundled/");
    char version = format ? format[strlen("\"format\":\"ripple-place.bundled/")] : 0;
    if (version < '1' || version > '3') fail("a format that this program does not know");
    char *block = after_key(strstr(header, "\"index\":"), argv[2]) - 1;
    uint64_t slot = strtoull(argv[3], NULL, 10);
    if (slot >= number(block, "n_neurons")) fail("no such slot");
    char *order = after_key(block, "order") + 1; /* behind the bracket */
    for (uint64_t i = 0; i < slot; i++) order = strchr(order, ',') + 1;
    const char *unit = version != '2' ? "neuron" : strstr(header, "\\\"unit\\\":\\\"expert\\\"") ? "expert" : "column";
    fprintf(stderr, "%s %" PRIu64 "\n", unit, (uint64_t)strtoull(order, NULL, 10));
    char *gates = strstr(block, "\\\"gates\\\":"); /* of this block or a later one; an engine would look at it first */
    if (gates && gates < order) copy(file, number(gates, "offset_bytes"), number(gates, "stride_bytes"), slot);
    copy(file, number(block, "offset_bytes"), number(block, "stride_bytes"), slot);
    return 0;
}
