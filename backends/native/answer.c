#include "answer.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Return the length of the UTF-8 sequence that starts at text, 0 where it is none. */
static size_t sequence(const unsigned char *text) {
    size_t length = text[0] < 0x80 ? 1 : text[0] >= 0xF0 ? 4 : text[0] >= 0xE0 ? 3 : text[0] >= 0xC2 ? 2 : 0;
    if (text[0] > 0xF4) return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80) return 0; /* the end of the text is 0, and none either */
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F)) return 0;
    if ((text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F)) return 0;
    return length;
}

void put_string(const char *text) {
    const unsigned char *byte = (const unsigned char *)text;
    putchar('"');
    while (*byte) {
        size_t length = sequence(byte);
        if (length == 0) {
            fputs("\\ufffd", stdout);
            length = 1;
        } else if (*byte < 0x20 || *byte == 0x7F) {
            printf("\\u%04x", *byte);
        } else {
            if (*byte == '"' || *byte == '\\') putchar('\\');
            fwrite(byte, 1, length, stdout);
        }
        byte += length;
    }
    putchar('"');
}

void put(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}

void put_numbers(const char *name, const int64_t *numbers, size_t count) {
    put(", \"%s\": [", name);
    for (size_t i = 0; i < count; i++) put("%s%" PRId64, i ? ", " : "", numbers[i]);
    put("]");
}

void put_line(void) {
    putchar('\n');
    if (fflush(stdout) || ferror(stdout)) exit(EXIT_FAILURE);
}

bool fail(const char *kind, const char *format, ...) {
    char message[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    put("{\"ok\": false, \"error\": \"%s\", \"message\": ", kind);
    put_string(message);
    put("}");
    put_line();
    return false;
}

void leave_if_alone(void) {
    struct pollfd out = {.fd = STDOUT_FILENO, .events = 0};
    if (poll(&out, 1, 0) > 0 && (out.revents & (POLLERR | POLLHUP | POLLNVAL))) _exit(EXIT_FAILURE);
}
