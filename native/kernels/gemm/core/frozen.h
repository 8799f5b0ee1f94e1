// Packed forms of frozen weights, kept with the weight's buffer and counted by the allocator. The first product packs a
// weight; once that call is over, panels that hold the values exactly replace them (half the memory), and a kernel or a
// read that asks for the values later has them unpacked again. Values asked for time and again are kept.
#pragma once

#include <array>

#include "runtime/device.h"

namespace eq {

/// How panels (geometry.h) correspond to a weight's values.
struct PanelShape {
  std::int64_t k, n, matrices;
  bool transposed;  ///< the values are [matrices, n, k] instead of [matrices, k, n]
  bool half;        ///< panels hold bf16
};

struct FrozenForm {
  /// What determines a packed form: which packer, element type, and sizes.
  using Key = std::array<std::int64_t, 8>;
  Key key;
  std::size_t bytes;
  PanelShape shape;
  /// Whether the panels are a plain product's, from which `shape` gives the values back.
  bool plain;
};

/// Queues the packing of a weight's values into fresh memory.
using PackPanels = std::function<void(const void* values, void* panels)>;

/// The packed form of a weight, made by `pack` at the first use.
void* frozen_panels(Device& device, const Tensor& weight, const FrozenForm& form, const PackPanels& pack);

}  // namespace eq
