#include "op.h"

#include "kernels/convert.h"
#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void cast_compute(const CastArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

static void truncate(const float* x, std::int32_t* y, std::int64_t n) {
  std::int32_t outside = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const bool fits = x[i] >= -2147483648.0f && x[i] < 2147483648.0f;
    outside |= !fits;
    y[i] = static_cast<std::int32_t>(fits ? x[i] : 0.0f);
  }
  if (outside)
    for (std::int64_t i = 0; i < n; ++i) y[i] = to_int32(x[i]);
}

template <class T>
static void to_bool(const T* x, std::uint8_t* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] != 0;
}

static void cast_range(const CastArgs& a, std::int64_t begin, std::int64_t end) {
  alignas(64) float floats[kBlock];
  alignas(64) std::int32_t ints[kBlock];
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    if (a.y_type == DType::F32) {
      float* y = static_cast<float*>(a.y) + at;
      const float* x = load_block(a.x, a.x_type, at, n, y);
      if (x != y) std::copy(x, x + n, y);
    } else if (a.y_type == DType::BF16) {
      narrow(load_block(a.x, a.x_type, at, n, floats), static_cast<bf16*>(a.y) + at, n);
    } else if (a.y_type == DType::I32) {
      std::int32_t* y = static_cast<std::int32_t*>(a.y) + at;
      if (is_float(a.x_type)) {
        truncate(load_block(a.x, a.x_type, at, n, floats), y, n);
      } else {
        const std::int32_t* x = load_block(a.x, a.x_type, at, n, y);
        if (x != y) std::copy(x, x + n, y);
      }
    } else {
      std::uint8_t* y = static_cast<std::uint8_t*>(a.y) + at;
      if (is_float(a.x_type))
        to_bool(load_block(a.x, a.x_type, at, n, floats), y, n);
      else
        to_bool(load_block(a.x, a.x_type, at, n, ints), y, n);
    }
  });
}

void cast_compute(const CastArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.n, 1 << 15, [&a](std::int64_t begin, std::int64_t end) { cast_range(a, begin, end); });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void cast_launch(Device& device, const OpInfo& info, const CastArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(cast_compute)(args, pool); });
}

}  // namespace eq
#endif
