/* Arithmetic of two operands, element by element; one of them may be a single number. */

NNP_INLINE vec one_where(vec_bool p) { return vec_select(p, vec_set(1.0f), vec_zero()); }

NNP_INLINE vec arithmetic_vec(const int kind, vec a, vec b) {
    switch (kind) {
        case NNP_ADD: return vec_add(a, b);
        case NNP_SUB: return vec_sub(a, b);
        case NNP_MUL: return vec_mul(a, b);
        case NNP_DIV: return vec_div(a, b);
        case NNP_MAX: return vec_select(vec_or(vec_greater(a, b), vec_is_nan(a)), a, b);
        case NNP_MIN: return vec_select(vec_or(vec_greater(b, a), vec_is_nan(a)), a, b);
        case NNP_LESS: return one_where(vec_greater(b, a));
        case NNP_LESS_EQUAL: return one_where(vec_less_equal(a, b));
        case NNP_EQUAL: return one_where(vec_equal(a, b));
        case NNP_KEEP: return vec_select(vec_equal(b, vec_zero()), vec_zero(), a);
        case NNP_DROP: return vec_select(vec_equal(b, vec_zero()), a, vec_zero());
        default: return vec_select(vec_equal(a, b), vec_set(0.5f), one_where(vec_greater(a, b)));
    }
}

NNP_INLINE void arithmetic_of(const int kind, ptrdiff_t n, const float *a, int a_step, const float *b, int b_step,
                              float *y) {
    const vec a0 = vec_set(*a), b0 = vec_set(*b);
    for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR) {
        const vec va = a_step ? load_part(a + i, n - i) : a0, vb = b_step ? load_part(b + i, n - i) : b0;
        store_part(y + i, n - i, arithmetic_vec(kind, va, vb));
    }
}

#define NNP_ARITHMETIC(KIND)                                                                                           \
    case KIND: arithmetic_of(KIND, n, a, a_step, b, b_step, y); break

static void arithmetic(int kind, ptrdiff_t n, const float *a, int a_step, const float *b, int b_step, float *y) {
    if (n <= 0) return;
    switch (kind) {
        NNP_ARITHMETIC(NNP_ADD);
        NNP_ARITHMETIC(NNP_SUB);
        NNP_ARITHMETIC(NNP_MUL);
        NNP_ARITHMETIC(NNP_DIV);
        NNP_ARITHMETIC(NNP_MAX);
        NNP_ARITHMETIC(NNP_MIN);
        NNP_ARITHMETIC(NNP_LESS);
        NNP_ARITHMETIC(NNP_LESS_EQUAL);
        NNP_ARITHMETIC(NNP_EQUAL);
        NNP_ARITHMETIC(NNP_KEEP);
        NNP_ARITHMETIC(NNP_DROP);
        default: arithmetic_of(NNP_SHARE, n, a, a_step, b, b_step, y);
    }
}

#undef NNP_ARITHMETIC
