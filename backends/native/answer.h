/* Answers: one JSON object a line on standard output. A command prints nothing before it is sure of success. */
#ifndef EDGELUT_ANSWER_H
#define EDGELUT_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Kinds of failure. */
#define UNSUPPORTED "unsupported"
#define CORRUPTED "corrupted"
#define MEMORY "memory"
#define IO "io"
#define ARGUMENT "argument"

/* Answer {"ok": false, "error": KIND, "message": ...} and return false. */
bool fail(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Write text between quotes, as JSON whatever bytes it holds. */
void put_string(const char *text);
void put(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Write , "NAME": [numbers] */
void put_numbers(const char *name, const int64_t *numbers, size_t count);
/* End the line; end the program where nobody reads it. */
void put_line(void);
/* End the program where nobody reads what it would answer: asked between two samples. */
void leave_if_alone(void);

#endif
