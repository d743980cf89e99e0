from libc.stdint cimport int64_t, uint8_t

cdef class Step:
    cdef readonly str name
    cdef public str layer
    cdef readonly double flops, bytes
    cdef readonly Py_ssize_t shared_bytes, thread_bytes, prepacked_bytes
    cdef Py_ssize_t scratch_bytes
    cdef readonly int most_threads
    cdef int shares          # of the tasks that were dealt
    cdef char *workspace     # shared
    cdef char *threads       # each thread's own, thread_step bytes apart
    cdef Py_ssize_t thread_step
    cdef char *prepacked
    cdef object unpacked
    cdef list arrays
    cdef double checked      # when signals were looked at, in seconds
    cdef bint stopped        # by what a signal's handler raised
    cdef object error

    cdef void run(self) noexcept nogil
    cdef void pack_weights(self, char *scratch) noexcept nogil
    cdef bint goes_on(self) noexcept nogil
    cdef void look(self) noexcept with gil
    cdef int end(self) except -1
    cdef int team(self) noexcept nogil
    cdef int need(self, Py_ssize_t shared, Py_ssize_t own=*) except -1
    cdef char *own(self) noexcept nogil
    cdef void deal(self, Py_ssize_t tasks) noexcept nogil
    cdef Py_ssize_t take(self, Py_ssize_t share) noexcept nogil
    cdef float *floats(self, array, bint write=*) except? NULL
    cdef float *weights(self, array) except? NULL
    cdef uint8_t *octets(self, array, bint write=*) except? NULL
    cdef int64_t *labels(self, array) except? NULL
    cdef double *doubles(self, array) except? NULL
    cdef void *address(self, array, bytes code, bint write, list keep) except? NULL
    cdef cost(self, double flops, double bytes)
    cdef char *memory(self, array, Py_ssize_t nbytes) except NULL

cdef Py_ssize_t aligned(Py_ssize_t size) noexcept nogil
cdef Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil
cdef Py_ssize_t odd_lines(Py_ssize_t floats) noexcept nogil
cdef bint streams(Py_ssize_t floats) noexcept nogil
