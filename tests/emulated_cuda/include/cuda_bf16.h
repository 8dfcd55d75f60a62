// bfloat16 on the host: each operation is that of floats, rounded to the nearest, and to even where two are as near.
#pragma once

struct __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    template <class T, class = decltype((float)T())> __nv_bfloat16(T from) {
        float value = from;
        unsigned wide;
        memcpy(&wide, &value, sizeof wide);
        bits = value != value ? 0x7fff : (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
    }
    operator float() const {
        unsigned wide = (unsigned)bits << 16;
        float value;
        memcpy(&value, &wide, sizeof value);
        return value;
    }
};

struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };

#define BF16_OPERATOR(sign)                                                                                               \
    inline __nv_bfloat16 operator sign(__nv_bfloat16 a, __nv_bfloat16 b) { return (float)a sign(float) b; }               \
    inline __nv_bfloat162 operator sign(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x sign b.x, a.y sign b.y}; }
BF16_OPERATOR(+)
BF16_OPERATOR(-)
BF16_OPERATOR(*)
BF16_OPERATOR(/)
inline __nv_bfloat16 operator-(__nv_bfloat16 a) { return -(float)a; }
inline __nv_bfloat162 operator-(__nv_bfloat162 a) { return {-a.x, -a.y}; }

#define BF16_COMPARISON(sign) inline bool operator sign(__nv_bfloat16 a, __nv_bfloat16 b) { return (float)a sign(float) b; }
BF16_COMPARISON(<)
BF16_COMPARISON(>)
BF16_COMPARISON(<=)
BF16_COMPARISON(>=)
BF16_COMPARISON(==)
BF16_COMPARISON(!=)

#define BF16_FUNCTION(name, pair, function)                                      \
    inline __nv_bfloat16 name(__nv_bfloat16 a) { return function((float)a); }    \
    inline __nv_bfloat162 pair(__nv_bfloat162 a) { return {name(a.x), name(a.y)}; }
BF16_FUNCTION(hexp, h2exp, expf)
BF16_FUNCTION(hlog, h2log, logf)
BF16_FUNCTION(hsin, h2sin, sinf)
BF16_FUNCTION(hcos, h2cos, cosf)
BF16_FUNCTION(hsqrt, h2sqrt, sqrtf)
BF16_FUNCTION(hrsqrt, h2rsqrt, rsqrtf)
BF16_FUNCTION(htanh, h2tanh, tanhf)
BF16_FUNCTION(hrcp, h2rcp, 1 /)
BF16_FUNCTION(hceil, h2ceil, ceilf)
BF16_FUNCTION(hfloor, h2floor, floorf)
BF16_FUNCTION(htrunc, h2trunc, truncf)
BF16_FUNCTION(hrint, h2rint, rintf)
BF16_FUNCTION(__habs, __habs2, fabsf)

#define BF16_CHOICE(name, pair, function)                                                                      \
    inline __nv_bfloat16 name(__nv_bfloat16 a, __nv_bfloat16 b) { return function((float)a, (float)b); }       \
    inline __nv_bfloat162 pair(__nv_bfloat162 a, __nv_bfloat162 b) { return {name(a.x, b.x), name(a.y, b.y)}; }
BF16_CHOICE(__hmax, __hmax2, fmaxf)
BF16_CHOICE(__hmin, __hmin2, fminf)
BF16_CHOICE(__hmax_nan, __hmax2_nan, max_nan)
BF16_CHOICE(__hmin_nan, __hmin2_nan, min_nan)

inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) { return fmaf(a, b, c); }
inline bool __hisnan(__nv_bfloat16 a) { return isnan((float)a); }
inline bool __hisinf(__nv_bfloat16 a) { return isinf((float)a); }
