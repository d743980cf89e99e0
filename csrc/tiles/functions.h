/* Elementary functions of a vector of floats. NaN stays NaN; denormal arguments and results count as zero. Units in the
 * last place are those of the exact result, at most so many off where FMA is fused; nnpar/activations.py has the errors
 * that were found. */

NNP_INLINE vec negative(vec x) { return vec_sub(vec_zero(), x); }
NNP_INLINE vec magnitude(vec x) { return vec_select(vec_greater(x, vec_zero()), x, negative(x)); }
NNP_INLINE vec with_sign_of(vec x, vec v) { return vec_select(vec_greater(x, vec_zero()), v, negative(v)); }

NNP_INLINE vec clamp(vec x, vec low, vec high) {
    x = vec_select(vec_greater(low, x), low, x);
    return vec_select(vec_greater(x, high), high, x);
}

/* 1 / (1 + exp(-x)) */
NNP_INLINE vec sigmoid_of(vec x) {
    const vec one = vec_set(1.0f), e = exp_of_negative(negative(magnitude(x)));
    return vec_div(vec_select(vec_greater(x, vec_zero()), one, e), vec_add(one, e));
}

/* With m = exp(-2 |x|) - 1: |tanh(x)| = -m / (2 + m). */
NNP_INLINE vec tanh_of(vec x) {
    const vec m = expm1_of_negative(vec_mul(vec_set(-2.0f), magnitude(x)));
    return with_sign_of(x, vec_div(negative(m), vec_add(vec_set(2.0f), m)));
}

/* log((1 + w) / (1 - w)) for |w| <= 1/3: 2 w + w^3 p(w^2), p minimax, off by a relative 2^-27. */
NNP_INLINE vec log_of_ratio(vec w) {
    const vec z = vec_mul(w, w);
    vec p = vec_mul_add(vec_set(0.280119866f), z, vec_set(0.280018061f));
    p = vec_mul_add(p, z, vec_set(0.400215268f));
    p = vec_mul_add(p, z, vec_set(0.666664183f));
    return vec_mul_add(vec_mul(w, z), p, vec_add(w, w));
}

/* log(1 + e) for 0 <= e <= 1. */
NNP_INLINE vec log1p_of_part(vec e) { return log_of_ratio(vec_div(e, vec_add(vec_set(2.0f), e))); }

/* x = m 2^k, m from sqrt(1/2) to sqrt(2). The bits of a float are nearly its logarithm; the compiler makes vectors. */
NNP_INLINE vec log_of(vec x) {
    float m[NNP_VECTOR], k[NNP_VECTOR];
    vec_store(m, x);
    for (int i = 0; i < NNP_VECTOR; i++) {
        int32_t bits;
        memcpy(&bits, m + i, 4);
        const int32_t exponent = (bits - 0x3F3504F3) >> 23;
        bits -= (int32_t)((uint32_t)exponent << 23);
        memcpy(m + i, &bits, 4);
        k[i] = (float)exponent;
    }
    const vec part = vec_sub(vec_load(m), vec_set(1.0f)), n = vec_load(k);
    vec log = log_of_ratio(vec_div(part, vec_add(vec_set(2.0f), part)));
    log = vec_mul_add(n, vec_set(0.693359375f), vec_mul_add(n, vec_set(-2.12194440e-4f), log));
    log = vec_select(vec_greater(x, vec_set(FLT_MAX)), x, log);
    log = vec_select(vec_greater(vec_set(FLT_MIN), x), vec_set(-INFINITY), log);
    log = vec_select(vec_greater(vec_zero(), x), vec_set(NAN), log);
    return vec_select(vec_is_nan(x), x, log);
}

NNP_INLINE vec sqrt_of(vec x) {
    float root[NNP_VECTOR];
    vec_store(root, x);
    for (int i = 0; i < NNP_VECTOR; i++) root[i] = sqrtf(root[i]);
    return vec_load(root);
}

/* The normal distribution beyond u >= 0: its density times sqrt(2 pi), exp(-u^2 / 2), and, as a multiple of that, its
 * upper tail: a polynomial in 1 / (1 + 0.23 u), minimax up to 14, off by a relative 2^-24. What rounding takes from
 * u^2 is given back. */
typedef struct {
    vec density, tail;
} normal;

NNP_INLINE normal normal_of(vec u) {
    const vec one = vec_set(1.0f), half = vec_set(0.5f);
    u = vec_select(vec_greater(u, vec_set(14.0f)), vec_set(14.0f), u);
    const vec square = vec_mul(u, u), lost = vec_sub_mul(square, u, u);
    const vec e = exp_of_negative(vec_mul(vec_set(-0.5f), square)), s = vec_div(one, vec_mul_add(u, vec_set(0.23f), one));
    vec p = vec_mul_add(vec_set(-0.0784672648f), s, vec_set(0.290413201f));
    p = vec_mul_add(p, s, vec_set(-0.278124988f));
    p = vec_mul_add(p, s, vec_set(0.301470518f));
    p = vec_mul_add(p, s, vec_set(-0.0329185948f));
    p = vec_mul_add(p, s, vec_set(0.119513363f));
    p = vec_mul_add(p, s, vec_set(0.0857630968f));
    p = vec_mul_add(p, s, vec_set(0.0923784301f));
    p = vec_mul_add(p, s, vec_set(-2.77609615e-5f));
    const normal result = {vec_mul_add(vec_mul(e, half), lost, e), p};
    return result;
}

/* The normal distribution up to x. */
NNP_INLINE vec normal_up_to(vec x, normal n) {
    const vec tail = vec_mul(n.density, n.tail);
    return vec_select(vec_greater(x, vec_zero()), vec_sub(vec_set(1.0f), tail), tail);
}

/* x + x p(x^2) up to 1, p minimax, off by a relative 2^-24; then 1 - 2 tails. */
NNP_INLINE vec erf_of(vec x) {
    const vec one = vec_set(1.0f), z = vec_mul(x, x), size = magnitude(x);
    const normal n = normal_of(vec_mul(vec_set(1.41421356f), size));
    vec p = vec_mul_add(vec_set(-0.000563142239f), z, vec_set(0.00491755130f));
    p = vec_mul_add(p, z, vec_set(-0.0267113112f));
    p = vec_mul_add(p, z, vec_set(0.112801798f));
    p = vec_mul_add(p, z, vec_set(-0.376123250f));
    p = vec_mul_add(p, z, vec_set(0.128379121f));
    const vec far = vec_sub(one, vec_mul(vec_set(2.0f), vec_mul(n.density, n.tail)));
    return vec_select(vec_greater(size, one), with_sign_of(x, far), vec_mul_add(x, p, x));
}

/* tanh(log(1 + exp(x))), the factor of Mish: with e = exp(-|x|) it is t = N / (N + D), and 1 - t = D / (N + D). */
typedef struct {
    vec t, rest, sigmoid;
} mish_parts;

NNP_INLINE mish_parts mish_of(vec x) {
    const vec one = vec_set(1.0f), two = vec_set(2.0f), e = exp_of_negative(negative(magnitude(x)));
    const vec_bool positive = vec_greater(x, vec_zero());
    const vec n = vec_select(positive, vec_mul_add(two, e, one), vec_mul(e, vec_add(e, two)));
    const vec d = vec_select(positive, vec_mul(two, vec_mul(e, e)), two), whole = vec_add(n, d);
    const mish_parts m = {vec_div(n, whole), vec_div(d, whole),
                          vec_div(vec_select(positive, one, e), vec_add(one, e))};
    return m;
}
