/* Winograd's F(4x4, 3x3): 4 x 4 outputs of a 3 x 3 convolution by 36 multiplications instead of 144,
 *
 *     y = A^T [(G g G^T) * (B^T d B)] A        with * element by element,
 *
 * for a filter g (3 x 3) and an input tile d (6 x 6); Lavin and Gray, "Fast algorithms for convolutional neural
 * networks", CVPR 2016, with the interpolation points 0, 1, -1, 2, -2 and infinity. The weight gradient of a tile is
 * G^T [(B^T d B) * (A dy A^T)] G. Each function here is one matrix from the left and from the right, for `n` channels,
 * or pairs of channels, side by side.
 */

/* B^T from the left. */
NNP_INLINE void winograd_input_axis(vec d[6]) {
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

/* A^T from the left: six to four. */
NNP_INLINE void winograd_output_axis(const vec m[6], vec y[4]) {
    const vec two = vec_set(2.0f), four = vec_set(4.0f), eight = vec_set(8.0f);
    const vec even = vec_add(m[1], m[2]), odd = vec_sub(m[1], m[2]);
    const vec even2 = vec_add(m[3], m[4]), odd2 = vec_sub(m[3], m[4]);
    y[0] = vec_add(vec_add(m[0], even), even2);
    y[1] = vec_mul_add(two, odd2, odd);
    y[2] = vec_mul_add(four, even2, even);
    y[3] = vec_add(vec_mul_add(eight, odd2, odd), m[5]);
}

/* A from the left: four to six. */
NNP_INLINE void winograd_output_grad_axis(const vec y[4], vec z[6]) {
    const vec two = vec_set(2.0f), four = vec_set(4.0f), eight = vec_set(8.0f);
    const vec even = vec_add(y[0], y[2]), odd = vec_add(y[1], y[3]);
    const vec even2 = vec_mul_add(four, y[2], y[0]), odd2 = vec_mul_add(eight, y[3], vec_mul(two, y[1]));
    z[0] = y[0];
    z[1] = vec_add(even, odd);
    z[2] = vec_sub(even, odd);
    z[3] = vec_add(even2, odd2);
    z[4] = vec_sub(even2, odd2);
    z[5] = y[3];
}

/* G from the left: three to six. */
NNP_INLINE void winograd_weight_axis(const vec g[3], vec u[6]) {
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

/* G^T from the left: six to three. */
NNP_INLINE void winograd_weight_grad_axis(const vec u[6], vec g[3]) {
    const vec sixth = vec_set(1.0f / 6), twelfth = vec_set(1.0f / 12), twentyfourth = vec_set(1.0f / 24);
    const vec minus = vec_mul(sixth, vec_add(u[1], u[2])), both = vec_add(u[3], u[4]);
    g[0] = vec_sub(vec_mul_add(twentyfourth, both, vec_mul(vec_set(0.25f), u[0])), minus);
    g[1] = vec_mul_add(twelfth, vec_sub(u[3], u[4]), vec_mul(sixth, vec_sub(u[2], u[1])));
    g[2] = vec_add(vec_sub(vec_mul(sixth, both), minus), u[5]);
}

/* A vector of the pixel at row i, column j, from channel c; zeros where there is none. `all` says that every pixel is
 * inside, `whole` that every channel is there; both are constants where this is used. */
NNP_INLINE vec patch_load(const int all, const int whole, const nnp_patch *p, int i, int j, const float *image,
                          ptrdiff_t c, vec_mask last) {
    if (!all && (i < p->top || i >= p->bottom || j < p->left || j >= p->right)) return vec_zero();
    image += p->first + i * p->row_stride + j * p->col_stride + c;
    return whole ? vec_load(image) : vec_load_first(image, last);
}

NNP_INLINE void winograd_put(const int whole, float *at, vec_mask last, vec value) {
    if (whole)
        vec_store(at, value);
    else
        vec_store_first(at, last, value);
}

NNP_INLINE void winograd_input_vector(const int all, const int whole, const nnp_patch *p, const float *image,
                                      ptrdiff_t c, vec_mask last, float *v, ptrdiff_t v_stride) {
    vec rows[6][6];
    NNP_UNROLL
    for (int j = 0; j < 6; j++) {
        vec d[6];
        NNP_UNROLL
        for (int i = 0; i < 6; i++) d[i] = patch_load(all, whole, p, i, j, image, c, last);
        winograd_input_axis(d);
        NNP_UNROLL
        for (int i = 0; i < 6; i++) rows[i][j] = d[i];
    }
    NNP_UNROLL
    for (int i = 0; i < 6; i++) {
        winograd_input_axis(rows[i]);
        NNP_UNROLL
        for (int j = 0; j < 6; j++) winograd_put(whole, v + (6 * i + j) * v_stride + c, last, rows[i][j]);
    }
}

NNP_INLINE void winograd_output_grad_vector(const int all, const int whole, const nnp_patch *p, const float *image,
                                            ptrdiff_t c, vec_mask last, float *z, ptrdiff_t z_stride) {
    vec rows[6][4];
    NNP_UNROLL
    for (int j = 0; j < 4; j++) {
        vec d[4], t[6];
        NNP_UNROLL
        for (int i = 0; i < 4; i++) d[i] = patch_load(all, whole, p, i, j, image, c, last);
        winograd_output_grad_axis(d, t);
        NNP_UNROLL
        for (int i = 0; i < 6; i++) rows[i][j] = t[i];
    }
    NNP_UNROLL
    for (int i = 0; i < 6; i++) {
        vec t[6];
        winograd_output_grad_axis(rows[i], t);
        NNP_UNROLL
        for (int j = 0; j < 6; j++) winograd_put(whole, z + (6 * i + j) * z_stride + c, last, t[j]);
    }
}

NNP_INLINE void winograd_output_vector(const int all, const int whole, const nnp_patch *p, const float *m,
                                       ptrdiff_t m_stride, const float *bias, ptrdiff_t c, vec_mask last,
                                       float *image) {
    vec columns[4][6];
    NNP_UNROLL
    for (int j = 0; j < 6; j++) {
        vec t[6], y[4];
        NNP_UNROLL
        for (int i = 0; i < 6; i++) {
            const float *at = m + (6 * i + j) * m_stride + c;
            t[i] = whole ? vec_load(at) : vec_load_first(at, last);
        }
        winograd_output_axis(t, y);
        NNP_UNROLL
        for (int i = 0; i < 4; i++) columns[i][j] = y[i];
    }
    vec add = vec_zero();
    if (bias != NULL) add = whole ? vec_load(bias + c) : vec_load_first(bias + c, last);
    image += p->first + c;
    NNP_UNROLL
    for (int i = 0; i < 4; i++) {
        vec y[4];
        winograd_output_axis(columns[i], y);
        NNP_UNROLL
        for (int j = 0; j < 4; j++)
            if (all || (i < p->bottom && j < p->right))
                winograd_put(whole, image + i * p->row_stride + j * p->col_stride, last, vec_add(y[j], add));
    }
}

/* Whole vectors of channels, then what is left. */
#define NNP_BY_VECTORS(N, CALL_WHOLE, CALL_LAST)                                                                       \
    do {                                                                                                               \
        ptrdiff_t c = 0;                                                                                               \
        vec_mask last = vec_first(NNP_VECTOR);                                                                         \
        for (; c + NNP_VECTOR <= (N); c += NNP_VECTOR) CALL_WHOLE;                                                     \
        if (c < (N)) {                                                                                                 \
            last = vec_first((int)((N) - c));                                                                          \
            CALL_LAST;                                                                                                 \
        }                                                                                                              \
    } while (0)

static int patch_is_whole(const nnp_patch *p, int size) {
    return p->top == 0 && p->left == 0 && p->bottom == size && p->right == size;
}

static void winograd_input(ptrdiff_t n, const nnp_patch *p, const float *image, float *v, ptrdiff_t v_stride) {
    if (patch_is_whole(p, 6))
        NNP_BY_VECTORS(n, winograd_input_vector(1, 1, p, image, c, last, v, v_stride),
                       winograd_input_vector(1, 0, p, image, c, last, v, v_stride));
    else
        NNP_BY_VECTORS(n, winograd_input_vector(0, 1, p, image, c, last, v, v_stride),
                       winograd_input_vector(0, 0, p, image, c, last, v, v_stride));
}

static void winograd_output_grad(ptrdiff_t n, const nnp_patch *p, const float *image, float *z, ptrdiff_t z_stride) {
    if (patch_is_whole(p, 4))
        NNP_BY_VECTORS(n, winograd_output_grad_vector(1, 1, p, image, c, last, z, z_stride),
                       winograd_output_grad_vector(1, 0, p, image, c, last, z, z_stride));
    else
        NNP_BY_VECTORS(n, winograd_output_grad_vector(0, 1, p, image, c, last, z, z_stride),
                       winograd_output_grad_vector(0, 0, p, image, c, last, z, z_stride));
}

static void winograd_output(ptrdiff_t n, const nnp_patch *p, const float *m, ptrdiff_t m_stride, const float *bias,
                            float *image) {
    if (patch_is_whole(p, 4))
        NNP_BY_VECTORS(n, winograd_output_vector(1, 1, p, m, m_stride, bias, c, last, image),
                       winograd_output_vector(1, 0, p, m, m_stride, bias, c, last, image));
    else
        NNP_BY_VECTORS(n, winograd_output_vector(0, 1, p, m, m_stride, bias, c, last, image),
                       winograd_output_vector(0, 0, p, m, m_stride, bias, c, last, image));
}

NNP_INLINE void winograd_weight_vector(const int whole, const float *g, ptrdiff_t g_stride, ptrdiff_t c, vec_mask last,
                                       float *u, ptrdiff_t u_stride) {
    vec rows[6][3];
    NNP_UNROLL
    for (int j = 0; j < 3; j++) {
        vec t[3], left[6];
        NNP_UNROLL
        for (int i = 0; i < 3; i++) {
            const float *at = g + (3 * i + j) * g_stride + c;
            t[i] = whole ? vec_load(at) : vec_load_first(at, last);
        }
        winograd_weight_axis(t, left);
        NNP_UNROLL
        for (int i = 0; i < 6; i++) rows[i][j] = left[i];
    }
    NNP_UNROLL
    for (int i = 0; i < 6; i++) {
        vec t[6];
        winograd_weight_axis(rows[i], t);
        NNP_UNROLL
        for (int j = 0; j < 6; j++) winograd_put(whole, u + (6 * i + j) * u_stride + c, last, t[j]);
    }
}

NNP_INLINE void winograd_weight_grad_vector(const int whole, const float *u, ptrdiff_t u_stride, ptrdiff_t c,
                                            vec_mask last, float *g, ptrdiff_t g_stride) {
    vec rows[3][6];
    NNP_UNROLL
    for (int j = 0; j < 6; j++) {
        vec t[6], left[3];
        NNP_UNROLL
        for (int i = 0; i < 6; i++) {
            const float *at = u + (6 * i + j) * u_stride + c;
            t[i] = whole ? vec_load(at) : vec_load_first(at, last);
        }
        winograd_weight_grad_axis(t, left);
        NNP_UNROLL
        for (int i = 0; i < 3; i++) rows[i][j] = left[i];
    }
    NNP_UNROLL
    for (int i = 0; i < 3; i++) {
        vec t[3];
        winograd_weight_grad_axis(rows[i], t);
        NNP_UNROLL
        for (int j = 0; j < 3; j++) winograd_put(whole, g + (3 * i + j) * g_stride + c, last, t[j]);
    }
}

static void winograd_weight(ptrdiff_t n, const float *g, ptrdiff_t g_stride, float *u, ptrdiff_t u_stride) {
    NNP_BY_VECTORS(n, winograd_weight_vector(1, g, g_stride, c, last, u, u_stride),
                   winograd_weight_vector(0, g, g_stride, c, last, u, u_stride));
}

static void winograd_weight_grad(ptrdiff_t n, const float *u, ptrdiff_t u_stride, float *g, ptrdiff_t g_stride) {
    NNP_BY_VECTORS(n, winograd_weight_grad_vector(1, u, u_stride, c, last, g, g_stride),
                   winograd_weight_grad_vector(0, u, u_stride, c, last, g, g_stride));
}
