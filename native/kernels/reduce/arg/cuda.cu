// ArgMax and ArgMin by reduction.cuh: a part is the best value so far and where it was, 16 bytes.
#include "kernels/reduce/reduction.cuh"
#include "op.h"

namespace eq {

namespace {

struct Best {
  /// The value, negated for ArgMin; in double precision, which holds every input exactly.
  double key;
  /// -1: none yet.
  long long at;
};

struct ArgReduction {
  using Part = Best;
  std::int32_t* y;
  double sign;

  __device__ static Best kEmpty() { return {0, -1}; }
  /// NaN never beats a number, but is kept when it comes first: nothing beats the greatest value seen earliest.
  __device__ Best take(Best best, double x, std::int64_t r) const {
    double key = x * sign;
    if (key != key) {
      if (r != 0) return best;
      key = INFINITY;
    }
    return combine(best, {key, r});
  }
  __device__ Best combine(Best a, Best b) const {
    if (a.at < 0 || (b.at >= 0 && (b.key > a.key || (b.key == a.key && b.at < a.at)))) return b;
    return a;
  }
  __device__ void write(std::int64_t at, Best best) const {
    y[at] = best.at < 0 ? 0 : static_cast<std::int32_t>(best.at);
  }
};

}  // namespace

void arg_reduce_launch(Device& device, const OpInfo& info, const ArgReduceArgs& a) {
  launch_reduction(device, info, a.x, a.x_type, a.outer, a.reduced, a.inner,
                   ArgReduction{static_cast<std::int32_t*>(a.y), a.least ? -1.0 : 1.0});
}

}  // namespace eq
