#define _GNU_SOURCE
#include "sample.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"
#include "kernels.h"

#define MARKER 0x45444C /* a system call that no kernel has; an emulator's counter watches for it */
#define COUNTER_S 2
#define LONGEST_COUNT 64
#define SETTLING 3
#define LONG_COUNT INT64_C(10000000)
#define FLUSH_BYTES ((size_t)64 << 20) /* as profiler/reference.py */

enum { BEGIN = 1, END = 2 };

static int counter = -1; /* where a counter appends a line for each END */
static long sequence;

static int64_t read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t wall_ns(void) { return read_clock(CLOCK_MONOTONIC_RAW); }

static int64_t cpu_ns(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

static void mark(int phase) { (void)syscall(MARKER, phase, sequence); }

/* Read the line that the counter wrote for the last END into `line`; false where none comes, or one that is no count. */
static bool read_count(int64_t *count, char line[LONGEST_COUNT]) {
    size_t length = 0;
    for (int64_t until = wall_ns() + COUNTER_S * INT64_C(1000000000); length < LONGEST_COUNT - 1;) {
        ssize_t got = read(counter, line + length, 1);
        if (got != 1) line[length] = 0;
        if (got == 1 && line[length] == '\n') {
            line[length] = 0;
            char *end;
            errno = 0;
            *count = strtoll(line, &end, 10);
            return end != line && *end == 0 && errno == 0 && *count >= 0;
        }
        if (got == 1) length++;
        else if (got < 0 && errno != EINTR) return false;
        else if (got == 0 && wall_ns() > until) return false;
        else if (got == 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    line[length] = 0;
    return false;
}

bool counter_start(char *why, size_t why_bytes) {
    const char *path = getenv("EDGELUT_COUNTER");
    if (!path || !*path) return true;
    counter = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
    int64_t count;
    char line[LONGEST_COUNT];
    if (counter < 0 || lseek(counter, 0, SEEK_END) < 0) {
        snprintf(why, why_bytes, "EDGELUT_COUNTER=%s: %s", path, strerror(errno));
        return false;
    }
    mark(BEGIN);
    mark(END);
    if (!read_count(&count, line)) {
        snprintf(why, why_bytes, "EDGELUT_COUNTER=%s, but nothing counts: after a marker it says '%s'", path, line);
        return false;
    }
    return true;
}

bool counter_counts(void) { return counter >= 0; }

static bool repeat(Call call, void *what, long times) {
    for (long i = 0; i < times; i++)
        if (!call(what)) return false;
    return true;
}

static bool count_sample(Call call, void *what, long inner, int64_t *count) {
    sequence++;
    mark(BEGIN);
    bool done = repeat(call, what, inner);
    mark(END);
    char line[LONGEST_COUNT];
    bool has_count = read_count(count, line); /* of a call that failed too, or the next sample would have it */
    return done && (has_count || fail(IO, "the counter gave no number for a sample but '%s'", line));
}

/* onnxruntime does some bookkeeping 2, 4, 8 ... seconds after a model was opened: 340 instructions in the next call, 108 in the one
 * after it. So a count is that of the third call in a row, unless it is so long that they are less than 4e-5 of it. */
static bool count_settled(Call call, void *what, long inner, int64_t *count) {
    for (int i = 0; i < SETTLING; i++) {
        if (!count_sample(call, what, inner, count)) return false;
        if (*count >= LONG_COUNT) break;
    }
    return true;
}

/* Fill the caches with other data. */
static bool flush_caches(void) {
    static float *buffer;
    if (!buffer && !(buffer = calloc(FLUSH_BYTES, 1))) return fail(MEMORY, "no %zu bytes to flush caches with", FLUSH_BYTES);
    for (size_t i = 0; i < FLUSH_BYTES / sizeof *buffer; i++) buffer[i] += 1.0f;
    __asm__ volatile("" : : "r"(buffer) : "memory");
    return true;
}

/* The wall clock is read inside the thread's: it costs a tenth of it, so a sample holds nothing but the calls (backends/clock.py). */
static bool collect(Call call, void *what, long samples, long inner, bool cold, int64_t *wall, int64_t *cpu) {
    for (long i = 0; i < samples; i++) {
        leave_if_alone();
        if (counter_counts()) {
            if (!count_settled(call, what, inner, &wall[i])) return false; /* caches make no difference to it */
            continue;
        }
        if (cold && !flush_caches()) return false;
        int64_t before = cpu_ns(), started = wall_ns();
        if (!repeat(call, what, inner)) return false;
        wall[i] = wall_ns() - started;
        cpu[i] = cpu_ns() - before;
    }
    return true;
}

bool take_samples(Call call, void *what, long warmups, long samples, long inner, bool cold) {
    int64_t *wall = calloc((size_t)samples, sizeof *wall), *cpu = calloc((size_t)samples, sizeof *cpu);
    bool done = wall && cpu ? repeat(call, what, warmups) && collect(call, what, samples, inner, cold, wall, cpu)
                            : fail(MEMORY, "no memory for %ld samples", samples);
    if (done) {
        put("{\"ok\": true");
        put_numbers(counter_counts() ? "instructions" : "wall_ns", wall, (size_t)samples);
        if (!counter_counts()) put_numbers("cpu_ns", cpu, (size_t)samples);
        put("}");
        put_line();
    }
    free(wall);
    free(cpu);
    return done;
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int64_t p10(int64_t *values, long count) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[(count - 1) / 10];
}

bool take_reference(long warmups, long samples) {
    int64_t *wall = calloc((size_t)samples, sizeof *wall), *cpu = calloc((size_t)samples, sizeof *cpu);
    int64_t walls[KERNELS], cpus[KERNELS];
    bool done = (wall && cpu && kernels_start()) || fail(MEMORY, "no memory for the reference kernels");
    for (size_t i = 0; i < KERNELS && done; i++) {
        void *kernel = kernels_get(i);
        done = repeat(kernel_call, kernel, warmups) && collect(kernel_call, kernel, samples, 1, false, wall, cpu);
        if (!done) break;
        walls[i] = p10(wall, samples);
        cpus[i] = p10(cpu, samples);
    }
    if (done) {
        put("{\"ok\": true");
        put_numbers(counter_counts() ? "instructions" : "wall_ns", walls, KERNELS);
        if (!counter_counts()) put_numbers("cpu_ns", cpus, KERNELS);
        put("}");
        put_line();
    }
    free(wall);
    free(cpu);
    return done;
}
