/* The reference kernels: fixed pieces of work that show how fast a device is at this moment. A change of any is a new version. */
#ifndef EDGELUT_KERNELS_H
#define EDGELUT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#define KERNELS 5

bool kernels_start(void); /* false where there is no memory */
void *kernels_get(size_t number);
bool kernel_call(void *kernel);
void kernels_stop(void);

#endif
