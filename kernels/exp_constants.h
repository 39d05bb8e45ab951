// The constants of hob's exponential functions, shared by reference.cc and math-inl.h. They are
// part of the numerical contract (docs/numerics.md): changing a digit changes results.
//
// Polynomials: minimax fits of the relative error, coefficients rounded to f32.
#ifndef HOB_KERNELS_EXP_CONSTANTS_H_
#define HOB_KERNELS_EXP_CONSTANTS_H_

#include <bit>
#include <cstdint>

namespace hob {

// Adding and subtracting 1.5 * 2^23 rounds |x| < 2^22 to the nearest even integer, and the integer
// stands in the low bits of the sum: bits(x + kRound) - kRoundBits.
inline constexpr float kRound = 0x1.8p23f;
inline constexpr int32_t kRoundBits = 0x4B400000;

inline constexpr float kLog2E = 0x1.715476p+0f;

// ln 2 in two parts: x - n * kLn2Hi is exact with fma for the n that occur.
inline constexpr float kLn2Hi = 0x1.62e430p-1f;
inline constexpr float kLn2Lo = -0x1.05c610p-29f;

// Outside of these e^x is 0 (below half the least subnormal) or infinity; clamping keeps 2^n in two
// factors that are both normal.
inline constexpr float kExpMin = -104.0f;
inline constexpr float kExpMax = 89.0f;

// e^r = 1 + r + r^2 (c2 + r (c3 + ...)) on |r| <= ln(2) / 2; relative error of the fit 3.1e-9.
inline constexpr float kExpC2 = 0x1.fffffcp-2f;
inline constexpr float kExpC3 = 0x1.555492p-3f;
inline constexpr float kExpC4 = 0x1.5558f2p-5f;
inline constexpr float kExpC5 = 0x1.1239d4p-7f;
inline constexpr float kExpC6 = 0x1.6a244ap-10f;

// 2^f = 1 + f (c1 + f (c2 + ...)) on |f| <= 1/2; relative error of the fit 9.1e-8.
inline constexpr float kExp2C1 = 0x1.62e42ap-1f;
inline constexpr float kExp2C2 = 0x1.ebf9bcp-3f;
inline constexpr float kExp2C3 = 0x1.c6b752p-5f;
inline constexpr float kExp2C4 = 0x1.3cea88p-7f;
inline constexpr float kExp2C5 = 0x1.5bba0ep-10f;

// The same for weights that are rounded to bf16, which loses up to 2^-8; relative error of the fit
// 2^-13.27.
inline constexpr float kExp2BF16C1 = 0x1.62f5fap-1f;
inline constexpr float kExp2BF16C2 = 0x1.f00c4cp-3f;
inline constexpr float kExp2BF16C3 = 0x1.c2a218p-5f;

// tanh x = x + x z (c0 + z (c1 + ...)), z = x^2, on |x| < kTanhSmall; relative error of the fit
// 1.7e-8. From kTanhMax on tanh is 1.
inline constexpr float kTanhSmall = 0.625f;
inline constexpr float kTanhMax = 16.0f;
inline constexpr float kTanhC0 = -0x1.555552p-2f;
inline constexpr float kTanhC1 = 0x1.110e1cp-3f;
inline constexpr float kTanhC2 = -0x1.b9258ap-5f;
inline constexpr float kTanhC3 = 0x1.58048ep-6f;
inline constexpr float kTanhC4 = -0x1.8f8de4p-8f;

// GELU: -2 sqrt(2 / pi), and that times 0.044715.
inline constexpr float kGeluC1 = -0x1.988454p+0f;
inline constexpr float kGeluC3 = -0x1.2444f2p-4f;

// Attention takes 2^n for zero where n is kExp2Min or less. The SIMD side makes two factors of 2^n:
// one with the biased exponent n - kExp2Min, which is 0 there, and kExp2Lift, the rest, which is
// part of the coefficients.
inline constexpr float kExp2Min = -64.0f;
inline constexpr float kExp2Lift = 0x1p63f;
static_assert(std::bit_cast<uint32_t>(kExp2Lift) >> 23 == 254 + static_cast<int>(kExp2Min));

}  // namespace hob

#endif  // HOB_KERNELS_EXP_CONSTANTS_H_
