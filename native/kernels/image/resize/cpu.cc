#include "op.h"

#include <algorithm>
#include <vector>

#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

namespace eq {

/// The taps of all rows and columns, computed once by the launcher's thread.
struct ResizePlan {
  std::vector<ResizeTap> rows, columns;
};

}  // namespace eq

EQ_DECLARE_ISA(void resize_compute(const ResizeArgs& a, const ResizePlan& plan, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

template <class T>
void nearest_row(const ResizeArgs& a, const ResizePlan& plan, const T* x, T* y) {
  for (std::int64_t c = 0; c < a.out_width; ++c)
    std::copy_n(x + plan.columns[static_cast<std::size_t>(c)].first * a.channels, a.channels, y + c * a.channels);
}

template <class T>
void bilinear_row(const ResizeArgs& a, const ResizePlan& plan, const T* top, const T* bottom, float weight, T* y) {
  for (std::int64_t c = 0; c < a.out_width; ++c) {
    const ResizeTap& tap = plan.columns[static_cast<std::size_t>(c)];
    const T *tl = top + tap.first * a.channels, *tr = top + tap.second * a.channels;
    const T *bl = bottom + tap.first * a.channels, *br = bottom + tap.second * a.channels;
    for (std::int64_t k = 0; k < a.channels; ++k) {
      const float l = static_cast<float>(tl[k]), r = static_cast<float>(tr[k]);
      const float m = static_cast<float>(bl[k]), s = static_cast<float>(br[k]);
      const float upper = l + (r - l) * tap.weight, lower = m + (s - m) * tap.weight;
      y[c * a.channels + k] = static_cast<T>(upper + (lower - upper) * weight);
    }
  }
}

template <class T>
void forward(const ResizeArgs& a, const ResizePlan& plan, ThreadPool& pool) {
  const std::int64_t in_row = a.in_width * a.channels, out_row = a.out_width * a.channels;
  pool.parallel_for(a.batch * a.out_height, std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(1, out_row)),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t u = begin; u < end; ++u) {
                        const ResizeTap& tap = plan.rows[static_cast<std::size_t>(u % a.out_height)];
                        const T* image = static_cast<const T*>(a.x) + u / a.out_height * a.in_height * in_row;
                        T* y = static_cast<T*>(a.y) + u * out_row;
                        if (a.bilinear)
                          bilinear_row(a, plan, image + tap.first * in_row, image + tap.second * in_row, tap.weight, y);
                        else
                          nearest_row(a, plan, image + tap.first * in_row, y);
                      }
                    });
}

/// Adds weight * dy's row, spread over the columns, to a row of dx.
template <class T>
void add_row(const ResizeArgs& a, const ResizePlan& plan, const T* dy, float weight, float* dx) {
  for (std::int64_t c = 0; c < a.out_width; ++c) {
    const ResizeTap& tap = plan.columns[static_cast<std::size_t>(c)];
    const float left = weight * (1 - tap.weight), right = weight * tap.weight;
    float *l = dx + tap.first * a.channels, *r = dx + tap.second * a.channels;
    const T* g = dy + c * a.channels;
    for (std::int64_t k = 0; k < a.channels; ++k) l[k] += left * static_cast<float>(g[k]);
    if (right != 0)
      for (std::int64_t k = 0; k < a.channels; ++k) r[k] += right * static_cast<float>(g[k]);
  }
}

/// Each row of dx gathers from the rows of dy that read it: no two threads write the same sum.
template <class T>
void backward(const ResizeArgs& a, const ResizePlan& plan, ThreadPool& pool) {
  const std::int64_t in_row = a.in_width * a.channels, out_row = a.out_width * a.channels;
  pool.parallel_for(a.batch * a.in_height, std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(1, in_row)),
                    [&](std::int64_t begin, std::int64_t end) {
                      std::vector<float> sums(static_cast<std::size_t>(in_row));
                      for (std::int64_t u = begin; u < end; ++u) {
                        const std::int64_t row = u % a.in_height;
                        const T* dy = static_cast<const T*>(a.x) + u / a.in_height * a.out_height * out_row;
                        std::fill(sums.begin(), sums.end(), 0.0f);
                        for (std::int64_t r = 0; r < a.out_height; ++r) {
                          const ResizeTap& tap = plan.rows[static_cast<std::size_t>(r)];
                          if (tap.first == row) add_row(a, plan, dy + r * out_row, 1 - tap.weight, sums.data());
                          if (tap.second == row && tap.weight != 0)
                            add_row(a, plan, dy + r * out_row, tap.weight, sums.data());
                        }
                        T* dx = static_cast<T*>(a.y) + u * in_row;
                        for (std::int64_t i = 0; i < in_row; ++i)
                          dx[i] = static_cast<T>(sums[static_cast<std::size_t>(i)]);
                      }
                    });
}

}  // namespace

void resize_compute(const ResizeArgs& a, const ResizePlan& plan, ThreadPool& pool) {
  if (a.type == DType::I32)
    forward<std::int32_t>(a, plan, pool);
  else if (a.type == DType::F32)
    a.backward ? backward<float>(a, plan, pool) : forward<float>(a, plan, pool);
  else
    a.backward ? backward<bf16>(a, plan, pool) : forward<bf16>(a, plan, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

static std::vector<ResizeTap> taps(const ResizeArgs& a, std::int64_t in, std::int64_t out) {
  const ResizeScale scale(in, out, a);
  std::vector<ResizeTap> result;
  result.reserve(static_cast<std::size_t>(out));
  for (std::int64_t i = 0; i < out; ++i) result.push_back(scale.tap(i));
  return result;
}

void resize_launch(Device& device, const OpInfo& info, const ResizeArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) {
    const ResizePlan plan{taps(args, args.in_height, args.out_height), taps(args, args.in_width, args.out_width)};
    EQ_DISPATCH(resize_compute)(args, plan, pool);
  });
}

}  // namespace eq
#endif
