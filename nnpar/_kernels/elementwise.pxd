from nnpar._kernels.csrc cimport nnp_philox


cdef class Position:
    cdef nnp_philox at
