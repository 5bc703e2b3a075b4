/* The models that are open, by number. Each function answers, and returns whether it did what was asked. */
#ifndef EDGELUT_MODEL_H
#define EDGELUT_MODEL_H

#include <stdbool.h>

#define MOST_MODELS 65536

bool model_open(long number, const char *path, long threads);
bool model_bind(long number, const char *path);
bool model_run(long number, const char *path);
bool model_time(long number, long warmups, long samples, long inner, bool cold);
bool model_close(long number);
void model_close_all(void);

#endif
