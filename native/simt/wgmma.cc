// Products of a warpgroup from shared memory: async.h. Each warp computes its own 16 of the 64 rows.
//
// Compiled with more optimisation than the rest: a third of a large product's time is spent in `finish`.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "runtime/dtype.h"
#include "simt/async.h"
#include "simt/round.h"
#include "simt/scheduler.h"

namespace eq::simt {

namespace {

[[noreturn]] void fail_with(std::string what) { running().fail(std::move(what)); }

constexpr unsigned kRows = 16, kDepth = 16;
constexpr std::uint32_t kUnderWay = 0xffffffffu;

/// A matrix descriptor, bit by bit (PTX ISA, "Matrix Descriptor Format").
struct Descriptor {
  unsigned start, leading, stride, swizzle_bits;

  explicit Descriptor(std::uint64_t bits) {
    const auto field = [bits](int at) { return static_cast<unsigned>(bits >> at & 0x3fffu) << 4; };
    start = field(0);
    leading = field(16);
    stride = field(32);
    constexpr unsigned kBits[4] = {0, 3, 2, 1};  // none, 128, 64 and 32 bytes
    swizzle_bits = kBits[bits >> 62];
    constexpr std::uint64_t kUnused =
        std::uint64_t{3} << 14 | std::uint64_t{3} << 30 | std::uint64_t{7} << 46 | std::uint64_t{0x3ff} << 52;
    if (bits & kUnused) fail_with("uses a matrix descriptor with bits that mean nothing");
    if (bits >> 49 & 7) fail_with("uses a matrix descriptor with a base offset: not emulated");
  }

  /// Address of the 16-byte chunk that holds element (line, k): of the eight elements from k where the matrix lies
  /// along k (k-major), else from `line`. Strides as the ISA's "Strides" and CUTLASS's notes on canonical layouts give
  /// them:
  ///   k-major   rows of a swizzled atom lie 16 << bits bytes apart, groups of eight `stride`; the second eight of k
  ///             follow the first at once, or at `leading` without a swizzle
  ///   mn-major  an atom has 8 << bits lines in a row of chunks, and eight steps of k below one another; the next eight
  ///             steps are `stride` away and the next lines `leading`; without a swizzle the other way round
  unsigned chunk(unsigned line, unsigned k, bool along_k) const {
    unsigned at = start;
    if (along_k) {
      at += line / 8 * stride + line % 8 * (16u << swizzle_bits) + k / 8 * (swizzle_bits == 0 ? leading : 16);
    } else if (swizzle_bits == 0) {
      at += line / 8 * stride + k % 8 * 16 + k / 8 * leading;
    } else {
      const unsigned chunk = line / 8;
      at += (chunk >> swizzle_bits) * leading + (chunk & ((1u << swizzle_bits) - 1)) * 16 +
            k % 8 * (16u << swizzle_bits) + k / 8 * stride;
    }
    return swizzled(at, swizzle_bits);
  }
};

float value(std::uint16_t bits) {
  bf16 x;
  x.bits = bits;
  return static_cast<float>(x);
}

/// Where register i of a lane stands in a warp's sums [16, n] (PTX ISA, "Register Fragments" for D): lane 4 g + t has
/// rows g and g + 8, of every eight columns 2 t and 2 t + 1.
unsigned place(unsigned lane, unsigned i, unsigned n) {
  return (lane / 4 + i / 2 % 2 * 8) * n + i / 4 * 8 + lane % 4 * 2 + i % 2;
}

}  // namespace

/// The chunks of lines first .. first + lines at 16 steps of k, by line and k where along_k, else by k and line.
std::vector<Async::Chunk> Async::operand(std::uint32_t product, std::uint64_t descriptor, int first, int lines,
                                         bool along_k) {
  const Descriptor d(descriptor);
  std::vector<Chunk> chunks;
  chunks.reserve(static_cast<std::size_t>(lines) * 2);
  const auto add = [&](unsigned line, unsigned k) {
    Chunk c{d.chunk(line, k, along_k), {}};
    check_range(c.address, 16, "multiplies what lies at");
    if (writers_[c.address / 16] != 0) fail_with(concat("multiplies what a copy has yet to bring to ", c.address));
    races.product_load(window_ + c.address, 16, product);
    std::memcpy(c.values, window_ + c.address, 16);
    if (std::memcmp(c.values, async_view_.data() + c.address, 16) != 0)
      fail_with(concat("multiplies what was stored at ", c.address, " without a fence.proxy.async"));
    ++readers_[c.address / 16];
    chunks.push_back(c);
  };
  const auto begin = static_cast<unsigned>(first), end = static_cast<unsigned>(first + lines);
  if (along_k)
    for (unsigned line = begin; line < end; ++line)
      for (unsigned k = 0; k < kDepth; k += 8) add(line, k);
  else
    for (unsigned k = 0; k < kDepth; ++k)
      for (unsigned line = begin; line < end; line += 8) add(line, k);
  return chunks;
}

void Async::release(const std::vector<Chunk>& operand) {
  for (const Chunk& c : operand) {
    if (std::memcmp(c.values, window_ + c.address, 16) != 0)
      fail_with(concat("overwrote an operand of products under way, at ", c.address));
    --readers_[c.address / 16];
  }
}

Async::Sums& Async::sums_of(WarpState& warp, float* const (&lanes)[32], int n) {
  for (Sums& s : warp.sums)
    if (s.lanes[0] == lanes[0]) {
      if (s.n != n) fail_with("multiplies into sums that products of another shape still add to");
      return s;
    }
  if (!warp.fenced) fail_with("multiplies without a wgmma.fence since it could last touch the sums");
  Sums& s = warp.sums.emplace_back();
  std::copy_n(lanes, 32, s.lanes);
  s.n = n;
  s.values.resize(kRows * static_cast<std::size_t>(n));
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < static_cast<unsigned>(n) / 2; ++i) {
      s.values[place(lane, i, static_cast<unsigned>(n))] = lanes[lane][i];
      lanes[lane][i] = std::bit_cast<float>(kUnderWay);
    }
  return s;
}

void Async::product(unsigned warp, float* const (&sums)[32], int n, std::uint64_t a, std::uint64_t b,
                    bool transposed_b) {
  begin();
  if (n % 8 != 0 || n < 8 || n > 256) fail_with(concat("multiplies by ", n, " columns"));
  WarpState& w = warps_[warp];
  std::vector<WarpStep>& issues = issues_[warp / 4];
  const WarpStep issue = w.meeting.step;
  if (w.issued == issues.size())
    issues.push_back(issue);
  else if (!(issues[w.issued] == issue))
    fail_with("issues another product than its warpgroup");
  ++w.issued;
  Sums& s = sums_of(w, sums, n);
  ++s.products;
  w.products.push_back({&s, w.committed, w.issued, transposed_b,
                        operand(w.issued, a, static_cast<int>(warp % 4 * kRows), kRows, true),
                        operand(w.issued, b, 0, n, !transposed_b)});
}

/// Carries out the oldest product: sums of 16 exact products, added at once and cut.
void Async::finish(WarpState& warp) {
  Product& p = warp.products.front();
  release(p.a);
  release(p.b);
  Sums& s = *p.sums;
  const auto n = static_cast<unsigned>(s.n);
  double a[kRows][kDepth], b[kDepth][256];
  for (unsigned i = 0; i < kRows * 2; ++i)
    for (unsigned j = 0; j < 8; ++j) a[i / 2][i % 2 * 8 + j] = static_cast<double>(value(p.a[i].values[j]));
  for (unsigned i = 0; i < n * 2; ++i)
    for (unsigned j = 0; j < 8; ++j) {
      const auto x = static_cast<double>(value(p.b[i].values[j]));
      if (p.transposed_b)
        b[i / (n / 8)][i % (n / 8) * 8 + j] = x;
      else
        b[i % 2 * 8 + j][i / 2] = x;
    }
  for (unsigned row = 0; row < kRows; ++row) {
    double total[256];
    float* const to = s.values.data() + row * n;
    for (unsigned c = 0; c < n; ++c) total[c] = static_cast<double>(to[c]);
    for (unsigned k = 0; k < kDepth; ++k)
      for (unsigned c = 0; c < n; ++c) total[c] += a[row][k] * b[k][c];
    for (unsigned c = 0; c < n; ++c) to[c] = cut(total[c]);
  }
  races.products_ended(p.number);
  --s.products;
  warp.products.pop_front();
}

/// Sums that no product adds to any more become the threads'. From then on a fence must come before the next product.
void Async::give_back(WarpState& warp) {
  for (auto s = warp.sums.begin(); s != warp.sums.end();) {
    if (s->products != 0) {
      ++s;
      continue;
    }
    const auto n = static_cast<unsigned>(s->n);
    for (unsigned lane = 0; lane < 32; ++lane)
      for (unsigned i = 0; i < n / 2; ++i) {
        float& to = s->lanes[lane][i];
        if (std::bit_cast<std::uint32_t>(to) != kUnderWay) fail_with("wrote to sums while products added to them");
        to = s->values[place(lane, i, n)];
      }
    warp.fenced = false;
    s = warp.sums.erase(s);
  }
}

void Async::fence_products(unsigned warp) {
  begin();
  warps_[warp].fenced = true;
}

void Async::commit(unsigned warp) {
  begin();
  ++warps_[warp].committed;
}

void Async::wait(unsigned warp, int pending) {
  begin();
  WarpState& w = warps_[warp];
  while (!w.products.empty() && w.products.front().group + static_cast<unsigned>(pending) < w.committed) finish(w);
  give_back(w);
}

}  // namespace eq::simt
