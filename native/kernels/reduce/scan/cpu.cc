#include "op.h"

#include "kernels/convert.h"
#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void scan_compute(const ScanArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

static constexpr std::int64_t kScanColumns = 64;

template <class T>
static T stored(double v) {
  if constexpr (std::is_same_v<T, float>)
    return static_cast<float>(v);
  else
    return to_int32(v);
}

template <class T>
static void scan_columns(const ScanArgs& a, std::int64_t outer, std::int64_t col, std::int64_t n) {
  alignas(64) T buffer[kScanColumns];
  double running[kScanColumns];
  std::fill_n(running, n, a.product ? 1.0 : 0.0);
  for (std::int64_t k = 0; k < a.length; ++k) {
    const std::int64_t at = (outer * a.length + (a.reverse ? a.length - 1 - k : k)) * a.inner + col;
    const T* x = load_block(a.x, a.x_type, at, n, buffer);
    T* y = static_cast<T*>(a.y) + at;
    for (std::int64_t c = 0; c < n; ++c) {
      const double before = running[c], value = static_cast<double>(x[c]);
      running[c] = a.product ? before * value : before + value;
      y[c] = stored<T>(a.exclusive ? before : running[c]);
    }
  }
}

void scan_compute(const ScanArgs& a, ThreadPool& pool) {
  const std::int64_t tiles = (a.inner + kScanColumns - 1) / kScanColumns;
  const std::int64_t work = std::max<std::int64_t>(1, a.length * std::min(a.inner, kScanColumns));
  pool.parallel_for(a.outer * tiles, std::max<std::int64_t>(1, (1 << 14) / work),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t u = begin; u < end; ++u) {
                        const std::int64_t col = u % tiles * kScanColumns, n = std::min(kScanColumns, a.inner - col);
                        if (is_float(a.x_type))
                          scan_columns<float>(a, u / tiles, col, n);
                        else
                          scan_columns<std::int32_t>(a, u / tiles, col, n);
                      }
                    });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void scan_launch(Device& device, const OpInfo& info, const ScanArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(scan_compute)(args, pool); });
}

}  // namespace eq
#endif
