#include "json.h"

#include <string.h>

enum { MAX_DEPTH = 64 };

bool json_fail(struct json *json) {
    json->failed = true;
    json->at = json->end;
    return false;
}

/* Return the next byte that is no white space without taking it, 0 at the end. */
static char peek(struct json *json) {
    while (json->at < json->end && strchr(" \t\r\n", *json->at) && *json->at) json->at++;
    return json->at < json->end ? *json->at : 0;
}

static bool take(struct json *json, char wanted) {
    if (json->failed || peek(json) != wanted) return json_fail(json);
    json->at++;
    return true;
}

static bool enter(struct json *json, char bracket) {
    json->needs_comma = false;
    return take(json, bracket);
}

/* Return whether another entry follows; take the bracket that ends them otherwise. */
static bool next_entry(struct json *json, char bracket) {
    if (json->failed) return false;
    if (peek(json) == bracket) {
        json->at++;
        json->needs_comma = true;
        return false;
    }
    if (json->needs_comma && !take(json, ',')) return false;
    json->needs_comma = false;
    return peek(json) ? true : json_fail(json);
}

bool json_object(struct json *json) { return enter(json, '{'); }

bool json_array(struct json *json) { return enter(json, '['); }

bool json_element(struct json *json) {
    if (!next_entry(json, ']')) return false;
    json->needs_comma = true; /* by the time that the element has been read */
    return true;
}

/* Return the value of four hexadecimal digits, or -1. */
static int hex4(struct json *json) {
    int value = 0;
    if (json->end - json->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char digit = *json->at++;
        if (digit >= '0' && digit <= '9') value = 16 * value + digit - '0';
        else if (digit >= 'a' && digit <= 'f') value = 16 * value + digit - 'a' + 10;
        else if (digit >= 'A' && digit <= 'F') value = 16 * value + digit - 'A' + 10;
        else return -1;
    }
    return value;
}

/* Write the UTF-8 of an escape to `bytes` and return its length, 0 if it is none. Halves of surrogate pairs stay apart:
 * in what an engine compares, names of blocks, there are none. */
static size_t escape(struct json *json, char *bytes) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end) return 0;
    char name = *json->at++;
    const char *found = name ? strchr(names, name) : NULL;
    if (found) {
        bytes[0] = values[found - names];
        return 1;
    }
    int code = name == 'u' ? hex4(json) : -1;
    if (code < 0) return 0;
    if (code < 0x80) {
        bytes[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : 3;
    bytes[n - 1] = (char)(0x80 | (code & 63));
    if (n == 3) bytes[1] = (char)(0x80 | ((code >> 6) & 63));
    bytes[0] = (char)(n == 2 ? 0xC0 | (code >> 6) : 0xE0 | (code >> 12));
    return n;
}

/* Read a string; return its whole length, of which what fits is written. */
static size_t string(struct json *json, char *text, size_t size) {
    size_t length = 0;
    if (!take(json, '"')) return 0;
    while (json->at < json->end) {
        char bytes[3] = {*json->at++};
        size_t n = 1;
        if (bytes[0] == '"') {
            if (size) text[length < size ? length : size - 1] = 0;
            json->needs_comma = true;
            return length;
        }
        if (bytes[0] == '\\' && (n = escape(json, bytes)) == 0) break;
        for (size_t i = 0; i < n; i++, length++)
            if (length + 1 < size) text[length] = bytes[i];
    }
    json_fail(json);
    return 0;
}

bool json_key(struct json *json, char *key, size_t size) {
    if (!next_entry(json, '}')) return false;
    string(json, key, size);
    if (!take(json, ':')) return false;
    json->needs_comma = true; /* by the time that the value has been read */
    return true;
}

size_t json_string(struct json *json, char *text, size_t size) {
    size_t length = string(json, text, size);
    if (length >= size) json_fail(json);
    return json->failed ? 0 : length;
}

uint64_t json_number(struct json *json) {
    uint64_t value = 0;
    char digit = json->failed ? 0 : peek(json);
    if (digit < '0' || digit > '9') json_fail(json);
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
        value = 10 * value + (uint64_t)(*json->at++ - '0');
        if (value > INT64_MAX / 16) json_fail(json); /* far beyond the length of any file, and far from wrapping */
    }
    if (json->at < json->end && strchr(".eE", *json->at) && *json->at) json_fail(json);
    json->needs_comma = true;
    return json->failed ? 0 : value;
}

static void skip(struct json *json, int depth) {
    char first = json->failed ? 0 : peek(json);
    if (depth > MAX_DEPTH) {
        json_fail(json);
    } else if (first == '{') {
        json_object(json);
        while (json_key(json, NULL, 0)) skip(json, depth + 1);
    } else if (first == '[') {
        json_array(json);
        while (json_element(json)) skip(json, depth + 1);
    } else if (first == '"') {
        string(json, NULL, 0);
    } else { /* a number, true, false or null: of no interest */
        const char *start = json->at;
        while (json->at < json->end && *json->at && strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", *json->at))
            json->at++;
        if (json->at == start) json_fail(json);
    }
    json->needs_comma = true;
}

void json_skip(struct json *json) { skip(json, 0); }

bool json_ended(struct json *json) { return !json->failed && peek(json) == 0 && json->at == json->end; }
