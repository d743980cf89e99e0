from nnpar._kernels.csrc cimport nnp_kernels

cdef const nnp_kernels *kernels() noexcept nogil
cdef int thread_count() noexcept nogil
cdef Py_ssize_t tile_rows(Py_ssize_t cols) noexcept nogil
