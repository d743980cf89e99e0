/* Checks every kernel of the instruction sets named as arguments, or of all that this machine can run. Status 0: all
 * passed; 1: a kernel is wrong; 2: this machine or this build has no such set. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

enum { SLOTS = 64, SLOT = 1 << 18, MARGIN = 256, MOST_FAILURES = 20 };

static const struct {
    const char *name;
    size_t field;
    void (*run)(const nnp_kernels *);
} checks[] = {
#define CHECK(NAME) {#NAME, offsetof(nnp_kernels, NAME), check_##NAME},
    KERNELS(CHECK)
#undef CHECK
};
enum { CHECKS = sizeof checks / sizeof checks[0] };

const ptrdiff_t sizes[SIZES] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 67, 130};

const ptrdiff_t widths[WIDTHS] = {1, 2, 3, 5, 8, 10, 16, 17, 31, 33, 64, 67, 130, 257, 512, 525};
const ptrdiff_t heights[HEIGHTS] = {1, 2, 3, 4, 7, 16, 33, 161, 700, 2600};

static const uint32_t CANARY = 0x7fabcdef; /* a NaN that no arithmetic makes */
static unsigned char *memory;              /* SLOTS blocks of SLOT bytes, a page without access around each */
static size_t page;
static int at_end; /* operands end where a block ends, or begin where it begins */
static struct {
    unsigned char *start;
    size_t bytes;
} operands[SLOTS];
static int used;
static double expected_numbers[SLOT];
static ptrdiff_t expected_used;
static uint64_t random_state;
static const char *isa, *kernel;
static char call[200];
static long count, failures;
static sigjmp_buf after_fault;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED %s %s(%s): ", isa, kernel, call);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    if (++failures == MOST_FAILURES) exit(1);
}

/* Memory */

static void map_memory(void) {
    page = (size_t)sysconf(_SC_PAGESIZE);
    memory = mmap(NULL, SLOTS * (SLOT + page) + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    for (int i = 0; i <= SLOTS; i++)
        if (mprotect(memory + (size_t)i * (SLOT + page), page, PROT_NONE) != 0) abort();
}

static unsigned char *margin(int i) {
    return at_end ? operands[i].start - MARGIN : operands[i].start + operands[i].bytes;
}

void begin(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(call, sizeof call, format, arguments);
    va_end(arguments);
    used = 0;
    expected_used = 0;
    count++;
}

void end(void) {
    for (int i = 0; i < used; i++)
        for (size_t byte = 0; byte < MARGIN; byte++)
            if (margin(i)[byte] != 0xab) {
                fail("wrote %s operand %d", at_end ? "before" : "after", i);
                return;
            }
}

void *operand(size_t bytes) {
    if (used == SLOTS || bytes + MARGIN > SLOT) abort();
    unsigned char *block = memory + (size_t)used * (SLOT + page) + page;
    operands[used].start = at_end ? block + SLOT - bytes : block;
    operands[used].bytes = bytes;
    memset(margin(used), 0xab, MARGIN);
    return operands[used++].start;
}

float *floats(ptrdiff_t n) {
    float *x = operand((size_t)n * sizeof *x);
    for (ptrdiff_t i = 0; i < n; i++) memcpy(x + i, &CANARY, sizeof *x);
    return x;
}

/* Numbers: Knuth's MMIX generator, The Art of Computer Programming, volume 2, section 3.3.4. */
static uint32_t draw(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

float *integers(ptrdiff_t n) {
    float *x = floats(n);
    for (ptrdiff_t i = 0; i < n; i++) x[i] = (float)(draw() % 7) - 3;
    return x;
}

float *reals(ptrdiff_t n) {
    float *x = floats(n);
    for (ptrdiff_t i = 0; i < n; i++) x[i] = (float)((int32_t)(draw() >> 7) - (1 << 23)) * 0x1p-23f;
    return x;
}

float *copy(ptrdiff_t n, const float *x) { return memcpy(floats(n), x, (size_t)n * sizeof *x); }

double *doubles(ptrdiff_t n) {
    double *x = operand((size_t)n * sizeof *x);
    for (ptrdiff_t i = 0; i < n; i++) x[i] = NAN;
    return x;
}

double *zeros(ptrdiff_t n) {
    double *x = expected_numbers + expected_used;
    if ((expected_used += n) > SLOT) abort();
    memset(x, 0, (size_t)n * sizeof *x);
    return x;
}

/* Comparisons */

void equal(ptrdiff_t n, const float *actual, const double *expected) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const float number = (float)expected[i];
        if (isnan(number) ? !isnan(actual[i]) : memcmp(actual + i, &number, sizeof number) != 0) {
            fail("element %td is %.9g, expected %.9g", i, actual[i], number);
            return;
        }
    }
}

void same(ptrdiff_t n, const void *actual, const void *expected) {
    const unsigned char *a = actual, *e = expected;
    for (ptrdiff_t i = 0; i < n; i++)
        if (a[i] != e[i]) {
            fail("byte %td is %d, expected %d", i, a[i], e[i]);
            return;
        }
}

void untouched(ptrdiff_t n, const float *actual) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (memcmp(actual + i, &CANARY, sizeof CANARY) != 0) {
            fail("element %td between results was overwritten", i);
            return;
        }
}

void within(ptrdiff_t n, const float *actual, const double *expected, double terms, const double *magnitude) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const double error = fabs(actual[i] - expected[i]);
        if (!(error <= 2 * terms * 0x1p-24 * magnitude[i] + fmax(terms, 1) * 0x1p-126)) {
            fail("element %td is %.9g, expected %.9g: too far", i, actual[i], expected[i]);
            return;
        }
    }
}

void near(ptrdiff_t n, const double *actual, const double *expected, double relative, const double *magnitude) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (!(fabs(actual[i] - expected[i]) <= relative * magnitude[i]) && !(isnan(actual[i]) && isnan(expected[i]))) {
            fail("element %td is %.17g, expected %.17g", i, actual[i], expected[i]);
            return;
        }
}

void close_to(double actual, double expected, double relative, double absolute) {
    if (!(fabs(actual - expected) <= relative * fabs(expected) + absolute) && !(isnan(actual) && isnan(expected)))
        fail("returned %.17g, expected %.17g", actual, expected);
}

/* Running */

static void on_fault(int number) { siglongjmp(after_fault, number); }

static void run(int check, const nnp_kernels *table) {
    kernel = checks[check].name;
    random_state = 1;
    const int number = sigsetjmp(after_fault, 1);
    if (number == 0)
        checks[check].run(table);
    else
        fail("%s, operands %s their pages", strsignal(number), at_end ? "end with" : "begin with");
}

/* One byte too far on each side has to fault. */
static void see_that_guards_work(void) {
    for (at_end = 0; at_end <= 1; at_end++) {
        begin("guards");
        volatile unsigned char *x = operand(1);
        if (sigsetjmp(after_fault, 1) == 0) {
            (void)x[at_end ? 1 : -1];
            abort();
        }
    }
}

/* Every function of the table, from the first to its end, has its check. */
static void see_that_none_is_missing(void) {
    const size_t first = offsetof(nnp_kernels, gemm_tile), bytes = sizeof(void (*)(void));
    for (size_t field = first; field < sizeof(nnp_kernels); field += bytes) {
        int found = 0;
        for (int i = 0; i < CHECKS; i++) found |= checks[i].field == field;
        if (!found) {
            printf("FAILED: no check for function %zu, from 0, of nnp_kernels\n", (field - first) / bytes);
            failures++;
        }
    }
}

static int check_table(const char *name) {
    const nnp_kernels *table = nnp_find_kernels(name);
    if (table == NULL) {
        printf("%s: not in this build, or not for this machine\n", name);
        return 2;
    }
    isa = table->isa;
    long first[CHECKS + 1];
    for (int check = 0; check < CHECKS; check++) {
        first[check] = count;
        for (at_end = 0; at_end <= 1; at_end++) run(check, table);
    }
    first[CHECKS] = count;
    printf("%s: %ld checks:", isa, count - first[0]);
    for (int check = 0; check < CHECKS; check++) printf(" %s %ld", checks[check].name, first[check + 1] - first[check]);
    printf("\n");
    return 0;
}

int main(int argc, char **argv) {
    const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (int i = 0; i < 4; i++) signal(faults[i], on_fault);
    map_memory();
    see_that_guards_work();
    see_that_none_is_missing();
    int status = 0, runs;
    for (int i = 1; i < argc; i++)
        if (check_table(argv[i]) != 0) status = 2;
    for (int i = 0; argc == 1 && nnp_built_isa(i, &runs) != NULL; i++)
        if (runs) check_table(nnp_built_isa(i, &runs));
    printf("%ld failures\n", failures);
    return failures > 0 ? 1 : status;
}
