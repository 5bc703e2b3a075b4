/* Samples of calls: clocks, the counter of an emulated machine, the reference kernels, and what fills the caches. */
#ifndef EDGELUT_SAMPLE_H
#define EDGELUT_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REFERENCE_VERSION "1"
#define MOST_SAMPLES 100000

typedef bool (*Call)(void *what); /* false where it failed, and answered so */

int64_t wall_ns(void);

/* Open the file of EDGELUT_COUNTER, where that is set, and see that a counter writes to it; false with the reason in `why`. */
bool counter_start(char *why, size_t why_bytes);
bool counter_counts(void);

/* Take samples of `inner` calls each, after `warmups` calls, and answer. With `cold`, fill the caches before each sample. */
bool take_samples(Call call, void *what, long warmups, long samples, long inner, bool cold);

/* Time the reference kernels and answer with the p10 of each. */
bool take_reference(long warmups, long samples);

#endif
