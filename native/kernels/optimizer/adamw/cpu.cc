#include "kernels/blocks.h"
#include "op.h"
#include "runtime/cpu/device.h"

#include <cmath>

EQ_DECLARE_ISA(void adamw_compute(const AdamWArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

/// A fixed piece of one tensor: the unit of work and of summation.
struct Piece {
  const AdamWTensor* tensor;
  std::int64_t begin, end;
};
constexpr std::int64_t kPiece = std::int64_t{1} << 14;

double square_sum(const Piece& piece) {
  const Source g{piece.tensor->g, piece.tensor->g_type};
  BlockBuffer gs;
  double total = 0;
  for_blocks(piece.begin, piece.end, [&](std::int64_t at, std::int64_t n) {
    const float* from = g.block(at, n, gs);
    vf sum{};
    for_vectors(n, [&](auto load, auto) {
      const vf x = load(from);
      sum += x * x;
    });
    total += static_cast<double>(lane_sum(sum));
  });
  return total;
}

/// The numbers of one update, rounded once to f32.
struct Factors {
  float scale, decay, beta1, gain1, beta2, gain2, correction, epsilon, step_size;
};

EQ_INLINE vf square_root(vf x) {
  vf y;
  for (int i = 0; i < kLanes; ++i) y[i] = std::sqrt(x[i]);
  return y;
}

void update(const Piece& piece, const Factors& f) {
  const Source g{piece.tensor->g, piece.tensor->g_type};
  BlockBuffer gs;
  for_blocks(piece.begin, piece.end, [&](std::int64_t at, std::int64_t n) {
    const float* from = g.block(at, n, gs);
    float *p = piece.tensor->p + at, *m = piece.tensor->m + at, *v = piece.tensor->v + at;
    for_vectors(n, [&](auto load, auto store) {
      const vf gradient = f.scale * load(from);
      const vf first = f.beta1 * load(m) + f.gain1 * gradient;
      const vf second = f.beta2 * load(v) + f.gain2 * gradient * gradient;
      store(m, first);
      store(v, second);
      store(p, f.decay * load(p) - f.step_size * first / (square_root(second) / f.correction + f.epsilon));
    });
  });
}

}  // namespace

void adamw_compute(const AdamWArgs& a, ThreadPool& pool) {
  std::vector<Piece> pieces;
  for (const AdamWTensor& t : a.tensors)
    for (std::int64_t i = 0; i < t.n; i += kPiece) pieces.push_back({&t, i, std::min(t.n, i + kPiece)});
  std::vector<double> sums(pieces.size());
  const auto count = static_cast<std::int64_t>(pieces.size());
  pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      sums[static_cast<std::size_t>(i)] = square_sum(pieces[static_cast<std::size_t>(i)]);
  });
  double squares = 0;
  for (const double sum : sums) squares += sum;
  const AdamWNumbers& k = a.numbers;
  const double norm = std::sqrt(squares) * std::fabs(k.gradient_scale);
  *a.norm = static_cast<float>(norm);
  // A NaN norm must reach the parameters, where the caller's check finds it: std::min(1, NaN) would hide it.
  const double clip = k.max_norm > 0 && !(norm + 1e-6 <= k.max_norm) ? k.max_norm / (norm + 1e-6) : 1;
  const Factors f{static_cast<float>(k.gradient_scale * clip),
                  static_cast<float>(1 - k.learning_rate * k.weight_decay),
                  static_cast<float>(k.beta1),
                  static_cast<float>(1 - k.beta1),
                  static_cast<float>(k.beta2),
                  static_cast<float>(1 - k.beta2),
                  static_cast<float>(std::sqrt(1 - std::pow(k.beta2, k.step))),
                  static_cast<float>(k.epsilon),
                  static_cast<float>(k.learning_rate / (1 - std::pow(k.beta1, k.step)))};
  pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) update(pieces[static_cast<std::size_t>(i)], f);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void adamw_launch(Device& device, const OpInfo& info, AdamWArgs args) {
  cpu(device).launch(info, [args = std::move(args)](ThreadPool& pool) { EQ_DISPATCH(adamw_compute)(args, pool); });
}

}  // namespace eq
#endif
