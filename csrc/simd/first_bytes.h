/* Some first bytes of a vector's, for instruction sets without masks for bytes. Four and more as two overlapping words:
 * bytes that are stored one by one cannot be loaded together for a dozen cycles. */
static inline vec_bool vec_bytes_equal_first(const uint8_t *p, int n, uint8_t b) {
    uint64_t all = 0;
    if (n >= 4) {
        uint32_t low, high;
        memcpy(&low, p, 4), memcpy(&high, p + n - 4, 4);
        all = low | (uint64_t)high << 8 * (n - 4);
    } else
        for (int i = 0; i < n; i++) all |= (uint64_t)p[i] << 8 * i;
    uint8_t bytes[8];
    memcpy(bytes, &all, 8);
    return vec_bytes_equal(bytes, b);
}

static inline void vec_store_bytes_first(uint8_t *p, int n, vec v) {
    uint64_t all = 0;
    vec_store_bytes((uint8_t *)&all, v);
    if (n >= 4) {
        const uint32_t low = (uint32_t)all, high = (uint32_t)(all >> 8 * (n - 4));
        memcpy(p, &low, 4), memcpy(p + n - 4, &high, 4);
    } else
        for (int i = 0; i < n; i++) p[i] = (uint8_t)(all >> 8 * i);
}
