// One thread owns one head: it packs what the products need, then walks blocks of keys (dK and dV complete when a
// block ends) and, inside, blocks of queries (dQ accumulates over the walk). The order of sums is fixed.
#include "op.h"

#include <algorithm>
#include <vector>

#include "kernels/attention/tile.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void attention_grad_compute(const AttentionGradArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

// Scores and their gradients of one block pair are 48 KB together; L1 and L2 hold them with the panels in use.
constexpr std::int64_t kQueries = 48;
constexpr std::int64_t kKeys = 128;

/// One head's operands in f32: rows [L][D], panels as tile.h wants them, and the sums.
struct Head {
  float *q, *dy, *q_panels, *dy_panels, *delta, *dq;
  float *k_columns, *v_columns, *k_panels;
  float *p, *ds, *dk, *dv;
};

static Head workspace(std::vector<float>& memory, const AttentionDims& d) {
  const std::int64_t width = panels(d.depth) * kPanel, keys = panels(d.lk) * kPanel;
  Head h{};
  const std::pair<float**, std::int64_t> parts[] = {
      {&h.q, d.lq * d.depth},
      {&h.dy, d.lq * d.depth},
      {&h.q_panels, d.lq * width},
      {&h.dy_panels, d.lq * width},
      {&h.delta, d.lq},
      {&h.dq, d.lq * width},
      {&h.k_columns, keys * d.depth},
      {&h.v_columns, keys * d.depth},
      {&h.k_panels, d.lk * width},
      {&h.p, kQueries * kKeys},
      {&h.ds, kQueries * kKeys},
      {&h.dk, kKeys * width},
      {&h.dv, kKeys * width},
  };
  std::int64_t total = 0;
  for (const auto& part : parts) total += part.second;
  memory.resize(static_cast<std::size_t>(total));
  float* at = memory.data();
  for (const auto& part : parts) {
    *part.first = at;
    at += part.second;
  }
  return h;
}

static void prepare(const AttentionGradArgs& a, std::int64_t b, std::int64_t head, Head& h, std::vector<float>& row) {
  const AttentionDims& d = a.dims;
  const std::int64_t c = d.channels();
  const std::int64_t q0 = b * d.lq * c + head * d.depth, k0 = b * d.lk * c + head * d.depth;
  row.resize(static_cast<std::size_t>(d.depth));
  for (std::int64_t i = 0; i < d.lq; ++i) {
    widen_row(a.q, a.q_type, q0 + i * c, h.q + i * d.depth, d.depth);
    widen_row(a.dy, a.dy_type, q0 + i * c, h.dy + i * d.depth, d.depth);
    widen_row(a.out, a.out_type, q0 + i * c, row.data(), d.depth);
    // A sum and a store in one loop would be compiled twice, for memory that may overlap and for memory that does not,
    // and the two round differently: the result would depend on where `row` lies.
    float delta = 0.0f;
    for (std::int64_t j = 0; j < d.depth; ++j) delta += row[static_cast<std::size_t>(j)] * h.dy[i * d.depth + j];
    h.delta[i] = delta;
    for (std::int64_t j = 0; j < d.depth; ++j) h.q[i * d.depth + j] *= d.scale;
  }
  pack_rows(a.q, a.q_type, q0, c, d.lq, d.depth, h.q_panels);
  pack_rows(a.dy, a.dy_type, q0, c, d.lq, d.depth, h.dy_panels);
  pack_columns(a.k, a.k_type, k0, c, d.lk, d.depth, h.k_columns);
  pack_columns(a.v, a.v_type, k0, c, d.lk, d.depth, h.v_columns);
  pack_rows(a.k, a.k_type, k0, c, d.lk, d.depth, h.k_panels);
  std::memset(h.dq, 0, static_cast<std::size_t>(d.lq * panels(d.depth) * kPanel) * sizeof(float));
}

/// p becomes exp(p - L), ds becomes scale * p * (ds - delta); zero where the query does not see the key.
static void soften(const AttentionDims& d, float* p, float* ds, float logsumexp, float delta, std::int64_t width,
                   std::int64_t visible) {
  for (std::int64_t j = 0; j < width; j += kLanes) {
    const vf prob = vexp(load(p + j) - logsumexp);
    store(p + j, prob);
    store(ds + j, prob * (load(ds + j) - delta) * d.scale);
  }
  for (std::int64_t j = std::max<std::int64_t>(visible, 0); j < width; ++j) p[j] = ds[j] = 0.0f;
}

static void block(const AttentionGradArgs& a, const float* logsumexp, Head& h, std::int64_t key, std::int64_t n,
                  std::int64_t first) {
  const AttentionDims& d = a.dims;
  const std::int64_t rows = std::min(kQueries, d.lq - first), np = panels(n), dp = panels(d.depth);
  const std::int64_t width = dp * kPanel;
  tile_product({h.q + first * d.depth, d.depth, 1}, rows, h.k_columns + key * d.depth, d.depth * kPanel, d.depth, np,
               h.p, kKeys, false);
  tile_product({h.dy + first * d.depth, d.depth, 1}, rows, h.v_columns + key * d.depth, d.depth * kPanel, d.depth, np,
               h.ds, kKeys, false);
  for (std::int64_t r = 0; r < rows; ++r)
    soften(d, h.p + r * kKeys, h.ds + r * kKeys, logsumexp[first + r], h.delta[first + r], np * kPanel,
           std::min(n, d.visible(first + r) - key));
  tile_product({h.p, 1, kKeys}, n, h.dy_panels + first * kPanel, d.lq * kPanel, rows, dp, h.dv, width, true);
  tile_product({h.ds, 1, kKeys}, n, h.q_panels + first * kPanel, d.lq * kPanel, rows, dp, h.dk, width, true);
  tile_product({h.ds, kKeys, 1}, rows, h.k_panels + key * kPanel, d.lk * kPanel, n, dp, h.dq + first * width, width,
               true);
}

static void run_head(const AttentionGradArgs& a, std::int64_t b, std::int64_t head, Head& h) {
  const AttentionDims& d = a.dims;
  const std::int64_t c = d.channels(), width = panels(d.depth) * kPanel;
  const float* logsumexp = a.logsumexp + (b * d.heads + head) * d.lq;
  for (std::int64_t key = 0; key < d.lk; key += kKeys) {
    const std::int64_t n = std::min(kKeys, d.lk - key);
    std::memset(h.dk, 0, static_cast<std::size_t>(n * width) * sizeof(float));
    std::memset(h.dv, 0, static_cast<std::size_t>(n * width) * sizeof(float));
    const std::int64_t seen_from = d.causal ? std::max<std::int64_t>(0, key - (d.lk - d.lq)) : 0;
    for (std::int64_t first = seen_from / kQueries * kQueries; first < d.lq; first += kQueries)
      block(a, logsumexp, h, key, n, first);
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t at = (b * d.lk + key + j) * c + head * d.depth;
      narrow_row(h.dk + j * width, 1.0f, a.dk, a.k_type, at, d.depth);
      narrow_row(h.dv + j * width, 1.0f, a.dv, a.v_type, at, d.depth);
    }
  }
  for (std::int64_t i = 0; i < d.lq; ++i)
    narrow_row(h.dq + i * width, 1.0f, a.dq, a.q_type, (b * d.lq + i) * c + head * d.depth, d.depth);
}

}  // namespace

void attention_grad_compute(const AttentionGradArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.dims.batch * a.dims.heads, 1, [&a](std::int64_t begin, std::int64_t end) {
    static thread_local std::vector<float> memory, row;
    Head h = workspace(memory, a.dims);
    for (std::int64_t i = begin; i < end; ++i) {
      prepare(a, i / a.dims.heads, i % a.dims.heads, h, row);
      run_head(a, i / a.dims.heads, i % a.dims.heads, h);
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void attention_grad_launch(Device& device, const OpInfo& info, const AttentionGradArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(attention_grad_compute)(args, pool); });
}

}  // namespace eq
#endif
