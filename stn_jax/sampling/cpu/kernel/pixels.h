// The types of pixels. Sums are in float, and in double for pixels in double.

#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace stn_jax {

struct Bfloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

template <typename T>
using RealOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

inline float Load(float x) { return x; }
inline double Load(double x) { return x; }
inline float Load(Bfloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

inline float Load(Float16 x) {
  const uint32_t shifted = (x.bits & 0x7fffu) << 13, sign = (x.bits & 0x8000u) << 16;
  // the exponent's bias is 15, a float's 127: a product with 2^112, exact for subnormals too
  const float scaled = std::bit_cast<float>(shifted) * 0x1p112f;
  const uint32_t finite = std::bit_cast<uint32_t>(scaled);
  const uint32_t special = shifted | 0x7f800000u;  // infinity and NaN
  return std::bit_cast<float>((shifted >= 0x0f800000u ? special : finite) | sign);
}

template <typename T>
T Round(RealOf<T> x);

template <>
inline float Round<float>(float x) { return x; }

template <>
inline double Round<double>(double x) { return x; }

template <>
inline Bfloat16 Round<Bfloat16>(float x) {  // to the nearest, ties to even
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t nan = 0x7fc0, nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return {static_cast<uint16_t>(x == x ? nearest : nan)};
}

template <>
inline Float16 Round<Float16>(float x) {  // to the nearest, ties to even
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t size = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
  // below 2^-14: the sum with 0.5 leaves the bits of a subnormal
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
  uint32_t half = size < 0x38800000u ? subnormal : normal;
  half = size >= 0x477ff000u ? 0x7c00u : half;  // 65520 and more: infinity
  half = size > 0x7f800000u ? 0x7e00u : half;   // NaN
  return {static_cast<uint16_t>(half | sign)};
}

}  // namespace stn_jax
