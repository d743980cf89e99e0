/* Which tables this build has, and which of them this machine can run. Compiled for the baseline of the processor
 * family. */
#include <string.h>

#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

extern const nnp_kernels nnp_kernels__avx512, nnp_kernels__avx2, nnp_kernels__sse2, nnp_kernels__scalar;

static int always(void) { return 1; }

/* XCR0: which registers the operating system saves. Bits 1 and 2: SSE and AVX; 5 to 7: the three parts of AVX-512. */
static unsigned saved_registers(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static int has_avx2(void) {
    unsigned a, b, c, d, leaf7;
    if ((saved_registers() & 0x06) != 0x06) return 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_FMA) || !(c & bit_AVX)) return 0;
    return __get_cpuid_count(7, 0, &a, &leaf7, &c, &d) && (leaf7 & bit_AVX2) != 0;
}

static int has_avx512(void) {
    const unsigned needed = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    unsigned a, b, c, d;
    return has_avx2() && (saved_registers() & 0xe6) == 0xe6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (b & needed) == needed;
}

static const struct {
    const nnp_kernels *kernels;
    int (*runs)(void);
} tables[] = {{&nnp_kernels__avx512, has_avx512},
              {&nnp_kernels__avx2, has_avx2},
              {&nnp_kernels__sse2, always},
              {&nnp_kernels__scalar, always}};

#else

extern const nnp_kernels nnp_kernels__scalar;

static int always(void) { return 1; }

#if defined(__aarch64__)
extern const nnp_kernels nnp_kernels__neon;
#endif

static const struct {
    const nnp_kernels *kernels;
    int (*runs)(void);
} tables[] = {
#if defined(__aarch64__)
    {&nnp_kernels__neon, always},
#endif
    {&nnp_kernels__scalar, always}};

#endif

enum { TABLES = sizeof tables / sizeof tables[0] };

const nnp_kernels *nnp_find_kernels(const char *isa) {
    for (int i = 0; i < TABLES; i++)
        if ((isa == NULL || strcmp(isa, tables[i].kernels->isa) == 0) && tables[i].runs()) return tables[i].kernels;
    return NULL;
}

const char *nnp_built_isa(int i, int *runs) {
    if (i < 0 || i >= TABLES) return NULL;
    *runs = tables[i].runs();
    return tables[i].kernels->isa;
}
