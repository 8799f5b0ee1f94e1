// Two passes. First K and V of every head are packed once: K as columns (for Q K^T), V as rows (for P V). Then
// every block of kQueries queries runs through the keys, kKeys at a time, with the online softmax.
#include "op.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/tile.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void attention_compute(const AttentionArgs& a, ThreadPool& pool))

namespace eq {

namespace {
// A block's scores and probabilities are 24 KB and its queries at most 48 x 512 floats: L1 and L2.
constexpr std::int64_t kQueries = 48;
constexpr std::int64_t kKeys = 128;
constexpr std::int64_t kMaxPanel = 32;  // the widest instruction set's panel

constexpr std::int64_t up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

struct Layout {
  std::int64_t k_head, v_head;  ///< floats per head
};
// Panel widths differ per instruction set; the widest bounds them all.
Layout layout(const AttentionDims& d) { return {up(d.lk, kMaxPanel) * d.depth, d.lk * up(d.depth, kMaxPanel)}; }
}  // namespace

}  // namespace eq

namespace eq::EQ_ISA {

namespace {

struct Work {
  float *q, *s, *o, *top, *total;
};

static Work workspace(std::vector<float>& memory, const AttentionDims& d) {
  const std::int64_t q = kQueries * d.depth, s = kQueries * kKeys, o = kQueries * panels(d.depth) * kPanel;
  memory.resize(static_cast<std::size_t>(q + s + o + 2 * kQueries));
  float* p = memory.data();
  return {p, p + q, p + q + s, p + q + s + o, p + q + s + o + kQueries};
}

/// Online softmax over one block of scores: s becomes exp(s - top), o and total are rescaled to the new top.
static void soften(Work& w, std::int64_t row, std::int64_t width, std::int64_t visible, std::int64_t o_width) {
  float* s = w.s + row * kKeys;
  // Keys past the end of the row's view count as -infinity.
  for (std::int64_t j = visible < 0 ? 0 : visible; j < width; ++j) s[j] = -std::numeric_limits<float>::infinity();
  vf top = load(s);
  for (std::int64_t j = kLanes; j < width; j += kLanes) top = vmax(top, load(s + j));
  const float block_top = hmax(top);
  const float new_top = block_top > w.top[row] ? block_top : w.top[row];
  if (new_top == -std::numeric_limits<float>::infinity()) {  // nothing visible yet
    for (std::int64_t j = 0; j < width; ++j) s[j] = 0.0f;
    return;
  }
  const float shrink = std::exp(w.top[row] - new_top);
  vf sum{};
  for (std::int64_t j = 0; j < width; j += kLanes) {
    const vf e = vexp(load(s + j) - new_top);
    store(s + j, e);
    sum += e;
  }
  w.total[row] = w.total[row] * shrink + hsum(sum);
  w.top[row] = new_top;
  if (shrink != 1.0f) {
    float* o = w.o + row * o_width;
    for (std::int64_t j = 0; j < o_width; j += kLanes) store(o + j, load(o + j) * shrink);
  }
}

static void block(const AttentionArgs& a, const float* k_packed, const float* v_packed, std::int64_t b, std::int64_t h,
                  std::int64_t first, Work& w) {
  const AttentionDims& d = a.dims;
  const std::int64_t rows = std::min(kQueries, d.lq - first), o_width = panels(d.depth) * kPanel;
  const std::int64_t base = (b * d.lq + first) * d.channels() + h * d.depth;
  for (std::int64_t r = 0; r < rows; ++r) {
    widen_row(a.q, a.q_type, base + r * d.channels(), w.q + r * d.depth, d.depth);
    for (std::int64_t i = 0; i < d.depth; ++i) w.q[r * d.depth + i] *= d.scale;
    w.top[r] = -std::numeric_limits<float>::infinity();
    w.total[r] = 0.0f;
  }
  std::memset(w.o, 0, static_cast<std::size_t>(rows * o_width) * sizeof(float));
  const std::int64_t end = d.visible(first + rows - 1);
  for (std::int64_t key = 0; key < end; key += kKeys) {
    const std::int64_t n = std::min(kKeys, end - key), width = panels(n) * kPanel;
    tile_product({w.q, d.depth, 1}, rows, k_packed + key * d.depth, d.depth * kPanel, d.depth, panels(n), w.s, kKeys, false);
    for (std::int64_t r = 0; r < rows; ++r)
      soften(w, r, width, std::min(n, d.visible(first + r) - key), o_width);
    tile_product({w.s, kKeys, 1}, rows, v_packed + key * kPanel, d.lk * kPanel, n, panels(d.depth), w.o, o_width, true);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    narrow_row(w.o + r * o_width, 1.0f / w.total[r], a.out, a.out_type, base + r * d.channels(), d.depth);
    a.logsumexp[(b * d.heads + h) * d.lq + first + r] = w.top[r] + std::log(w.total[r]);
  }
}

}  // namespace

void attention_compute(const AttentionArgs& a, ThreadPool& pool) {
  const AttentionDims& d = a.dims;
  const Layout l = layout(d);
  const std::int64_t heads = d.batch * d.heads;
  float* k_all = static_cast<float*>(a.scratch);
  float* v_all = k_all + heads * l.k_head;

  pool.parallel_for(heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t offset = i / d.heads * d.lk * d.channels() + i % d.heads * d.depth;
      pack_columns(a.k, a.k_type, offset, d.channels(), d.lk, d.depth, k_all + i * l.k_head);
      pack_rows(a.v, a.v_type, offset, d.channels(), d.lk, d.depth, v_all + i * l.v_head);
    }
  });

  const std::int64_t blocks = (d.lq + kQueries - 1) / kQueries;
  pool.parallel_for(heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    static thread_local std::vector<float> memory;
    Work w = workspace(memory, d);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t head = i / blocks;
      block(a, k_all + head * l.k_head, v_all + head * l.v_head, head / d.heads, head % d.heads, i % blocks * kQueries, w);
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

std::size_t attention_scratch_bytes(const AttentionArgs& a) {
  const Layout l = layout(a.dims);
  return static_cast<std::size_t>(a.dims.batch * a.dims.heads * (l.k_head + l.v_head)) * sizeof(float);
}

void attention_launch(Device& device, const OpInfo& info, const AttentionArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(attention_compute)(args, pool); });
}

}  // namespace eq
#endif
