/* What the kernel starts for each arm64 program: qemu with the pinned processor and the counter, the same way each time.
 *
 * Called by binfmt_misc with flag P as `start PATH ARGV0 ARGUMENT...`. EDGELUT_COUNTER, where the program has it, is the file to
 * append counts to. Addresses are not randomized, and neither is what the program is given as random at its start: both would
 * show in the counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <unistd.h>

#define HOST "/.host" /* where the phone has the machine's qemu, its loader, its libraries (LIBRARIES) and the plugin */

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "start: called without a program\n");
        return 127;
    }
    const char *counter = getenv("EDGELUT_COUNTER");
    char plugin[4224];
    char **next, **all = calloc((size_t)count + 16, sizeof *all);
    if (!all) return 127;
    next = all;
    *next++ = "loader";
    *next++ = "--library-path";
    *next++ = LIBRARIES;
    *next++ = HOST "/qemu";
    *next++ = "-cpu";
    *next++ = "cortex-a76";
    *next++ = "-seed";
    *next++ = "1";
    if (counter && *counter && strlen(counter) < 4096) {
        snprintf(plugin, sizeof plugin, HOST "/counter.so,to=%s", counter);
        *next++ = "-plugin";
        *next++ = plugin;
    }
    *next++ = "-0";
    *next++ = arguments[2];
    *next++ = arguments[1];
    memcpy(next, arguments + 3, sizeof *next * (size_t)(count - 3));
    personality(ADDR_NO_RANDOMIZE);
    execv(HOST "/loader", all);
    perror("start: " HOST "/loader");
    return 126;
}
