/* Arithmetic of two operands, element by element; one of them may be a single number. */

NNP_INLINE vec arithmetic_vec(const int kind, vec a, vec b) {
    switch (kind) {
        case NNP_ADD: return vec_add(a, b);
        case NNP_SUB: return vec_sub(a, b);
        case NNP_MUL: return vec_mul(a, b);
        default: return vec_div(a, b);
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

static void arithmetic(int kind, ptrdiff_t n, const float *a, int a_step, const float *b, int b_step, float *y) {
    if (n <= 0) return;
    switch (kind) {
        case NNP_ADD: arithmetic_of(NNP_ADD, n, a, a_step, b, b_step, y); break;
        case NNP_SUB: arithmetic_of(NNP_SUB, n, a, a_step, b, b_step, y); break;
        case NNP_MUL: arithmetic_of(NNP_MUL, n, a, a_step, b, b_step, y); break;
        default: arithmetic_of(NNP_DIV, n, a, a_step, b, b_step, y);
    }
}
