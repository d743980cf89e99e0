/* Some first bytes of a vector's, for instruction sets without masks for bytes. */
static inline vec_bool vec_bytes_equal_first(const uint8_t *p, int n, uint8_t b) {
    uint8_t all[NNP_VECTOR] = {0};
    for (int i = 0; i < n; i++) all[i] = p[i];
    return vec_bytes_equal(all, b);
}

static inline void vec_store_bytes_first(uint8_t *p, int n, vec v) {
    uint8_t all[NNP_VECTOR];
    vec_store_bytes(all, v);
    for (int i = 0; i < n; i++) p[i] = all[i];
}
