from nnpar._kernels.csrc cimport nnp_kernels

cdef struct Frame:         # images (n, h, w, c) in zeros: (n, h + 2 pad_h, w + 2 pad_w, c)
    const float *images
    Py_ssize_t n, h, w, c, pad_h, pad_w

cdef class Geometry:
    cdef readonly Py_ssize_t n, c, h, w, oc, kh, kw, oh, ow, groups
    cdef readonly Py_ssize_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w
    cdef readonly double flops

    cdef Py_ssize_t merged(self, Py_ssize_t channels) noexcept

cdef void frame_row(const nnp_kernels *kernel, Frame *f, Py_ssize_t row, float *framed) noexcept nogil
