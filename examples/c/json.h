/* A pull parser of JSON: the caller asks for what it expects and skips the rest. Nothing is read beyond `end`, nesting is
 * bounded, and the first thing that is wrong sets `failed`, after which every call returns false: check it at the end. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
    const char *at, *end;
    bool needs_comma, failed;
};

/* Enter an object; then json_key returns true for each of its keys, whose value must be read or skipped, and false at
 * the end. A key that does not fit into `size` bytes is cut: no name that anybody asks for is that long. */
bool json_object(struct json *json);
bool json_key(struct json *json, char *key, size_t size);

/* Enter an array; then json_element returns true before each of its elements, and false at the end. */
bool json_array(struct json *json);
bool json_element(struct json *json);

/* Read a whole number from 0 to 2^63 - 1. */
uint64_t json_number(struct json *json);

/* Read a string into `size` bytes, ended by 0; return its length. A longer one fails. */
size_t json_string(struct json *json, char *text, size_t size);

/* Skip a value. */
void json_skip(struct json *json);

/* Say that something is wrong; returns false. */
bool json_fail(struct json *json);

/* Return whether nothing was wrong, and nothing but white space is left. */
bool json_ended(struct json *json);

#endif
