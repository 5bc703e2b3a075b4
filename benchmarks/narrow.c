/* For narrow.py: answers the cpuid instructions that it replaced by ud2, as this processor does but without its wide vectors.
 *
 * What remains is x86-64's first level and SSE4: 128 bits, as wide as an arm64 phone's. Every other ud2 ends the program, as it
 * would anyway. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

enum { FMA = 1u << 12, XSAVE = 1u << 26, OSXSAVE = 1u << 27, AVX = 1u << 28, F16C = 1u << 29 };

static void answer(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0x0b) {
        signal(signal_number, SIG_DFL);
        return;
    }
    uint32_t leaf = (uint32_t)registers[REG_RAX], a, b, c, d;
    __cpuid_count(leaf, (uint32_t)registers[REG_RCX], a, b, c, d);
    if (leaf == 1) c &= ~(uint32_t)(FMA | XSAVE | OSXSAVE | AVX | F16C);
    if (leaf == 7) a = b = c = d = 0; /* AVX2, AVX-512, AMX and whatever comes after them */
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, 0);
}
