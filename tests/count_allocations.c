/* Counts what a process asks of the memory allocator, for test_allocations.py: loaded before the C library (LD_PRELOAD), it
   stands in for the functions that allocate, which glibc also has by other names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_size_t counting, least, count;

/* From now on count requests of at least `size` bytes, of all threads. */
void start_counting(size_t size) {
    least = size;
    count = 0;
    counting = 1;
}

/* How many there were. */
size_t stop_counting(void) {
    counting = 0;
    return count;
}

/* OpenMP's runtime, libgomp or libomp, notes in some hundred bytes who takes part in a parallel region. */
static int of_openmp(const void *caller) {
    Dl_info library;
    if (dladdr(caller, &library) == 0 || library.dli_fname == NULL) return 0;
    const char *slash = strrchr(library.dli_fname, '/');
    return strstr(slash == NULL ? library.dli_fname : slash, "omp") != NULL;
}

static void note(size_t size, const void *caller) {
    if (counting && size >= least && (size > 4096 || !of_openmp(caller))) count++;
}

void *malloc(size_t size) {
    note(size, __builtin_return_address(0));
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    note(number * size, __builtin_return_address(0));
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
    note(size, __builtin_return_address(0));
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    note(size, __builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    note(size, __builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
    note(size, __builtin_return_address(0));
    *result = __libc_memalign(alignment, size);
    return *result == NULL ? ENOMEM : 0;
}

/* What a program maps itself; the C library's own mappings come from the requests above. */
void *mmap(void *where, size_t size, int protection, int flags, int file, off_t offset) {
    note(size, __builtin_return_address(0));
    return (void *)syscall(SYS_mmap, where, size, protection, flags, file, offset);
}
