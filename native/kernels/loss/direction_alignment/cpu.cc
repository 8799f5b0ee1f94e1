#include "kernels/blocks.h"
#include "op.h"
#include "runtime/cpu/device.h"

#include <cmath>

EQ_DECLARE_ISA(void direction_alignment_compute(const DirectionArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

float dot(const float* a, const float* b, std::int64_t n) {
  vf sum{};
  for_vectors(n, [&](auto load, auto) { sum += load(a) * load(b); });
  return lane_sum(sum);
}

/// y += factor * x
void add_scaled(float* y, const float* x, float factor, std::int64_t n) {
  for_vectors(n, [&](auto load, auto store) { store(y, load(y) + factor * load(x)); });
}

/// The sums of one context.
struct ContextSums {
  double alignment, hinge, matching;
  bool exists;
};

/// The pieces of the scratch memory.
struct Work {
  const DirectionArgs& a;
  const DirectionDims& d;
  float *unit, *length, *similarity, *image, *means, *original, *cosines;
  ContextSums* sums;

  explicit Work(const DirectionArgs& args) : a(args), d(args.dims) {
    const auto align = reinterpret_cast<std::uintptr_t>(args.scratch);
    sums = reinterpret_cast<ContextSums*>((align + 31) / 32 * 32);
    unit = reinterpret_cast<float*>(sums + d.contexts());
    image = unit + d.texts() * d.depth;
    means = image + d.pairs() * d.depth;
    original = means + d.categories * d.depth;
    length = original + d.depth;
    similarity = length + d.texts();
    cosines = similarity + d.texts();
  }
};
static_assert(sizeof(ContextSums) == 32);

/// Reads rows of any storage as f32.
void read_rows(const void* data, DType type, std::int64_t begin, std::int64_t n, float* to) {
  if (type == DType::F32)
    std::memcpy(to, static_cast<const float*>(data) + begin, static_cast<std::size_t>(n) * 4);
  else
    widen(static_cast<const bf16*>(data) + begin, to, n);
}

/// Scales x to unit length and returns its length. A zero or NaN stays visible as NaN.
float normalise(float* x, std::int64_t n) {
  const float length = std::sqrt(dot(x, x, n));
  for_vectors(n, [&](auto load, auto store) { store(x, load(x) / length); });
  return length;
}

/// Unit differences of the image means; returns whether every pair has one.
bool image_directions(const Work& w) {
  const DirectionDims& d = w.d;
  bool exists = true;
  float* to = w.image;
  for (std::int64_t i = 0; i < d.categories; ++i) {
    for (std::int64_t j = i + 1; j < d.categories; ++j, to += d.depth) {
      const float *first = w.means + i * d.depth, *second = w.means + j * d.depth;
      for_vectors(d.depth, [&](auto load, auto store) { store(to, load(first) - load(second)); });
      const float length = std::sqrt(dot(to, to, d.depth));
      // Written so that NaN counts as a direction and is seen in the loss.
      const bool none = length <= kDirectionFloor;
      exists = exists && !none;
      for_vectors(d.depth, [&](auto load, auto store) { store(to, none ? vf{} : load(to) / length); });
    }
  }
  for (const std::uint8_t present : w.a.present) exists = exists && present;
  return exists;
}

/// One pair in one context: its cosine, and its part of the gradient added to du of both texts.
float align_pair(const Work& w, const float* v, const float* u, const float* u2, float* du, float* du2, float weight,
                 bool& exists) {
  const std::int64_t n = w.d.depth;
  vf squares{}, along{};
  for_vectors(n, [&](auto load, auto) {
    const vf difference = load(u) - load(u2);
    squares += difference * difference;
    along += difference * load(v);
  });
  const float length = std::sqrt(lane_sum(squares));
  if (length <= kDirectionFloor) {
    exists = false;
    return 0;
  }
  const float cosine = lane_sum(along) / length;
  const float difference_factor = weight * cosine / length / length, image_factor = weight / length;
  for_vectors(n, [&](auto load, auto store) {
    const vf slope = difference_factor * (load(u) - load(u2)) - image_factor * load(v);
    store(du, load(du) + slope);
    store(du2, load(du2) - slope);
  });
  return cosine;
}

/// From du to dt, in place: the part along u drops out, and the length of the text divides.
void through_normalisation(const Work& w, std::int64_t row) {
  const float* u = w.unit + row * w.d.depth;
  float* du = w.a.dtext + row * w.d.depth;
  const float along = dot(u, du, w.d.depth), length = w.length[row];
  for_vectors(w.d.depth, [&](auto load, auto store) { store(du, (load(du) - along * load(u)) / length); });
}

/// The hinge of every pair of a context; its gradient is added to du.
double consistency(const Work& w, std::int64_t context, float weight) {
  const DirectionDims& d = w.d;
  for (std::int64_t k = 0; k < d.categories; ++k) {
    const std::int64_t row = d.row(context, k);
    w.similarity[row] = dot(w.original, w.unit + row * d.depth, d.depth);
  }
  double total = 0;
  for (std::int64_t i = 0; i < d.categories; ++i) {
    const std::int64_t row = d.row(context, i);
    std::int64_t open = 0;
    for (std::int64_t j = 0; j < d.categories; ++j) {
      if (j == i) continue;
      const float hinge = w.a.consistency - 0.5f * (w.similarity[row] + w.similarity[d.row(context, j)]);
      // Written so that NaN reaches the loss.
      if (hinge <= 0) continue;
      ++open;
      if (j > i) total += static_cast<double>(hinge);
    }
    add_scaled(w.a.dtext + row * d.depth, w.original, -0.5f * weight * static_cast<float>(open), d.depth);
  }
  return total;
}

void context_direction(const Work& w, std::int64_t context, float weight) {
  const DirectionDims& d = w.d;
  ContextSums sums{0, 0, 0, true};
  for (std::int64_t k = 0; k < d.categories; ++k) {
    const std::int64_t row = d.row(context, k);
    float* u = w.unit + row * d.depth;
    read_rows(w.a.text, w.a.text_type, row * d.depth, d.depth, u);
    w.length[row] = normalise(u, d.depth);
    std::fill_n(w.a.dtext + row * d.depth, d.depth, 0.0f);
    if (w.a.present[static_cast<std::size_t>(k)])
      sums.matching += 1 - static_cast<double>(dot(u, w.means + k * d.depth, d.depth));
  }
  const float* v = w.image;
  float* cosine = w.cosines + context * d.pairs();
  for (std::int64_t i = 0; i < d.categories; ++i) {
    for (std::int64_t j = i + 1; j < d.categories; ++j, v += d.depth, ++cosine) {
      const std::int64_t first = d.row(context, i) * d.depth, second = d.row(context, j) * d.depth;
      *cosine =
          align_pair(w, v, w.unit + first, w.unit + second, w.a.dtext + first, w.a.dtext + second, weight, sums.exists);
      sums.alignment += 1 - static_cast<double>(*cosine);
    }
  }
  sums.hinge = consistency(w, context, weight);
  for (std::int64_t k = 0; k < d.categories; ++k) through_normalisation(w, d.row(context, k));
  w.sums[context] = sums;
}

/// The gradient of a context where the cosine loss stands in for the directions.
void context_fallback(const Work& w, std::int64_t context, float weight) {
  const DirectionDims& d = w.d;
  const float share = -1 / static_cast<float>(d.contexts());
  for (std::int64_t k = 0; k < d.categories; ++k) {
    float* du = w.a.dtext + d.row(context, k) * d.depth;
    std::fill_n(du, d.depth, 0.0f);
    add_scaled(du, w.means + k * d.depth, share, d.depth);
  }
  consistency(w, context, weight);
  for (std::int64_t k = 0; k < d.categories; ++k) through_normalisation(w, d.row(context, k));
}

void read_constants(const Work& w) {
  const DirectionDims& d = w.d;
  read_rows(w.a.original, w.a.original_type, 0, d.depth, w.original);
  normalise(w.original, d.depth);
  read_rows(w.a.means, w.a.means_type, 0, d.categories * d.depth, w.means);
  for (std::int64_t k = 0; k < d.categories; ++k)
    if (!w.a.present[static_cast<std::size_t>(k)]) std::fill_n(w.means + k * d.depth, d.depth, 0.0f);
}

}  // namespace

void direction_alignment_compute(const DirectionArgs& a, ThreadPool& pool) {
  const Work w(a);
  const DirectionDims& d = a.dims;
  const std::int64_t contexts = d.contexts();
  const double weight = 1 / static_cast<double>(contexts * (d.categories - 1));
  read_constants(w);
  bool exists = image_directions(w);
  // About 64 K multiply-adds a piece.
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / (d.pairs() * d.depth + 1));
  pool.parallel_for(contexts, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) context_direction(w, c, static_cast<float>(weight));
  });
  double alignment = 0, hinge = 0, matching = 0;
  for (std::int64_t c = 0; c < contexts; ++c) {
    alignment += w.sums[c].alignment * weight;
    hinge += w.sums[c].hinge * weight;
    matching += w.sums[c].matching / static_cast<double>(contexts);
    exists = exists && w.sums[c].exists;
  }
  if (!exists) {
    alignment = matching;
    pool.parallel_for(contexts, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) context_fallback(w, c, static_cast<float>(weight));
    });
  }
  for (std::int64_t p = 0; p < d.pairs(); ++p) {
    double sum = 0;
    for (std::int64_t c = 0; c < contexts; ++c) sum += static_cast<double>(w.cosines[c * d.pairs() + p]);
    a.cosines[p] = static_cast<float>(sum / static_cast<double>(contexts));
  }
  a.parts[0] = static_cast<float>(alignment);
  a.parts[1] = static_cast<float>(hinge);
  a.parts[2] = exists ? 0.0f : 1.0f;
  *a.loss = static_cast<float>(alignment + hinge);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void direction_alignment_launch(Device& device, const OpInfo& info, DirectionArgs args) {
  cpu(device).launch(
      info, [args = std::move(args)](ThreadPool& pool) { EQ_DISPATCH(direction_alignment_compute)(args, pool); });
}

}  // namespace eq
#endif
