"""Process-wide facts: the instruction set in use and the number of threads."""

import os

from nnpar._kernels.csrc cimport (NNP_TALL_ROWS, NNP_TILE_ROWS, nnp_built_isa, nnp_find_kernels, nnp_in_parallel,
                                  nnp_kernels, nnp_openmp_threads, nnp_openmp_version, nnp_survive_fork)

cdef const nnp_kernels *chosen = NULL
cdef int configured = 1
cdef int openmp_threads_at_import = nnp_openmp_threads()


cdef const nnp_kernels *kernels() noexcept nogil:
    return chosen


cdef Py_ssize_t tile_rows(Py_ssize_t cols) noexcept nogil:
    """Rows of the tiles of a matrix with so many columns."""
    return NNP_TALL_ROWS if cols <= chosen.vector else NNP_TILE_ROWS


cdef int thread_count() noexcept nogil:
    """Threads for a parallel region that starts now: one inside another region; what threadpoolctl set, if it did."""
    cdef int openmp_threads = nnp_openmp_threads()
    if nnp_in_parallel():
        return 1
    if openmp_threads != openmp_threads_at_import:
        return min(openmp_threads, configured)
    return configured


def built_isas():
    """Names of the instruction sets compiled in, best first, each with whether this machine can run it."""
    cdef int runs = 0, i = 0
    cdef const char *name
    found = []
    while True:
        name = nnp_built_isa(i, &runs)
        if name == NULL:
            return found
        found.append((name.decode(), bool(runs)))
        i += 1


def isa():
    """Name of the instruction set in use."""
    return chosen.isa.decode()


def vector_width():
    """Floats in a vector of the instruction set in use."""
    return chosen.vector


def tile_shape():
    """Rows and columns of the largest matrix-multiply tile: the sizes at whose edges kernels change."""
    return NNP_TILE_ROWS, chosen.vector * chosen.tile_vectors


def openmp_version():
    """The OpenMP specification's date, yyyymm, or 0 if nnpar was built without OpenMP."""
    return nnp_openmp_version()


def num_threads():
    """Threads that the next operation may use."""
    return thread_count()


def configured_threads():
    """Threads that nnpar was told to use, which OpenMP's own setting may lower."""
    return configured


def set_num_threads(int count):
    """Set the process-wide number of threads."""
    global configured
    configured = count


def multiply_add_seconds(Py_ssize_t rounds):
    """Seconds for `rounds` rounds of register-only multiply-adds on this thread; 24 * vector_width() FLOPs each."""
    import time as clock
    started = clock.perf_counter()
    with nogil:
        chosen.multiply_add_peak(rounds)
    return clock.perf_counter() - started


def _choose(name):
    global chosen
    if name is None:
        chosen = nnp_find_kernels(NULL)
        return
    chosen = nnp_find_kernels(name.encode())
    if chosen == NULL:
        runnable = ", ".join(n for n, runs in built_isas() if runs)
        raise ImportError(f"NNPAR_ISA={name!r}: this build on this machine has {runnable}")


_choose(os.environ.get("NNPAR_ISA") or None)
if nnp_survive_fork() != 0:
    raise ImportError("nnpar: could not register the fork handler (out of memory)")
