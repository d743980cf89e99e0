"""What csrc/kernels.h and openmp.h declare; the contract of each kernel stands there."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef extern from "kernels.h" nogil:
    enum: NNP_TILE_ROWS
    enum: NNP_SOFTMAX_SAMPLES
    enum: NNP_TALL_ROWS
    enum: NNP_DEPTHWISE_ROWS
    enum: NNP_STRIP
    enum: NNP_WARP_CHANNELS
    Py_ssize_t NNP_TILE_STEP(Py_ssize_t positions)

    ctypedef struct nnp_segment:
        const float *a
        const float *b
        Py_ssize_t length

    ctypedef struct nnp_patch:
        Py_ssize_t first, row_stride, col_stride
        int top, bottom, left, right

    ctypedef struct nnp_products:
        Py_ssize_t positions, tiles, depth, tile_step, v_strip, m_strip, u_step
        int accumulate
        const float *ask
        Py_ssize_t ask_bytes

    ctypedef struct nnp_warp:
        const void *x
        float *y
        Py_ssize_t channels, height, width, out_width
        Py_ssize_t x_channel, x_row, x_col, y_channel, y_row, y_col
        const double *map
        const float *colours
        const int64_t *box
        int bytes

    ctypedef struct nnp_pool:
        Py_ssize_t channels, height, width, out_height, out_width
        Py_ssize_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, end_h, end_w
        int count_include_pad, sum, stream

    ctypedef struct nnp_axis:
        Py_ssize_t out, source, taps, step, start, dilation, kernel, kernel_step

    ctypedef struct nnp_depthwise:
        nnp_axis h, w
        Py_ssize_t pixel, kernel_w, out_row, out_pixel

    ctypedef struct nnp_frame:
        Py_ssize_t taps, depth, a_down, a_step

    ctypedef struct nnp_planes:
        Py_ssize_t rows, depth, taps, x_stride
        const Py_ssize_t *offset

    enum: NNP_ADD
    enum: NNP_SUB
    enum: NNP_MUL
    enum: NNP_DIV
    enum: NNP_MAX
    enum: NNP_MIN
    enum: NNP_LESS
    enum: NNP_LESS_EQUAL
    enum: NNP_EQUAL
    enum: NNP_KEEP
    enum: NNP_DROP
    enum: NNP_SHARE

    enum: NNP_ABS
    enum: NNP_CLIP
    enum: NNP_ELU
    enum: NNP_ERF
    enum: NNP_EXP
    enum: NNP_GELU
    enum: NNP_GELU_TANH
    enum: NNP_HARDSIGMOID
    enum: NNP_HARDSWISH
    enum: NNP_LEAKY
    enum: NNP_LOG
    enum: NNP_MISH
    enum: NNP_RECIPROCAL
    enum: NNP_SCALE
    enum: NNP_SIGMOID
    enum: NNP_SILU
    enum: NNP_SOFTPLUS
    enum: NNP_SOFTSIGN
    enum: NNP_SQRT
    enum: NNP_TANH
    enum: NNP_THRESHOLD

    ctypedef struct nnp_activation:
        int kind
        float a, b, c

    ctypedef struct nnp_philox:
        uint32_t key[2]
        uint32_t sample, epoch, layer

    ctypedef struct nnp_response:
        Py_ssize_t before, after
        float scale, beta, k

    ctypedef struct nnp_sgd:
        float lr, momentum, fresh, weight_decay
        int nesterov, first_step

    ctypedef struct nnp_adam:
        float step_size, inv_sqrt_correction, beta1, fresh1, beta2, fresh2, eps, weight_decay, kept

    ctypedef struct nnp_kernels:
        const char *isa
        int vector, tile_vectors
        void gemm_tile(int rows, int cols, Py_ssize_t taps, Py_ssize_t depth, const float **a,
                       Py_ssize_t a_stride, const float *b, const float *bias, int relu, int accumulate,
                       float **c) noexcept nogil
        void gemm_rows(Py_ssize_t rows, int cols, Py_ssize_t depth, const float *a, Py_ssize_t a_step, const float *b,
                       Py_ssize_t b_step, float *packed, const float *bias, int relu, int accumulate, float *c,
                       Py_ssize_t c_step) noexcept nogil
        void outer_tile(int rows, int cols, Py_ssize_t segments, const nnp_segment *segment, Py_ssize_t a_offset,
                        Py_ssize_t a_step, Py_ssize_t a_ahead, Py_ssize_t b_offset, Py_ssize_t b_step,
                        Py_ssize_t b_ahead, float *c, Py_ssize_t c_stride) noexcept nogil
        void outer_rows(Py_ssize_t rows, int cols, Py_ssize_t depth, const float *a, Py_ssize_t a_step, const float *b,
                        Py_ssize_t b_step, float *c, Py_ssize_t c_step) noexcept nogil
        void dot_tile(int rows, Py_ssize_t depth, const float **a, const float *x, float *out) noexcept nogil
        void pack_panel(Py_ssize_t depth, int cols, float alpha, const float *b, Py_ssize_t k_stride,
                        Py_ssize_t n_stride, float *panel) noexcept nogil
        void copy_matrix(Py_ssize_t rows, Py_ssize_t cols, const float *src, Py_ssize_t row_stride,
                         Py_ssize_t col_stride, float *dst, Py_ssize_t ld) noexcept nogil
        void framed_row(Py_ssize_t pixels, int cols, const nnp_frame *s, const float *a, const float *b,
                        const float *bias, int relu, int accumulate, float *c, Py_ssize_t c_step) noexcept nogil
        void framed_outer(int cols, const nnp_frame *s, Py_ssize_t segments, const nnp_segment *segment,
                          Py_ssize_t b_offset, Py_ssize_t b_step, Py_ssize_t ahead, float *c,
                          Py_ssize_t c_stride) noexcept nogil
        void copy_stream(Py_ssize_t n, const float *src, float *to) noexcept nogil
        void stream_fence() noexcept nogil
        void winograd_input(int size, Py_ssize_t n, const nnp_patch *p, const float *image, float *v,
                            Py_ssize_t v_stride) noexcept nogil
        void winograd_input_strips(int size, Py_ssize_t n, const nnp_patch *p, const float *image, float *v,
                                   Py_ssize_t v_strip) noexcept nogil
        void winograd_output_grad(int size, Py_ssize_t n, const nnp_patch *p, const float *image, float *z,
                                  Py_ssize_t z_stride) noexcept nogil
        void winograd_output(int size, Py_ssize_t n, const nnp_patch *p, const float *m, Py_ssize_t m_strip,
                             const float *bias, int relu, float *image) noexcept nogil
        void winograd_products(const nnp_products *s, int cols, const float *v, const float *u,
                               float *m) noexcept nogil
        void winograd_weight(int size, Py_ssize_t n, const float *g, Py_ssize_t g_stride, float *u,
                             Py_ssize_t u_stride) noexcept nogil
        void winograd_weight_grad(int size, Py_ssize_t n, const float *u, Py_ssize_t u_stride, float *g,
                                  Py_ssize_t g_stride) noexcept nogil
        void max_pool_row(const nnp_pool *s, const float *x, Py_ssize_t oh, float *y_row,
                          uint8_t *argmax_row) noexcept nogil
        void max_pool_grad_row(const nnp_pool *s, const float *dy, const uint8_t *argmax, Py_ssize_t ih,
                               float *dx_row) noexcept nogil
        void avg_pool_row(const nnp_pool *s, const float *x, Py_ssize_t oh, float *y_row) noexcept nogil
        void weighted_rows(Py_ssize_t rows, Py_ssize_t n, const int64_t *first, const int64_t *index,
                           const float *weight, const float *x, float *y) noexcept nogil
        void avg_pool_grad_row(const nnp_pool *s, const float *dy, Py_ssize_t ih, float *dx_row) noexcept nogil
        void channel_moments(Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t step, const float *x, double *mean,
                             double *m2) noexcept nogil
        void merge_moments(Py_ssize_t parts, Py_ssize_t pixels_of_part, Py_ssize_t pixels, Py_ssize_t channels,
                           Py_ssize_t step, const double *mean, const double *m2, double *total_mean,
                           double *variance) noexcept nogil
        void scale_shift(Py_ssize_t pixels, Py_ssize_t channels, const float *x, const float *scale, const float *shift,
                         const float *residual, int relu, float *y) noexcept nogil
        void channel_grad_sums(Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t step, const float *dy, const float *x,
                               const float *y, const float *scale, const float *shift, const float *mean,
                               double *sum, double *sum_product) noexcept nogil
        void batch_norm_grad(Py_ssize_t pixels, Py_ssize_t channels, const float *dy, const float *x, const float *y,
                             const float *scale, const float *shift, const float *of_dy, const float *of_x,
                             const float *rest, float *dx, float *dresidual) noexcept nogil
        void row_norm(Py_ssize_t rows, Py_ssize_t cols, const float *x, const float *gamma, const float *beta,
                      double eps, int centred, float *mean, float *invstd, float *y) noexcept nogil
        void row_norm_grad(Py_ssize_t rows, Py_ssize_t cols, const float *dy, const float *x, const float *mean,
                           const float *invstd, const float *gamma, int centred, float *dx, double *dgamma,
                           double *dbeta) noexcept nogil
        void local_response(Py_ssize_t pixels, Py_ssize_t channels, const nnp_response *s, const float *x,
                            float *scratch, float *y) noexcept nogil
        void local_response_grad(Py_ssize_t pixels, Py_ssize_t channels, const nnp_response *s, const float *dy,
                                 const float *x, float *scratch, float *dx) noexcept nogil
        void depthwise_rows(const nnp_depthwise *s, Py_ssize_t channels, Py_ssize_t row, int rows, const float *x,
                            const float *w, const float *bias, int relu, float *y) noexcept nogil
        void depthwise_weight_grad_rows(const nnp_depthwise *s, Py_ssize_t channels, Py_ssize_t row, int rows,
                                        const float *x, const float *dy, float *dw) noexcept nogil
        void convolve_planes(const nnp_planes *s, Py_ssize_t pixels, const float *w, const float *x,
                             float **y) noexcept nogil
        void split_planes(Py_ssize_t channels, Py_ssize_t pixels, const float *src, float *dst,
                          Py_ssize_t dst_stride) noexcept nogil
        void join_planes(Py_ssize_t channels, Py_ssize_t pixels, const float *src, Py_ssize_t src_stride, float *dst,
                         Py_ssize_t step) noexcept nogil
        void relu(Py_ssize_t n, const float *x, int stream, float *y) noexcept nogil
        void relu_grad(Py_ssize_t n, const float *dy, const float *y, int stream, float *dx) noexcept nogil
        void scale(Py_ssize_t n, float factor, float *x) noexcept nogil
        void add(Py_ssize_t n, const float *a, const float *b, int relu, float *y) noexcept nogil
        void activation(nnp_activation s, Py_ssize_t n, const float *x, float *y) noexcept nogil
        void activation_grad(nnp_activation s, Py_ssize_t n, const float *dy, const float *v, float *dx) noexcept nogil
        void prelu(Py_ssize_t n, const float *x, const float *w, int w_step, float *y) noexcept nogil
        void prelu_grad(Py_ssize_t n, const float *dy, const float *x, const float *w, int w_step, float *dx,
                        float *dw) noexcept nogil
        void log_softmax(Py_ssize_t rows, Py_ssize_t cols, const float *x, float *y) noexcept nogil
        void log_softmax_grad(Py_ssize_t rows, Py_ssize_t cols, const float *dy, const float *y,
                              float *dx) noexcept nogil
        void arithmetic(int kind, Py_ssize_t n, const float *a, int a_step, const float *b, int b_step,
                        float *y) noexcept nogil
        void turn(Py_ssize_t rows, Py_ssize_t cols, const float *src, Py_ssize_t src_ld, float *dst,
                  Py_ssize_t dst_ld) noexcept nogil
        void dropout(Py_ssize_t n, const float *x, nnp_philox at, uint32_t threshold, float factor,
                     float *y) noexcept nogil
        void warp_row(const nnp_warp *warp, Py_ssize_t row) noexcept nogil
        double sum_strided(Py_ssize_t n, const float *x, Py_ssize_t step) noexcept nogil
        void sum_rows(Py_ssize_t rows, Py_ssize_t cols, const float *x, Py_ssize_t row_stride, int accumulate,
                      float *out) noexcept nogil
        void softmax(Py_ssize_t samples, Py_ssize_t classes, const float *z, float *y) noexcept nogil
        void softmax_grad(Py_ssize_t rows, Py_ssize_t cols, const float *dy, const float *y, float factor,
                          float *dx) noexcept nogil
        double softmax_cross_entropy(Py_ssize_t samples, Py_ssize_t classes, const float *z, const int64_t *label,
                                     double scale, float *grad, uint8_t *correct) noexcept nogil
        double soft_cross_entropy(Py_ssize_t classes, const float *z, const float *t, const float *w, double smoothing,
                                  double scale, float *grad, int *correct) noexcept nogil
        double squared_error(Py_ssize_t n, const float *p, const float *t, float scale, float *grad) noexcept nogil
        void sgd(Py_ssize_t n, nnp_sgd s, float *w, const float *grad, float *momentum_buffer) noexcept nogil
        void adam(Py_ssize_t n, nnp_adam s, float *w, const float *grad, float *exp_avg,
                  float *exp_avg_sq) noexcept nogil
        float multiply_add_peak(Py_ssize_t rounds) noexcept nogil

    const nnp_kernels *nnp_find_kernels(const char *isa) noexcept nogil
    const char *nnp_built_isa(int i, int *runs) noexcept nogil

cdef extern from "openmp.h" nogil:
    ctypedef unsigned long nnp_float_mode
    int nnp_openmp_version() noexcept nogil
    int nnp_openmp_threads() noexcept nogil
    int nnp_in_parallel() noexcept nogil
    int nnp_survive_fork() noexcept nogil
    nnp_float_mode nnp_flush_denormals() noexcept nogil
    void nnp_restore_float_mode(nnp_float_mode mode) noexcept nogil
