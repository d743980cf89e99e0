/* exp(x) for x <= 0, within 1.02 units in the last place (all floats tried); 0 where it would be denormal; NaN stays
 * NaN. x = n ln 2 + r, |r| <= 0.3466; exp(r) = 1 + r + r^2 q(r), q minimax, off by a relative 2^-28. ln 2 comes in two
 * parts, the first so short that n times it is exact. */
NNP_INLINE vec exp_of_negative(vec x) {
    const vec magic = vec_set(12582912.0f); /* 1.5 * 2^23: with it added, n stands in the lowest bits */
    const vec shifted = vec_mul_add(x, vec_set(1.44269504f), magic), n = vec_sub(shifted, magic);
    const vec r = vec_sub_mul(vec_sub_mul(x, n, vec_set(0.693359375f)), n, vec_set(-2.12194440e-4f));
    vec q = vec_mul_add(vec_set(0.00138145941f), r, vec_set(0.00836871937f));
    q = vec_mul_add(q, r, vec_set(0.0416683890f));
    q = vec_mul_add(q, r, vec_set(0.166665211f));
    q = vec_mul_add(q, r, vec_set(0.499999940f));
    const vec e = vec_add(vec_mul_add(vec_mul(q, r), r, r), vec_set(1.0f));
    return vec_scale_where(vec_greater_or_nan(x, vec_set(-87.3365479f)), e, n, shifted);
}
