#include "op.h"

#include <cstring>

#include "kernels/blocks.h"
#include "kernels/isa.h"
#include "runtime/status.h"
#if defined(__F16C__)
#include <immintrin.h>
#endif

EQ_DECLARE_ISA(void transfer_floats(void* y, DType y_type, const void* x, DType x_type, std::int64_t n))

namespace eq::EQ_ISA {

static void widen_f16(const std::uint16_t* x, float* y, std::int64_t n) {
  std::int64_t i = 0;
#if defined(__AVX512F__)
  // The masked form with all lanes: GCC 12 warns of an uninitialised value inside the other one.
  constexpr __mmask16 kAll = 0xffff;
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(y + i, _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i))));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
#endif
  for (; i < n; ++i) y[i] = f16_to_f32(x[i]);
}

static void to_f32(const void* x, DType x_type, std::int64_t at, float* y, std::int64_t n) {
  if (x_type == DType::F16)
    widen_f16(static_cast<const std::uint16_t*>(x) + at, y, n);
  else if (x_type == DType::BF16)
    widen(static_cast<const bf16*>(x) + at, y, n);
  else
    std::memcpy(y, static_cast<const float*>(x) + at, static_cast<std::size_t>(n) * sizeof(float));
}

void transfer_floats(void* y, DType y_type, const void* x, DType x_type, std::int64_t n) {
  BlockBuffer buffer;
  for_blocks(0, n, [&](std::int64_t at, std::int64_t count) {
    if (y_type == DType::F32) {
      to_f32(x, x_type, at, static_cast<float*>(y) + at, count);
    } else {
      to_f32(x, x_type, at, buffer.values, count);
      narrow(buffer.values, static_cast<bf16*>(y) + at, count);
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void transfer(void* y, DType y_type, const void* x, DType x_type, std::int64_t n) {
  if (y_type == x_type) {
    if (n > 0) std::memcpy(y, x, static_cast<std::size_t>(n) * dtype_size(y_type));
    return;
  }
  const bool known = is_float(x_type) && (y_type == DType::F32 || y_type == DType::BF16);
  check_type(known, "cannot copy ", dtype_name(x_type), " values to a ", dtype_name(y_type), " tensor");
  EQ_DISPATCH(transfer_floats)(y, y_type, x, x_type, n);
}

}  // namespace eq
#endif
