/* A plugin for qemu-user that counts the guest's instructions between two markers.
 *
 * A marker is a system call that no kernel has: MARKER(phase, sequence), phase 1 to begin and 2 to end. At each end a line with
 * the number of instructions executed since the begin is appended to the file given as `to=PATH`. Counts are added up once a
 * translation block, by code that qemu generates inline. That counter is one for all threads, so a count during which there was
 * more than one is a line that says so instead: a wrong number is never written.
 *
 * The declarations below are those parts of qemu's plugin interface, versions 0 and 1 (qemu 4.2 to 8.x), that are used here. */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*vcpu_callback)(qemu_plugin_id_t id, unsigned vcpu);
typedef void (*translate_callback)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*syscall_callback)(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                                 uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, enum qemu_plugin_op op, void *value, uint64_t add);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translate_callback call);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, syscall_callback call);
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, vcpu_callback call);
void qemu_plugin_register_vcpu_exit_cb(qemu_plugin_id_t id, vcpu_callback call);

EXPORT int qemu_plugin_version = 1;

#define MARKER 0x45444C
enum { BEGIN = 1, END = 2 };

static uint64_t executed; /* instructions of all threads */
static uint64_t begun;    /* its value at the last BEGIN */
static int threads;       /* now */
static int most_threads;  /* since the last BEGIN */
static bool counting;
static char path[4096];

static void thread_began(qemu_plugin_id_t id, unsigned vcpu) {
    (void)id, (void)vcpu;
    int now = __atomic_add_fetch(&threads, 1, __ATOMIC_SEQ_CST);
    int most = __atomic_load_n(&most_threads, __ATOMIC_SEQ_CST);
    while (now > most && !__atomic_compare_exchange_n(&most_threads, &most, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
}

static void thread_ended(qemu_plugin_id_t id, unsigned vcpu) {
    (void)id, (void)vcpu;
    __atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
}

static void block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

/* Append a line in one piece. Whoever reads it misses it where the disk is full: no other line stands in for it. */
static void append(const char *line, size_t length) {
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) return;
    if (write(file, line, length) != (ssize_t)length) (void)!ftruncate(file, 0);
    close(file);
}

static void syscall_made(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t phase, uint64_t sequence, uint64_t a3,
                         uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)vcpu, (void)sequence, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != MARKER) return;
    if (phase == BEGIN) {
        most_threads = __atomic_load_n(&threads, __ATOMIC_SEQ_CST);
        counting = true;
        begun = executed;
    } else if (phase == END) {
        uint64_t count = executed - begun;
        char line[64];
        int length;
        if (!counting) length = snprintf(line, sizeof line, "error: an end without a begin\n");
        else if (most_threads > 1) length = snprintf(line, sizeof line, "error: %d threads; one can be counted\n", most_threads);
        else length = snprintf(line, sizeof line, "%llu\n", (unsigned long long)count);
        counting = false;
        append(line, (size_t)length);
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++)
        if (strncmp(arguments[i], "to=", 3) == 0) snprintf(path, sizeof path, "%s", arguments[i] + 3);
    if (!path[0]) {
        fprintf(stderr, "counter: to=PATH is missing\n");
        return 1;
    }
    qemu_plugin_register_vcpu_init_cb(id, thread_began);
    qemu_plugin_register_vcpu_exit_cb(id, thread_ended);
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, syscall_made);
    return 0;
}
