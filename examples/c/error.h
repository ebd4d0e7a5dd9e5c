/* Errors: a code, which is the driver's exit code, and one sentence. Functions that can fail return 0, or -1 and fill it. */
#ifndef ERROR_H
#define ERROR_H

enum { MALFORMED = 1, USAGE = 2, UNSUPPORTED = 3, SYSTEM = 5 };

struct error {
    int code;
    char text[512];
};

/* Fill an error and return -1, so that callers can `return fail(...)`. */
__attribute__((format(printf, 3, 4))) int fail(struct error *error, int code, const char *format, ...);

#endif
