// Storage types. TensorFlow.js knows float32, int32 and bool; whether a float32 tensor is stored as f32
// or bf16 is the backend's policy, so kernels accept both and accumulate in f32.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace eq {

/// F16 exists in files only: uploads widen it, no tensor stores it.
enum class DType : std::uint8_t { F32 = 0, BF16 = 1, I32 = 2, Bool = 3, F16 = 4 };

constexpr std::size_t dtype_size(DType t) {
  switch (t) {
    case DType::F32:
    case DType::I32:
      return 4;
    case DType::BF16:
    case DType::F16:
      return 2;
    case DType::Bool:
      return 1;
  }
  return 0;
}

constexpr const char* dtype_name(DType t) {
  switch (t) {
    case DType::F32:
      return "f32";
    case DType::BF16:
      return "bf16";
    case DType::I32:
      return "i32";
    case DType::Bool:
      return "bool";
    case DType::F16:
      return "f16";
  }
  return "?";
}

constexpr bool is_float(DType t) { return t == DType::F32 || t == DType::BF16 || t == DType::F16; }

/// bfloat16: the upper half of an IEEE f32. Rounds to nearest, ties to even; NaN stays NaN.
struct bf16 {
  std::uint16_t bits = 0;

  bf16() = default;
  constexpr explicit bf16(float f) {
    const auto u = std::bit_cast<std::uint32_t>(f);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? static_cast<std::uint16_t>((u >> 16) | 0x40u)
                                           : static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};
static_assert(sizeof(bf16) == 2);

/// Widens an IEEE half precision number (subnormals, infinities and NaN included).
constexpr float f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112u) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

}  // namespace eq
