// ITI-GEN's direction alignment and semantic consistency loss with its gradient, in one launch. Formulas, fallback
// and gradient: packages/backend/src/fused/direction-alignment-loss.ts.
//
//   text [N, D], N = before * K * after; original [D]; means [K, D]; present: K flags
//   loss [], dtext [N, D], parts [3] = (alignment, consistency, fallback), cosines [K (K-1) / 2], all f32
//
// A text belongs to one context (combination of the other attributes) and pairs stay within a context: contexts are
// independent units of work, and sums over them are added in their order.
// Bytes: 8 N D. FLOPs: about 10 C K(K-1)/2 D, C = N / K. Launch-bound for the sizes of real runs (108 x 768).
#pragma once

#include <vector>

#include "kernels/norm/norm.h"

namespace eq {

struct DirectionDims {
  std::int64_t before, categories, after, depth;
  std::int64_t contexts() const { return before * after; }
  std::int64_t texts() const { return before * categories * after; }
  std::int64_t pairs() const { return categories * (categories - 1) / 2; }
  std::int64_t row(std::int64_t context, std::int64_t category) const {
    return (context / after * categories + category) * after + context % after;
  }
};

/// Unit differences at or below this length have no direction: the noise of f32 features.
constexpr float kDirectionFloor = 1e-6f;

struct DirectionArgs {
  DirectionDims dims;
  const void *text, *original, *means;
  DType text_type, original_type, means_type;
  float consistency;
  std::vector<std::uint8_t> present;
  float *loss, *dtext, *parts, *cosines;
  float* scratch;
  /// Layout of scratch, in floats: unit texts, their lengths and similarities to the original, unit image
  /// directions, means, original, cosines per context, and four sums per context as doubles.
  std::int64_t scratch_floats() const {
    const std::int64_t n = dims.texts(), c = dims.contexts();
    return (n + dims.pairs() + dims.categories + 1) * dims.depth + 2 * n + c * dims.pairs() + 8 * c + 16;
  }
};
void direction_alignment_launch(Device& device, const OpInfo& info, DirectionArgs args);

/// [loss, dtext, parts, cosines]
inline std::vector<Tensor> direction_alignment(Device& device, const Tensor& text, const Tensor& original,
                                               const Tensor& means, std::int64_t before, std::int64_t categories,
                                               std::int64_t after, float consistency,
                                               const std::vector<std::int64_t>& present) {
  const char* op = "DirectionAlignmentLoss";
  for (const Tensor* t : {&text, &original, &means}) check_float(op, "input", *t);
  check_type(text.shape.rank() == 2, op, ": text must have rank 2, got ", text.shape.str());
  const Shape expected{before, categories, after};  // checks the product
  check_range(categories <= 1 << 20, op, ": at most 2^20 categories, got ", categories);
  check_range(categories >= 2 && before >= 1 && after >= 1 && text.shape[0] == expected.numel() && text.shape[1] >= 1,
              op, ": text ", text.shape.str(), " is not ", before, " x ", categories, " x ", after, " features");
  const DirectionDims d{before, categories, after, text.shape[1]};
  check_range(original.numel() == d.depth && means.numel() == categories * d.depth, op, ": original ",
              original.shape.str(), " and means ", means.shape.str(), " do not fit text ", text.shape.str());
  check_range(static_cast<std::int64_t>(present.size()) == categories, op, ": present must have ", categories,
              " entries, got ", present.size());
  std::vector<Tensor> out{device.empty(DType::F32, {}), device.empty(DType::F32, text.shape),
                          device.empty(DType::F32, {3}), device.empty(DType::F32, {d.pairs()})};
  DirectionArgs args{d,
                     text.data(),
                     original.data(),
                     means.data(),
                     text.dtype,
                     original.dtype,
                     means.dtype,
                     consistency,
                     {},
                     out[0].data<float>(),
                     out[1].data<float>(),
                     out[2].data<float>(),
                     out[3].data<float>(),
                     nullptr};
  for (const std::int64_t flag : present) args.present.push_back(flag != 0);
  const Tensor scratch = device.empty(DType::F32, {args.scratch_floats()});
  args.scratch = scratch.data<float>();
  const double flops = 10.0 * static_cast<double>(d.contexts() * d.pairs() * d.depth);
  direction_alignment_launch(device, {op, {text.shape, means.shape}, flops, 8.0 * static_cast<double>(text.numel())},
                             std::move(args));
  return out;
}

}  // namespace eq
