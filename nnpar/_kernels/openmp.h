/* The sole door to OpenMP beside prange: thread counts, fork safety, and the floating-point mode of worker threads.
 * Without OpenMP everything runs on the calling thread. */
#ifndef NNPAR_OPENMP_H
#define NNPAR_OPENMP_H

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>

static inline int nnp_openmp_version(void) { return _OPENMP; }
static inline int nnp_openmp_threads(void) { return omp_get_max_threads(); }
static inline int nnp_in_parallel(void) { return omp_in_parallel(); }

/* The threads of libgomp do not survive a fork, but the child believes that they do and waits for them for ever.
 * Letting the pool go just before each fork makes parent and child start new ones. */
static void nnp_release_pool(void) { (void)omp_pause_resource_all(omp_pause_soft); }
static inline int nnp_survive_fork(void) { return pthread_atfork(nnp_release_pool, NULL, NULL); }

#else

static inline int nnp_openmp_version(void) { return 0; }
static inline int nnp_openmp_threads(void) { return 1; }
static inline int nnp_in_parallel(void) { return 0; }
static inline int nnp_survive_fork(void) { return 0; }

#endif

/* Denormal numbers make arithmetic 5 to 50 times slower: each thread of a parallel region treats them as zero while it
 * works for nnpar, and gets its own mode back. */
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
typedef unsigned int nnp_float_mode;
static inline nnp_float_mode nnp_flush_denormals(void) {
    const nnp_float_mode before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* flush to zero, denormals are zero */
    return before;
}
static inline void nnp_restore_float_mode(nnp_float_mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
typedef unsigned long nnp_float_mode;
static inline nnp_float_mode nnp_flush_denormals(void) {
    nnp_float_mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1ul << 24)));
    return before;
}
static inline void nnp_restore_float_mode(nnp_float_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
typedef int nnp_float_mode;
static inline nnp_float_mode nnp_flush_denormals(void) { return 0; }
static inline void nnp_restore_float_mode(nnp_float_mode mode) { (void)mode; }
#endif

#endif
