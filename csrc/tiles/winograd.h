/* Winograd's F(4x4, 3x3) and F(4x4, 5x5): 4 x 4 outputs of a convolution by 36 multiplications instead of 144 for a
 * kernel of 3 x 3, by 64 instead of 400 for one of 5 x 5,
 *
 *     y = A^T [(G g G^T) * (B^T d B)] A        with * element by element,
 *
 * for a filter g and an input tile d of SIZE x SIZE, 6 or 8; Lavin and Gray, "Fast algorithms for convolutional neural
 * networks", CVPR 2016, with the interpolation points 0, 1, -1, 2, -2, for 5 x 5 also 1/2 and -1/2, and infinity: the
 * order of the rows of B^T, A and G. The weight gradient of a tile is G^T [(B^T d B) * (A dy A^T)] G. Each function
 * here is one matrix from the left and from the right, for `n` channels, or pairs of channels, side by side. Rows of
 * opposite points share the sum over even positions and that over odd ones.
 */

/* B^T from the left. */
NNP_INLINE void winograd_input_axis_6(vec d[6]) {
    const vec two = vec_set(2.0f), four = vec_set(4.0f), five = vec_set(5.0f);
    const vec even = vec_sub_mul(d[4], four, d[2]), odd = vec_sub_mul(d[3], four, d[1]);
    const vec even2 = vec_sub(d[4], d[2]), odd2 = vec_sub(d[3], d[1]);
    const vec first = vec_mul_add(four, d[0], vec_sub_mul(d[4], five, d[2]));
    const vec last = vec_mul_add(four, d[1], vec_sub_mul(d[5], five, d[3]));
    d[0] = first;
    d[1] = vec_add(even, odd);
    d[2] = vec_sub(even, odd);
    d[3] = vec_mul_add(two, odd2, even2);
    d[4] = vec_sub_mul(even2, two, odd2);
    d[5] = last;
}

NNP_INLINE void winograd_input_axis_8(vec d[8]) {
    const vec half = vec_set(0.5f), quarter = vec_set(0.25f), two = vec_set(2.0f), four = vec_set(4.0f);
    const vec five = vec_set(5.0f), five4 = vec_set(1.25f), seventeen4 = vec_set(4.25f), twentyone4 = vec_set(5.25f);
    const vec even = vec_sub_mul(vec_add(d[2], d[6]), seventeen4, d[4]);
    const vec odd = vec_sub_mul(vec_add(d[1], d[5]), seventeen4, d[3]);
    const vec even2 = vec_sub_mul(vec_mul_add(quarter, d[2], d[6]), five4, d[4]);
    const vec odd2 = vec_sub_mul(vec_mul_add(quarter, d[1], d[5]), five4, d[3]);
    const vec even_half = vec_sub_mul(vec_mul_add(four, d[2], d[6]), five, d[4]);
    const vec odd_half = vec_sub_mul(vec_mul_add(four, d[1], d[5]), five, d[3]);
    d[0] = vec_mul_add(twentyone4, vec_sub(d[4], d[2]), vec_sub(d[0], d[6]));
    d[7] = vec_mul_add(twentyone4, vec_sub(d[3], d[5]), vec_sub(d[7], d[1]));
    d[1] = vec_add(even, odd);
    d[2] = vec_sub(even, odd);
    d[3] = vec_mul_add(two, odd2, even2);
    d[4] = vec_sub_mul(even2, two, odd2);
    d[5] = vec_mul_add(half, odd_half, even_half);
    d[6] = vec_sub_mul(even_half, half, odd_half);
}

NNP_INLINE void winograd_input_axis(const int SIZE, vec *d) {
    if (SIZE == 6)
        winograd_input_axis_6(d);
    else
        winograd_input_axis_8(d);
}

/* A^T from the left: SIZE to four. */
NNP_INLINE void winograd_output_axis(const int SIZE, const vec *m, vec y[4]) {
    const vec two = vec_set(2.0f), four = vec_set(4.0f), eight = vec_set(8.0f);
    const vec even = vec_add(m[1], m[2]), odd = vec_sub(m[1], m[2]);
    const vec even2 = vec_add(m[3], m[4]), odd2 = vec_sub(m[3], m[4]);
    y[0] = vec_add(vec_add(m[0], even), even2);
    y[1] = vec_mul_add(two, odd2, odd);
    y[2] = vec_mul_add(four, even2, even);
    y[3] = vec_add(vec_mul_add(eight, odd2, odd), m[SIZE - 1]);
    if (SIZE == 8) {
        const vec even_half = vec_add(m[5], m[6]), odd_half = vec_sub(m[5], m[6]);
        y[0] = vec_add(y[0], even_half);
        y[1] = vec_mul_add(vec_set(0.5f), odd_half, y[1]);
        y[2] = vec_mul_add(vec_set(0.25f), even_half, y[2]);
        y[3] = vec_mul_add(vec_set(0.125f), odd_half, y[3]);
    }
}

/* A from the left: four to SIZE. */
NNP_INLINE void winograd_output_grad_axis(const int SIZE, const vec y[4], vec *z) {
    const vec two = vec_set(2.0f), four = vec_set(4.0f), eight = vec_set(8.0f);
    const vec even = vec_add(y[0], y[2]), odd = vec_add(y[1], y[3]);
    const vec even2 = vec_mul_add(four, y[2], y[0]), odd2 = vec_mul_add(eight, y[3], vec_mul(two, y[1]));
    z[0] = y[0];
    z[1] = vec_add(even, odd);
    z[2] = vec_sub(even, odd);
    z[3] = vec_add(even2, odd2);
    z[4] = vec_sub(even2, odd2);
    z[SIZE - 1] = y[3];
    if (SIZE == 8) {
        const vec even_half = vec_mul_add(vec_set(0.25f), y[2], y[0]);
        const vec odd_half = vec_mul_add(vec_set(0.125f), y[3], vec_mul(vec_set(0.5f), y[1]));
        z[5] = vec_add(even_half, odd_half);
        z[6] = vec_sub(even_half, odd_half);
    }
}

/* G from the left: three to six, or five to eight. */
NNP_INLINE void winograd_weight_axis_6(const vec g[3], vec u[6]) {
    const vec sixth = vec_set(1.0f / 6), twelfth = vec_set(1.0f / 12), twentyfourth = vec_set(1.0f / 24);
    const vec even = vec_mul(sixth, vec_add(g[0], g[2])), odd = vec_mul(sixth, g[1]);
    const vec even2 = vec_mul_add(twentyfourth, g[0], vec_mul(sixth, g[2])), odd2 = vec_mul(twelfth, g[1]);
    u[0] = vec_mul(vec_set(0.25f), g[0]);
    u[1] = vec_sub(vec_sub(vec_zero(), even), odd);
    u[2] = vec_sub(odd, even);
    u[3] = vec_add(even2, odd2);
    u[4] = vec_sub(even2, odd2);
    u[5] = g[2];
}

NNP_INLINE void winograd_weight_axis_8(const vec g[5], vec u[8]) {
    const vec two = vec_set(2.0f), four = vec_set(4.0f), sixteen = vec_set(16.0f), scale = vec_set(-2.0f / 9);
    const vec scale2 = vec_set(1.0f / 90), scale_half = vec_set(2.0f / 45);
    const vec even = vec_mul(scale, vec_add(vec_add(g[0], g[4]), g[2])), odd = vec_mul(scale, vec_add(g[1], g[3]));
    const vec even2 = vec_mul(scale2, vec_mul_add(sixteen, g[4], vec_mul_add(four, g[2], g[0])));
    const vec odd2 = vec_mul(vec_mul(two, scale2), vec_mul_add(four, g[3], g[1]));
    const vec even_half = vec_mul(scale_half, vec_mul_add(sixteen, g[0], vec_mul_add(four, g[2], g[4])));
    const vec odd_half = vec_mul(vec_mul(two, scale_half), vec_mul_add(four, g[1], g[3]));
    u[0] = g[0];
    u[1] = vec_add(even, odd);
    u[2] = vec_sub(even, odd);
    u[3] = vec_add(even2, odd2);
    u[4] = vec_sub(even2, odd2);
    u[5] = vec_add(even_half, odd_half);
    u[6] = vec_sub(even_half, odd_half);
    u[7] = g[4];
}

NNP_INLINE void winograd_weight_axis(const int SIZE, const vec *g, vec *u) {
    if (SIZE == 6)
        winograd_weight_axis_6(g, u);
    else
        winograd_weight_axis_8(g, u);
}

/* G^T from the left: six to three, or eight to five. */
NNP_INLINE void winograd_weight_grad_axis_6(const vec u[6], vec g[3]) {
    const vec sixth = vec_set(1.0f / 6), twelfth = vec_set(1.0f / 12), twentyfourth = vec_set(1.0f / 24);
    const vec minus = vec_mul(sixth, vec_add(u[1], u[2])), both = vec_add(u[3], u[4]);
    g[0] = vec_sub(vec_mul_add(twentyfourth, both, vec_mul(vec_set(0.25f), u[0])), minus);
    g[1] = vec_mul_add(twelfth, vec_sub(u[3], u[4]), vec_mul(sixth, vec_sub(u[2], u[1])));
    g[2] = vec_add(vec_sub(vec_mul(sixth, both), minus), u[5]);
}

NNP_INLINE void winograd_weight_grad_axis_8(const vec u[8], vec g[5]) {
    const vec two = vec_set(2.0f), four = vec_set(4.0f), sixteen = vec_set(16.0f), scale = vec_set(-2.0f / 9);
    const vec scale2 = vec_set(1.0f / 90), scale_half = vec_set(2.0f / 45);
    const vec even = vec_mul(scale, vec_add(u[1], u[2])), odd = vec_mul(scale, vec_sub(u[1], u[2]));
    const vec even2 = vec_mul(scale2, vec_add(u[3], u[4])), even_half = vec_mul(scale_half, vec_add(u[5], u[6]));
    const vec odd2 = vec_mul(vec_mul(two, scale2), vec_sub(u[3], u[4]));
    const vec odd_half = vec_mul(vec_mul(two, scale_half), vec_sub(u[5], u[6]));
    g[0] = vec_mul_add(sixteen, even_half, vec_add(vec_add(u[0], even), even2));
    g[1] = vec_mul_add(four, odd_half, vec_add(odd, odd2));
    g[2] = vec_mul_add(four, vec_add(even2, even_half), even);
    g[3] = vec_mul_add(four, odd2, vec_add(odd, odd_half));
    g[4] = vec_mul_add(sixteen, even2, vec_add(vec_add(u[7], even), even_half));
}

NNP_INLINE void winograd_weight_grad_axis(const int SIZE, const vec *u, vec *g) {
    if (SIZE == 6)
        winograd_weight_grad_axis_6(u, g);
    else
        winograd_weight_grad_axis_8(u, g);
}

/* A vector of the pixel at row i, column j, from channel c; zeros where there is none. `all` says that every pixel is
 * inside, `whole` that every channel is there; both are constants where this is used. */
NNP_INLINE vec patch_load(const int all, const int whole, const nnp_patch *p, int i, int j, const float *image,
                          ptrdiff_t c, vec_mask last) {
    if (!all && (i < p->top || i >= p->bottom || j < p->left || j >= p->right)) return vec_zero();
    image += p->first + i * p->row_stride + j * p->col_stride + c;
    return whole ? vec_load(image) : vec_load_first(image, last);
}

NNP_INLINE vec winograd_get(const int whole, const float *at, vec_mask last) {
    return whole ? vec_load(at) : vec_load_first(at, last);
}

NNP_INLINE void winograd_put(const int whole, float *at, vec_mask last, vec value) {
    if (whole)
        vec_store(at, value);
    else
        vec_store_first(at, last, value);
}

NNP_INLINE void winograd_input_vector(const int whole, ptrdiff_t c, vec_mask last, const int SIZE, const int all,
                                      const nnp_patch *p, const float *image, float *v, ptrdiff_t v_stride) {
    vec rows[8][8];
    NNP_UNROLL
    for (int j = 0; j < SIZE; j++) {
        vec d[8];
        NNP_UNROLL
        for (int i = 0; i < SIZE; i++) d[i] = patch_load(all, whole, p, i, j, image, c, last);
        winograd_input_axis(SIZE, d);
        NNP_UNROLL
        for (int i = 0; i < SIZE; i++) rows[i][j] = d[i];
    }
    NNP_UNROLL
    for (int i = 0; i < SIZE; i++) {
        winograd_input_axis(SIZE, rows[i]);
        NNP_UNROLL
        for (int j = 0; j < SIZE; j++) winograd_put(whole, v + (SIZE * i + j) * v_stride + c, last, rows[i][j]);
    }
}

NNP_INLINE void winograd_output_grad_vector(const int whole, ptrdiff_t c, vec_mask last, const int SIZE, const int all,
                                            const nnp_patch *p, const float *image, float *z, ptrdiff_t z_stride) {
    vec rows[8][4];
    NNP_UNROLL
    for (int j = 0; j < 4; j++) {
        vec d[4], t[8];
        NNP_UNROLL
        for (int i = 0; i < 4; i++) d[i] = patch_load(all, whole, p, i, j, image, c, last);
        winograd_output_grad_axis(SIZE, d, t);
        NNP_UNROLL
        for (int i = 0; i < SIZE; i++) rows[i][j] = t[i];
    }
    NNP_UNROLL
    for (int i = 0; i < SIZE; i++) {
        vec t[8];
        winograd_output_grad_axis(SIZE, rows[i], t);
        NNP_UNROLL
        for (int j = 0; j < SIZE; j++) winograd_put(whole, z + (SIZE * i + j) * z_stride + c, last, t[j]);
    }
}

NNP_INLINE void winograd_output_vector(const int whole, ptrdiff_t c, vec_mask last, const int SIZE, const int all,
                                       const nnp_patch *p, const float *m, ptrdiff_t m_stride, const float *bias,
                                       int relu, float *image) {
    vec columns[4][8];
    NNP_UNROLL
    for (int j = 0; j < SIZE; j++) {
        vec t[8], y[4];
        NNP_UNROLL
        for (int i = 0; i < SIZE; i++) t[i] = winograd_get(whole, m + (SIZE * i + j) * m_stride + c, last);
        winograd_output_axis(SIZE, t, y);
        NNP_UNROLL
        for (int i = 0; i < 4; i++) columns[i][j] = y[i];
    }
    const vec add = bias == NULL ? vec_zero() : winograd_get(whole, bias + c, last);
    image += p->first + c;
    NNP_UNROLL
    for (int i = 0; i < 4; i++) {
        vec y[4];
        winograd_output_axis(SIZE, columns[i], y);
        NNP_UNROLL
        for (int j = 0; j < 4; j++)
            if (all || (i < p->bottom && j < p->right)) {
                const vec total = vec_add(y[j], add);
                winograd_put(whole, image + i * p->row_stride + j * p->col_stride, last,
                             relu ? vec_relu(total) : total);
            }
    }
}

NNP_INLINE void winograd_weight_vector(const int whole, ptrdiff_t c, vec_mask last, const int SIZE, const float *g,
                                       ptrdiff_t g_stride, float *u, ptrdiff_t u_stride) {
    const int TAPS = SIZE - 3;
    vec rows[8][5];
    NNP_UNROLL
    for (int j = 0; j < TAPS; j++) {
        vec t[5], left[8];
        NNP_UNROLL
        for (int i = 0; i < TAPS; i++) t[i] = winograd_get(whole, g + (TAPS * i + j) * g_stride + c, last);
        winograd_weight_axis(SIZE, t, left);
        NNP_UNROLL
        for (int i = 0; i < SIZE; i++) rows[i][j] = left[i];
    }
    NNP_UNROLL
    for (int i = 0; i < SIZE; i++) {
        vec t[8];
        winograd_weight_axis(SIZE, rows[i], t);
        NNP_UNROLL
        for (int j = 0; j < SIZE; j++) winograd_put(whole, u + (SIZE * i + j) * u_stride + c, last, t[j]);
    }
}

NNP_INLINE void winograd_weight_grad_vector(const int whole, ptrdiff_t c, vec_mask last, const int SIZE, const float *u,
                                            ptrdiff_t u_stride, float *g, ptrdiff_t g_stride) {
    const int TAPS = SIZE - 3;
    vec rows[5][8];
    NNP_UNROLL
    for (int j = 0; j < SIZE; j++) {
        vec t[8], left[5];
        NNP_UNROLL
        for (int i = 0; i < SIZE; i++) t[i] = winograd_get(whole, u + (SIZE * i + j) * u_stride + c, last);
        winograd_weight_grad_axis(SIZE, t, left);
        NNP_UNROLL
        for (int i = 0; i < TAPS; i++) rows[i][j] = left[i];
    }
    NNP_UNROLL
    for (int i = 0; i < TAPS; i++) {
        vec t[5];
        winograd_weight_grad_axis(SIZE, rows[i], t);
        NNP_UNROLL
        for (int j = 0; j < TAPS; j++) winograd_put(whole, g + (TAPS * i + j) * g_stride + c, last, t[j]);
    }
}

/* FUNCTION(whole, c, last, ...) for whole vectors of N channels, then for what is left. */
#define NNP_BY_VECTORS(N, FUNCTION, ...)                                                                               \
    do {                                                                                                               \
        ptrdiff_t c = 0;                                                                                               \
        vec_mask last = vec_first(NNP_VECTOR);                                                                         \
        for (; c + NNP_VECTOR <= (N); c += NNP_VECTOR) FUNCTION(1, c, last, __VA_ARGS__);                              \
        if (c < (N)) {                                                                                                 \
            last = vec_first((int)((N)-c));                                                                            \
            FUNCTION(0, c, last, __VA_ARGS__);                                                                         \
        }                                                                                                              \
    } while (0)

/* The same with `size` a constant. */
#define NNP_BY_SIZE(N, FUNCTION, ...)                                                                                  \
    do {                                                                                                               \
        if (size == 6)                                                                                                 \
            NNP_BY_VECTORS(N, FUNCTION, 6, __VA_ARGS__);                                                               \
        else                                                                                                           \
            NNP_BY_VECTORS(N, FUNCTION, 8, __VA_ARGS__);                                                               \
    } while (0)

static int patch_is_whole(const nnp_patch *p, int size) {
    return p->top == 0 && p->left == 0 && p->bottom == size && p->right == size;
}

static void winograd_input(int size, ptrdiff_t n, const nnp_patch *p, const float *image, float *v,
                           ptrdiff_t v_stride) {
    if (patch_is_whole(p, size))
        NNP_BY_SIZE(n, winograd_input_vector, 1, p, image, v, v_stride);
    else
        NNP_BY_SIZE(n, winograd_input_vector, 0, p, image, v, v_stride);
}

static void winograd_input_strips(int size, ptrdiff_t n, const nnp_patch *p, const float *image, float *v,
                                  ptrdiff_t v_strip) {
    const int all = patch_is_whole(p, size);
    for (; n > 0; n -= NNP_STRIP, image += NNP_STRIP, v += v_strip) {
        const ptrdiff_t channels = n < NNP_STRIP ? n : NNP_STRIP;
        if (all)
            NNP_BY_SIZE(channels, winograd_input_vector, 1, p, image, v, NNP_STRIP);
        else
            NNP_BY_SIZE(channels, winograd_input_vector, 0, p, image, v, NNP_STRIP);
    }
}

static void winograd_output_grad(int size, ptrdiff_t n, const nnp_patch *p, const float *image, float *z,
                                 ptrdiff_t z_stride) {
    if (patch_is_whole(p, 4))
        NNP_BY_SIZE(n, winograd_output_grad_vector, 1, p, image, z, z_stride);
    else
        NNP_BY_SIZE(n, winograd_output_grad_vector, 0, p, image, z, z_stride);
}

static void winograd_output(int size, ptrdiff_t n, const nnp_patch *p, const float *m, ptrdiff_t m_strip,
                            const float *bias, int relu, float *image) {
    const int all = patch_is_whole(p, 4);
    for (; n > 0; n -= NNP_STRIP, image += NNP_STRIP, m += m_strip) {
        const ptrdiff_t channels = n < NNP_STRIP ? n : NNP_STRIP;
        if (all)
            NNP_BY_SIZE(channels, winograd_output_vector, 1, p, m, NNP_STRIP, bias, relu, image);
        else
            NNP_BY_SIZE(channels, winograd_output_vector, 0, p, m, NNP_STRIP, bias, relu, image);
        if (bias != NULL) bias += NNP_STRIP;
    }
}

static void winograd_weight(int size, ptrdiff_t n, const float *g, ptrdiff_t g_stride, float *u, ptrdiff_t u_stride) {
    NNP_BY_SIZE(n, winograd_weight_vector, g, g_stride, u, u_stride);
}

static void winograd_weight_grad(int size, ptrdiff_t n, const float *u, ptrdiff_t u_stride, float *g,
                                 ptrdiff_t g_stride) {
    NNP_BY_SIZE(n, winograd_weight_grad_vector, u, u_stride, g, g_stride);
}
