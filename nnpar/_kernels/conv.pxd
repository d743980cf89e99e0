cdef class Geometry:
    cdef readonly Py_ssize_t n, c, h, w, oc, kh, kw, oh, ow, groups
    cdef readonly Py_ssize_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w
    cdef readonly double flops

    cdef Py_ssize_t merged(self, Py_ssize_t channels) noexcept
