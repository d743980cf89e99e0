/* Exponentials. x = n ln 2 + r, |r| <= 0.3466; exp(r) = 1 + r + r^2 q(r), q minimax, off by a relative 2^-28. ln 2 comes
 * in two parts, the first so short that n times it is exact. */

/* exp(x) = 2^n (1 + fraction); n stands in the lowest bits of `shifted`, too. */
typedef struct {
    vec n, shifted, fraction;
} power;

NNP_INLINE power power_of(vec x) {
    const vec magic = vec_set(12582912.0f); /* 1.5 * 2^23 */
    const vec shifted = vec_mul_add(x, vec_set(1.44269504f), magic), n = vec_sub(shifted, magic);
    const vec r = vec_sub_mul(vec_sub_mul(x, n, vec_set(0.693359375f)), n, vec_set(-2.12194440e-4f));
    vec q = vec_mul_add(vec_set(0.00138145941f), r, vec_set(0.00836871937f));
    q = vec_mul_add(q, r, vec_set(0.0416683890f));
    q = vec_mul_add(q, r, vec_set(0.166665211f));
    q = vec_mul_add(q, r, vec_set(0.499999940f));
    const power p = {n, shifted, vec_mul_add(vec_mul(q, r), r, r)};
    return p;
}

/* exp(x) for x <= 0, within 1.02 units in the last place (all floats tried); 0 where it would be denormal; NaN stays
 * NaN. */
NNP_INLINE vec exp_of_negative(vec x) {
    const power p = power_of(x);
    return vec_scale_where(vec_greater_or_nan(x, vec_set(-87.3365479f)), vec_add(p.fraction, vec_set(1.0f)), p.n,
                           p.shifted);
}

/* The same of any x. Where it is 2^127 or more, half of it is scaled. */
NNP_INLINE vec exp_of(vec x) {
    const vec_bool large = vec_greater(x, vec_set(88.0f));
    const power p = power_of(x);
    const vec less = vec_select(large, vec_set(1.0f), vec_zero());
    const vec e = vec_scale_where(vec_greater_or_nan(x, vec_set(-87.3365479f)), vec_add(p.fraction, vec_set(1.0f)),
                                  vec_sub(p.n, less), vec_sub(p.shifted, less));
    return vec_select(vec_greater(x, vec_set(88.7228394f)), vec_set(INFINITY), vec_select(large, vec_add(e, e), e));
}

/* exp(x) - 1 for x <= 0: 2^n fraction + (2^n - 1), whose second part is exact. */
NNP_INLINE vec expm1_of_negative(vec x) {
    const vec one = vec_set(1.0f);
    x = vec_select(vec_less_equal(x, vec_set(-30.0f)), vec_set(-30.0f), x);
    const power p = power_of(x);
    const vec scale = vec_scale_where(vec_greater_or_nan(x, vec_set(-87.0f)), one, p.n, p.shifted);
    return vec_mul_add(scale, p.fraction, vec_sub(scale, one));
}
