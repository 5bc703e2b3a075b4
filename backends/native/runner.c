/* edgelut-runner: loads ONNX files with ONNX Runtime, runs and times them, as lines on its standard input say.
 *
 * One JSON object a line answers each; docs/native.md has the protocol. What it reads never ends it, but `quit` and the end of its
 * input do; and it ends, between two samples, when nobody reads its answers any more.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "answer.h"
#include "kernels.h"
#include "model.h"
#include "ort.h"
#include "sample.h"

#define PROTOCOL 1
#define LONGEST_LINE 8192
#define MOST_WORDS 5
#define MOST_CALLS 1000000
#define MOST_THREADS 256

typedef struct {
    char *words[MOST_WORDS]; /* the command, then its arguments */
    long numbers[MOST_WORDS];
} Command;

static bool is_done; /* quit was said */

/* ---- what a line says */

/* Undo %XX in place; a path may hold any byte but 0 so. */
static bool decode(char *text) {
    char *to = text;
    for (const char *from = text; *from; from++, to++) {
        *to = *from;
        if (*from != '%') continue;
        if (!isxdigit((unsigned char)from[1]) || !isxdigit((unsigned char)from[2])) return false;
        const char digits[3] = {from[1], from[2], 0};
        *to = (char)strtol(digits, NULL, 16);
        if (!*to) return false;
        from += 2;
    }
    *to = 0;
    return true;
}

static bool read_number(const char *word, long least, long most, long *number) {
    char *end;
    errno = 0;
    *number = strtol(word, &end, 10);
    if (isspace((unsigned char)*word) || *end || end == word || errno || *number < least || *number > most)
        return fail(ARGUMENT, "%.80s is no whole number from %ld to %ld", word, least, most);
    return true;
}

/* ---- commands: each answers */

static bool do_open(Command *it) { return model_open(it->numbers[1], it->words[2], it->numbers[3]); }
static bool do_bind(Command *it) { return model_bind(it->numbers[1], it->words[2]); }
static bool do_run(Command *it) { return model_run(it->numbers[1], it->words[2]); }
static bool do_close(Command *it) { return model_close(it->numbers[1]); }
static bool do_reference(Command *it) { return take_reference(it->numbers[1], it->numbers[2]); }
static bool do_cold(Command *it) { return model_time(it->numbers[1], 0, it->numbers[2], 1, true); }
static bool do_time(Command *it) {
    return model_time(it->numbers[1], it->numbers[2], it->numbers[3], it->numbers[4], false);
}

static bool do_pin(Command *it) {
    const char *mask = it->words[1];
    size_t digits = strlen(mask);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (size_t i = 0; i < digits; i++) {
        char digit[2] = {mask[digits - 1 - i], 0};
        if (!isxdigit((unsigned char)*digit) || 4 * i + 3 >= CPU_SETSIZE)
            return fail(ARGUMENT, "%.80s is no mask of CPUs in hexadecimal, %d at most", mask, CPU_SETSIZE);
        long bits = strtol(digit, NULL, 16);
        for (size_t bit = 0; bit < 4; bit++)
            if (bits >> bit & 1) CPU_SET(4 * i + bit, &cpus);
    }
    if (sched_setaffinity(0, sizeof cpus, &cpus) || sched_getaffinity(0, sizeof cpus, &cpus))
        return fail(ARGUMENT, "cannot run on CPUs %.80s: %s", mask, strerror(errno));
    put("{\"ok\": true, \"cpus\": %d}", CPU_COUNT(&cpus));
    put_line();
    return true;
}

static bool do_quit(Command *it) {
    (void)it;
    is_done = true;
    put("{\"ok\": true}");
    put_line();
    return true;
}

/* n: number of a model, p: path, t: threads, w: warm-ups, s: samples, i: calls a sample, m: mask */
static const struct {
    const char *name, *arguments;
    bool (*act)(Command *);
} COMMANDS[] = {
    {"open", "npt", do_open},   {"bind", "np", do_bind},   {"run", "np", do_run},        {"time", "nwsi", do_time},
    {"cold", "ns", do_cold},    {"reference", "ws", do_reference}, {"pin", "m", do_pin}, {"close", "n", do_close},
    {"quit", "", do_quit},
};

static bool read_argument(Command *it, size_t i, char kind) {
    switch (kind) {
        case 'n': return read_number(it->words[i], 0, MOST_MODELS - 1, &it->numbers[i]);
        case 't': return read_number(it->words[i], 1, MOST_THREADS, &it->numbers[i]);
        case 'w': return read_number(it->words[i], 0, MOST_CALLS, &it->numbers[i]);
        case 's': return read_number(it->words[i], 1, MOST_SAMPLES, &it->numbers[i]);
        case 'i': return read_number(it->words[i], 1, MOST_CALLS, &it->numbers[i]);
        case 'p': return decode(it->words[i]) || fail(ARGUMENT, "%.80s: %% is written %%25 in a path", it->words[i]);
        default: return true;
    }
}

static void obey(char *line) {
    Command it = {0};
    size_t count = 0;
    for (char *rest = NULL, *word = strtok_r(line, " \t\r", &rest); word; word = strtok_r(NULL, " \t\r", &rest)) {
        if (count < MOST_WORDS) it.words[count] = word;
        count++;
    }
    if (count == 0) {
        fail(ARGUMENT, "an empty line");
        return;
    }
    for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        if (strcmp(it.words[0], COMMANDS[i].name)) continue;
        size_t wanted = strlen(COMMANDS[i].arguments);
        if (count - 1 != wanted) {
            fail(ARGUMENT, "%s takes %zu arguments, not %zu", it.words[0], wanted, count - 1);
            return;
        }
        for (size_t j = 0; j < wanted; j++)
            if (!read_argument(&it, j + 1, COMMANDS[i].arguments[j])) return;
        COMMANDS[i].act(&it);
        return;
    }
    fail(ARGUMENT, "no command %.80s", it.words[0]);
}

/* ---- the program */

/* Read a line without its end; 0 at the end of the input, -1 for one that is too long or holds a 0, which is skipped. */
static int read_line(char *line) {
    size_t length = 0;
    bool is_bad = false;
    for (int byte; (byte = getchar()) != '\n';) {
        if (byte == EOF) return 0; /* a line without an end was cut off */
        if (byte == 0 || length == LONGEST_LINE - 1) is_bad = true;
        if (!is_bad) line[length++] = (char)byte;
    }
    line[length] = 0;
    return is_bad ? -1 : 1;
}

static void greet(const char *version) {
    struct utsname system;
    cpu_set_t cpus;
    put("{\"runner\": %d, \"onnxruntime\": ", PROTOCOL);
    put_string(version);
    put(", \"counter\": \"%s\", \"pid\": %ld, \"reference\": \"%s\"", counter_counts() ? "instructions" : "none",
        (long)getpid(), REFERENCE_VERSION);
    if (!uname(&system)) {
        put(", \"machine\": ");
        put_string(system.machine);
    }
    if (!sched_getaffinity(0, sizeof cpus, &cpus)) put(", \"cpus\": %d", CPU_COUNT(&cpus));
    put(", \"compiler\": ");
    put_string(__VERSION__);
    put("}");
    put_line();
}

int main(int argc, char **argv) {
    static char line[LONGEST_LINE];
    char why[1024] = "";
    signal(SIGPIPE, SIG_IGN);
    const char *version = ort_load(argc > 0 ? argv[0] : "", why, sizeof why);
    if (!version) {
        fail(IO, "ONNX Runtime cannot be used: %s", why);
        return EXIT_FAILURE;
    }
    if (!counter_start(why, sizeof why)) {
        fail(IO, "%s", why);
        return EXIT_FAILURE;
    }
    greet(version);
    for (int got; !is_done && (got = read_line(line));) {
        if (got < 0) fail(ARGUMENT, "a line of more than %d bytes, or with a zero in it", LONGEST_LINE - 1);
        else obey(line);
    }
    model_close_all();
    kernels_stop();
    ort_unload();
    return EXIT_SUCCESS;
}
