/* Vectors along memory whose last one may be a part. */

NNP_INLINE vec load_part(const float *p, ptrdiff_t n) {
    return n >= NNP_VECTOR ? vec_load(p) : vec_load_first(p, vec_first((int)n));
}

NNP_INLINE wide wide_part(const float *p, ptrdiff_t n) {
    return n >= NNP_VECTOR ? wide_of_floats(p) : wide_of(load_part(p, n));
}

NNP_INLINE void store_part(float *p, ptrdiff_t n, vec v) {
    if (n >= NNP_VECTOR)
        vec_store(p, v);
    else
        vec_store_first(p, vec_first((int)n), v);
}

/* Memory that goes by once. Where it is written and not read, the processor fetches a line before it stores to it, and
 * starts too late to hide that; where several rows go by at once, it notices too late. 2 KB ahead are enough. */
enum { AHEAD = 512 };

NNP_INLINE vec load_part_of_stream(const float *p, ptrdiff_t n) {
    NNP_PREFETCH(p + AHEAD);
    return load_part(p, n);
}

NNP_INLINE void store_part_of_stream(float *p, ptrdiff_t n, vec v) {
    NNP_PREFETCH(p + AHEAD);
    store_part(p, n, v);
}

static int is_aligned(const float *p) { return (uintptr_t)p % (NNP_VECTOR * sizeof(float)) == 0; }

NNP_INLINE vec_bool bytes_equal_part(const uint8_t *p, ptrdiff_t n, uint8_t b) {
    return n >= NNP_VECTOR ? vec_bytes_equal(p, b) : vec_bytes_equal_first(p, (int)n, b);
}

NNP_INLINE void store_bytes_part(uint8_t *p, ptrdiff_t n, vec v) {
    if (n >= NNP_VECTOR)
        vec_store_bytes(p, v);
    else
        vec_store_bytes_first(p, (int)n, v);
}

/* Where the vector at i begins if all are to be whole: the last one overlaps the one before, so that some elements are
 * computed twice. Only what is shorter than a vector is left a part. */
NNP_INLINE ptrdiff_t whole_vector(ptrdiff_t i, ptrdiff_t n) {
    return i + NNP_VECTOR <= n || n < NNP_VECTOR ? i : n - NNP_VECTOR;
}
