// Attention as matrix products with the scores in memory, for what the fused kernels do not read: f32 and mixed storage
// (multiply-adds keep f32 precision), depths that are no multiple of eight or greater than 160. Batches and heads are
// taken in groups so that scores stay below kWorkspace bytes (or one head's).
#pragma once

#include "kernels/attention/backward/op.h"
#include "kernels/attention/forward/op.h"

namespace eq::flash {

constexpr std::int64_t kWorkspace = std::int64_t{1} << 28;

void unfused_attention(Device& device, const OpInfo& info, const AttentionArgs& args);
/// `delta` [B, H, Lq]: sums of dO O over a head's channels.
void unfused_attention_grad(Device& device, const OpInfo& info, const AttentionGradArgs& args, const float* delta);

}  // namespace eq::flash
