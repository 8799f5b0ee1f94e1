// Two passes. First K and V of every head are packed once: K as columns (for Q K^T), V as rows (for P V). Then
// every block of kQueries queries runs through the keys, kKeys at a time, with the online softmax.
#include "op.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/forward/operands.h"
#include "kernels/gemm/core/dispatch.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_MATRIX(void attention_compute(const AttentionArgs& a, ThreadPool& pool))

namespace eq {

namespace {
// A block's scores are 24 KB and its queries at most 48 x 512 numbers: L1 and L2. kKeys is a whole number of panels of
// every instruction set.
constexpr std::int64_t kQueries = 48;
constexpr std::int64_t kKeys = 128;
constexpr std::int64_t kMaxPanel = 32;  // the widest instruction set's panel

constexpr std::int64_t up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

struct Layout {
  std::int64_t k_head, v_head;  ///< floats per head
};
// Panel widths differ per instruction set; the widest bounds them all, and f32 bounds bf16.
Layout layout(const AttentionDims& d) {
  return {up(d.lk, kMaxPanel) * up(d.depth, 2), up(d.lk, 2) * up(d.depth, kMaxPanel)};
}
}  // namespace

}  // namespace eq

namespace eq::EQ_ISA {

namespace {

template <class Operands>
struct Work {
  using Element = typename Operands::Element;
  std::vector<Element> q, p;
  std::vector<float> s, o, top, total;

  void resize(const AttentionDims& d) {
    const auto n = [](std::int64_t x) { return static_cast<std::size_t>(x); };
    q.resize(n(kQueries * Operands::row_width(d.depth)));
    p.resize(n(kQueries * kKeys));
    s.resize(n(kQueries * kKeys));
    o.resize(n(kQueries * panels(d.depth) * kPanel));
    top.resize(n(kQueries));
    total.resize(n(kQueries));
  }
};

/// Online softmax over one block of scores: p = exp(scale s - top); o and total are rescaled to the new top.
template <class Operands>
static void soften(Work<Operands>& w, std::int64_t row, std::int64_t width, std::int64_t visible, float scale,
                   std::int64_t o_width) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  float* s = w.s.data() + row * kKeys;
  auto* p = w.p.data() + row * kKeys;
  float& top = w.top[static_cast<std::size_t>(row)];
  float& total = w.total[static_cast<std::size_t>(row)];
  for (std::int64_t j = 0; j < width; j += kLanes) store(s + j, load(s + j) * scale);
  // Keys past the end of the row's view count as -infinity.
  for (std::int64_t j = visible < 0 ? 0 : visible; j < width; ++j) s[j] = kNone;
  vf highest = load(s);
  for (std::int64_t j = kLanes; j < width; j += kLanes) highest = vmax(highest, load(s + j));
  const float block_top = hmax(highest);
  const float new_top = block_top > top ? block_top : top;
  if (new_top == kNone) {  // nothing visible yet
    for (std::int64_t j = 0; j < width; j += kLanes) store(p + j, vf{});
    return;
  }
  const float shrink = std::exp(top - new_top);
  vf sum{};
  for (std::int64_t j = 0; j < width; j += kLanes) {
    const vf e = vexp(load(s + j) - new_top);
    store(p + j, e);
    sum += e;
  }
  total = total * shrink + hsum(sum);
  top = new_top;
  if (shrink != 1.0f) {
    float* o = w.o.data() + row * o_width;
    for (std::int64_t j = 0; j < o_width; j += kLanes) store(o + j, load(o + j) * shrink);
  }
}

template <class Operands>
static void block(const AttentionArgs& a, const typename Operands::Element* k, const typename Operands::Element* v,
                  std::int64_t b, std::int64_t h, std::int64_t first, Work<Operands>& w) {
  const AttentionDims& d = a.dims;
  const std::int64_t rows = std::min(kQueries, d.lq - first), o_width = panels(d.depth) * kPanel;
  const std::int64_t base = (b * d.lq + first) * d.channels() + h * d.depth;
  for (std::int64_t r = 0; r < rows; ++r)
    Operands::load_query(a.q, a.q_type, base + r * d.channels(), d.depth,
                         w.q.data() + r * Operands::row_width(d.depth));
  std::fill(w.top.begin(), w.top.end(), -std::numeric_limits<float>::infinity());
  std::fill(w.total.begin(), w.total.end(), 0.0f);
  std::fill(w.o.begin(), w.o.end(), 0.0f);
  const std::int64_t end = d.visible(first + rows - 1);
  for (std::int64_t key = 0; key < end; key += kKeys) {
    const std::int64_t n = std::min(kKeys, end - key), width = panels(n) * kPanel;
    Operands::scores(w.q.data(), rows, k, key, n, d, w.s.data(), kKeys);
    for (std::int64_t r = 0; r < rows; ++r)
      soften(w, r, width, std::min(n, d.visible(first + r) - key), d.scale, o_width);
    Operands::mix(w.p.data(), kKeys, rows, v, key, n, d, w.o.data(), o_width);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto i = static_cast<std::size_t>(r);
    narrow_row(w.o.data() + r * o_width, 1.0f / w.total[i], a.out, a.out_type, base + r * d.channels(), d.depth);
    a.logsumexp[(b * d.heads + h) * d.lq + first + r] = w.top[i] + std::log(w.total[i]);
  }
}

template <class Operands>
static void compute(const AttentionArgs& a, ThreadPool& pool) {
  using Element = typename Operands::Element;
  const AttentionDims& d = a.dims;
  const Layout l = layout(d);
  const std::int64_t heads = d.batch * d.heads;
  auto* k_all = static_cast<Element*>(a.scratch);
  auto* v_all = k_all + heads * l.k_head;

  pool.parallel_for(heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t offset = i / d.heads * d.lk * d.channels() + i % d.heads * d.depth;
      Operands::pack_keys(a.k, a.k_type, offset, d.channels(), d, k_all + i * l.k_head);
      Operands::pack_values(a.v, a.v_type, offset, d.channels(), d, v_all + i * l.v_head);
    }
  });

  const std::int64_t blocks = (d.lq + kQueries - 1) / kQueries;
  pool.parallel_for(heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    static thread_local Work<Operands> w;
    w.resize(d);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t head = i / blocks;
      block<Operands>(a, k_all + head * l.k_head, v_all + head * l.v_head, head / d.heads, head % d.heads,
                      i % blocks * kQueries, w);
    }
  });
}

}  // namespace

void attention_compute(const AttentionArgs& a, ThreadPool& pool) {
#if defined(__AVX512BF16__)
  if (a.q_type == DType::BF16 && a.k_type == DType::BF16 && a.v_type == DType::BF16) {
    compute<PairedOperands>(a, pool);
    return;
  }
#endif
  compute<WideOperands>(a, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

std::size_t attention_scratch_bytes(const AttentionArgs& a) {
  const Layout l = layout(a.dims);
  return static_cast<std::size_t>(a.dims.batch * a.dims.heads * (l.k_head + l.v_head)) * sizeof(float);
}

void attention_launch(Device& device, const OpInfo& info, const AttentionArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH_MATRIX(attention_compute)(args, pool); });
}

}  // namespace eq
#endif
