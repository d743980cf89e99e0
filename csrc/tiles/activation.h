/* Activations, element by element. A kind is a loop over whole vectors; what is left of an array goes through the same
 * loop by way of a buffer, so that no kind has code for it. */

#define EACH_ACTIVATION(X)                                                                                             \
    X(NNP_ABS)                                                                                                         \
    X(NNP_CLIP)                                                                                                        \
    X(NNP_ELU)                                                                                                         \
    X(NNP_ERF)                                                                                                         \
    X(NNP_EXP)                                                                                                         \
    X(NNP_GELU)                                                                                                        \
    X(NNP_GELU_TANH)                                                                                                   \
    X(NNP_HARDSIGMOID)                                                                                                 \
    X(NNP_HARDSWISH)                                                                                                   \
    X(NNP_LEAKY)                                                                                                       \
    X(NNP_LOG)                                                                                                         \
    X(NNP_MISH)                                                                                                        \
    X(NNP_RECIPROCAL)                                                                                                  \
    X(NNP_SCALE)                                                                                                       \
    X(NNP_SIGMOID)                                                                                                     \
    X(NNP_SILU)                                                                                                        \
    X(NNP_SOFTPLUS)                                                                                                    \
    X(NNP_SOFTSIGN)                                                                                                    \
    X(NNP_SQRT)                                                                                                        \
    X(NNP_TANH)                                                                                                        \
    X(NNP_THRESHOLD)

/* 2 z of GELU's approximation 0.5 x (1 + tanh(z)) = x / (1 + exp(-2 z)), z = sqrt(2 / pi) (x + 0.044715 x^3). */
#define GELU_OF_X 1.59576912f
#define GELU_OF_CUBE 0.0713548163f

NNP_INLINE vec gelu_argument(vec x) {
    return vec_mul(x, vec_mul_add(vec_mul(x, x), vec_set(GELU_OF_CUBE), vec_set(GELU_OF_X)));
}

NNP_INLINE vec activation_of(const int KIND, nnp_activation s, vec x) {
    const vec a = vec_set(s.a), b = vec_set(s.b), zero = vec_zero(), one = vec_set(1.0f);
    switch (KIND) {
    case NNP_ABS: return magnitude(x);
    case NNP_CLIP: return clamp(x, a, b);
    case NNP_ELU: {
        const vec x_or_0 = vec_select(vec_greater(x, zero), zero, x);
        const vec below = vec_mul(b, expm1_of_negative(vec_mul(vec_set(s.c), x_or_0)));
        return vec_select(vec_greater(x, zero), vec_mul(a, x), below);
    }
    case NNP_ERF: return erf_of(x);
    case NNP_EXP: return exp_of(x);
    case NNP_GELU: return vec_mul(x, normal_up_to(x, normal_of(magnitude(x))));
    case NNP_GELU_TANH: return vec_mul(x, sigmoid_of(gelu_argument(x)));
    case NNP_HARDSIGMOID: return clamp(vec_mul_add(x, a, b), zero, one);
    case NNP_HARDSWISH: return vec_mul(x, clamp(vec_mul_add(x, a, b), zero, one));
    case NNP_LEAKY: return vec_select(vec_greater(x, zero), x, vec_mul(a, x));
    case NNP_LOG: return log_of(x);
    case NNP_MISH: return vec_mul(x, mish_of(x).t);
    case NNP_RECIPROCAL: return vec_div(one, x);
    case NNP_SCALE: return vec_mul(a, x);
    case NNP_SIGMOID: return sigmoid_of(x);
    case NNP_SILU: return vec_mul(x, sigmoid_of(x));
    case NNP_SOFTPLUS: {
        const vec z = vec_mul(a, x), soft = log1p_of_part(exp_of_negative(negative(magnitude(z))));
        const vec log = vec_div(vec_add(vec_select(vec_greater(z, zero), z, zero), soft), a);
        return vec_select(vec_greater(z, b), x, log);
    }
    case NNP_SOFTSIGN: return vec_div(x, vec_add(one, magnitude(x)));
    case NNP_SQRT: return sqrt_of(x);
    case NNP_TANH: return tanh_of(x);
    default: return vec_select(vec_less_equal(x, a), b, x); /* NNP_THRESHOLD */
    }
}

/* dy f'(x), where v is x or y. Functions whose derivative tends to a constant have it from 100 on: infinity times zero
 * would be NaN. */
NNP_INLINE vec activation_grad_of(const int KIND, nnp_activation s, vec dy, vec v) {
    const vec a = vec_set(s.a), b = vec_set(s.b), zero = vec_zero(), one = vec_set(1.0f);
    const vec x = clamp(v, vec_set(-100.0f), vec_set(100.0f));
    switch (KIND) {
    case NNP_ABS:
        return vec_select(vec_greater(v, zero), dy, vec_select(vec_greater(zero, v), negative(dy), zero));
    case NNP_CLIP: return vec_select(vec_or(vec_less_equal(v, a), vec_less_equal(b, v)), zero, dy);
    case NNP_ELU:
        return vec_mul(dy, vec_select(vec_greater(v, zero), a, vec_mul(vec_set(s.c), vec_add(v, b))));
    case NNP_ERF:
        return vec_mul(dy, vec_mul(vec_set(1.12837917f), normal_of(vec_mul(vec_set(1.41421356f), magnitude(v))).density));
    case NNP_EXP: return vec_mul(dy, v);
    case NNP_GELU: {
        const normal n = normal_of(magnitude(v));
        const vec slope = vec_mul(clamp(v, vec_set(-14.0f), vec_set(14.0f)), vec_mul(vec_set(0.398942280f), n.density));
        return vec_mul(dy, vec_add(normal_up_to(v, n), slope));
    }
    case NNP_GELU_TANH: {
        const vec p = sigmoid_of(gelu_argument(x)), inner = vec_mul(vec_set(3.0f * GELU_OF_CUBE), vec_mul(x, x));
        const vec slope = vec_mul(x, vec_add(inner, vec_set(GELU_OF_X)));
        return vec_mul(dy, vec_mul(p, vec_mul_add(vec_sub(one, p), slope, one)));
    }
    case NNP_HARDSIGMOID:
        return vec_select(vec_greater(v, zero), vec_select(vec_greater(one, v), vec_mul(a, dy), zero), zero);
    case NNP_HARDSWISH: {
        const vec part = vec_mul_add(v, a, b), slope = vec_mul_add(vec_mul(vec_set(2.0f), a), v, b);
        const vec inside = vec_select(vec_less_equal(one, part), one, slope);
        return vec_select(vec_less_equal(part, zero), zero, vec_mul(dy, inside));
    }
    case NNP_LEAKY: return vec_mul(dy, vec_select(vec_greater(v, zero), one, a));
    case NNP_LOG: return vec_div(dy, v);
    case NNP_MISH: {
        const mish_parts m = mish_of(x);
        const vec slope = vec_mul(vec_mul(x, m.sigmoid), vec_mul(m.rest, vec_add(one, m.t)));
        return vec_mul(dy, vec_add(m.t, slope));
    }
    case NNP_RECIPROCAL: return negative(vec_mul(dy, vec_mul(v, v)));
    case NNP_SCALE: return vec_mul(a, dy);
    case NNP_SIGMOID: return vec_mul(dy, vec_mul(v, vec_sub(one, v)));
    case NNP_SILU: {
        const vec p = sigmoid_of(x);
        return vec_mul(dy, vec_mul(p, vec_mul_add(x, vec_sub(one, p), one)));
    }
    case NNP_SOFTPLUS: {
        const vec z = vec_mul(a, v);
        return vec_select(vec_greater(z, b), dy, vec_mul(dy, sigmoid_of(z)));
    }
    case NNP_SOFTSIGN: {
        const vec rest = vec_sub(one, magnitude(v));
        return vec_mul(dy, vec_mul(rest, rest));
    }
    case NNP_SQRT: return vec_div(dy, vec_add(v, v));
    case NNP_TANH: return vec_mul(dy, vec_mul(vec_sub(one, v), vec_add(one, v)));
    default: return vec_select(vec_less_equal(v, a), zero, dy); /* NNP_THRESHOLD */
    }
}

/* n is a multiple of NNP_VECTOR. */
static void activation_whole(nnp_activation s, ptrdiff_t n, const float *x, float *y) {
    switch (s.kind) {
#define ONE(KIND)                                                                                                      \
    case KIND:                                                                                                         \
        for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR) vec_store(y + i, activation_of(KIND, s, vec_load(x + i)));       \
        break;
        EACH_ACTIVATION(ONE)
#undef ONE
    }
}

static void activation_grad_whole(nnp_activation s, ptrdiff_t n, const float *dy, const float *v, float *dx) {
    switch (s.kind) {
#define ONE(KIND)                                                                                                      \
    case KIND:                                                                                                         \
        for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR)                                                                  \
            vec_store(dx + i, activation_grad_of(KIND, s, vec_load(dy + i), vec_load(v + i)));                         \
        break;
        EACH_ACTIVATION(ONE)
#undef ONE
    }
}

static void activation(nnp_activation s, ptrdiff_t n, const float *x, float *y) {
    const ptrdiff_t whole = n - n % NNP_VECTOR;
    float rest[NNP_VECTOR];
    activation_whole(s, whole, x, y);
    if (whole == n) return;
    vec_store(rest, load_part(x + whole, n - whole));
    activation_whole(s, NNP_VECTOR, rest, rest);
    store_part(y + whole, n - whole, vec_load(rest));
}

static void activation_grad(nnp_activation s, ptrdiff_t n, const float *dy, const float *v, float *dx) {
    const ptrdiff_t whole = n - n % NNP_VECTOR;
    float rest_dy[NNP_VECTOR], rest[NNP_VECTOR];
    activation_grad_whole(s, whole, dy, v, dx);
    if (whole == n) return;
    vec_store(rest_dy, load_part(dy + whole, n - whole));
    vec_store(rest, load_part(v + whole, n - whole));
    activation_grad_whole(s, NNP_VECTOR, rest_dy, rest, rest);
    store_part(dx + whole, n - whole, vec_load(rest));
}

#undef EACH_ACTIVATION

static void prelu(ptrdiff_t n, const float *x, const float *w, int w_step, float *y) {
    const vec same = vec_set(*w);
    for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR) {
        const vec v = load_part(x + i, n - i), a = w_step ? load_part(w + i, n - i) : same;
        store_part(y + i, n - i, vec_select(vec_greater(v, vec_zero()), v, vec_mul(a, v)));
    }
}

static void prelu_grad(ptrdiff_t n, const float *dy, const float *x, const float *w, int w_step, float *dx, float *dw) {
    const vec same = vec_set(*w), zero = vec_zero();
    for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR) {
        const vec v = load_part(x + i, n - i), g = load_part(dy + i, n - i), a = w_step ? load_part(w + i, n - i) : same;
        const vec_bool positive = vec_greater(v, zero);
        store_part(dw + i, n - i, vec_select(positive, zero, vec_mul(g, v)));
        store_part(dx + i, n - i, vec_select(positive, g, vec_mul(a, g)));
    }
}
