// The tile kernels as their launchers see them: choice of the tile, parts of k, and operands brought into the form that
// the loaders read (tile_loader.cuh).
#pragma once

#include "kernels/gemm/core/tile_problem.cuh"
#include "runtime/device.h"

namespace eq::tile {

enum class Kind : unsigned char { Ffma, SmallMma, LargeMma };

struct Tiling {
  Kind kind;
  Grid grid;
};

/// What the choice of a tile depends on. Equal shapes give equal sums on a given device.
struct Shape3 {
  std::int64_t m, n, k, layers;
  bool half;        ///< operands are bf16
  bool keep_f32;    ///< the result is stored as f32
  bool splittable;  ///< k may be summed in parts
};
Tiling choose_tiling(Device& device, const char* op, const Shape3& shape);

/// out = epilogue(sum of `parts` matrices [m, n] of f32, in order).
void add_parts(Device& device, const OpInfo& info, const float* partial, unsigned parts, const Output& out);

/// Copies lines into dense lines of `padded` elements of another storage, zeros after their end. Line (i, j, l) comes
/// from element i strides[0] + j strides[1] + l strides[2], its elements `step` apart; lines with j beyond `present`
/// are zeros.
struct PackArgs {
  const void* from;
  DType from_type;
  std::int64_t dims[3], strides[3];
  std::int64_t present, length, padded;
  std::int64_t step = 1;
};
Tensor pack_lines(Device& device, const OpInfo& info, const PackArgs& args, DType to);
/// The same for a weight: if it is frozen, the copy is made once and kept with it under `use`.
Tensor pack_weight(Device& device, const OpInfo& info, const PackArgs& args, DType to, const Tensor& weight, int use);

/// Whether lines `pitch` apart may be read in chunks of 16 bytes as they lie.
inline bool lines_fit(const void* data, DType stored, DType wanted, std::int64_t pitch) {
  const auto chunk = static_cast<std::int64_t>(16 / dtype_size(wanted));
  return stored == wanted && pitch % chunk == 0 && reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}
inline std::int64_t padded_length(std::int64_t length) { return (length + 7) / 8 * 8; }

/// Whether rows `pitch` elements apart may be written (and the addend read) eight elements at a time.
inline bool rows_fit(const Output& out, std::int64_t pitch) {
  const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  return pitch % 8 == 0 && aligned(out.c) && (!out.epilogue.addend || aligned(out.epilogue.addend));
}

/// The same of a low-rank term, whose rows are then read eight elements at a time.
inline LowRank ready_low_rank(LowRank low) {
  const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  low.vectors = low.k % 8 == 0 && aligned(low.a) && aligned(low.b);
  return low;
}

/// A matrix whose lines fit: along k, or along the rows (columns) of the product.
struct Matrix {
  const void* data;
  bool along_k;
  std::int64_t pitch;
};

struct Gemm {
  DType type;  ///< of both operands: bf16 or f32
  std::int64_t m, n, k;
  Matrix a, b;
  Batches batches;
  LowRank low_rank;
  Output out;  ///< without m, n and vectors, which follow
};
/// m, n of 1 or more; k may be 0. Where there are several ways, the fastest (choice.h).
void gemm(Device& device, const OpInfo& info, const Gemm& g);
/// By the kernels of tile_mma.cuh and tile_ffma.cuh.
void gemm_built_in(Device& device, const OpInfo& info, const Gemm& g);

}  // namespace eq::tile
