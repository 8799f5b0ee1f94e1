// Packed forms of frozen weights, kept with the weight's buffer (Buffer::packed) and counted by the allocator.
#pragma once

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/device.h"

namespace eq {

class FrozenPanels {
 public:
  /// What determines a packed form: which packer, element type, and sizes.
  using Key = std::array<std::int64_t, 8>;

  /// The packed form of a weight under `key`; `fill` queues the packing into fresh memory at the first use.
  template <class Fill>
  static void* get(Device& device, const Tensor& weight, const Key& key, std::size_t bytes, Fill fill) {
    auto& slot = weight.buffer->packed;
    if (!slot) slot = std::make_shared<FrozenPanels>();
    auto& forms = static_cast<FrozenPanels*>(slot.get())->forms_;
    for (const auto& [known, panels] : forms)
      if (known == key) return panels.data();
    Tensor panels = device.empty(DType::Bool, {static_cast<std::int64_t>(bytes)});
    fill(panels.data());
    forms.emplace_back(key, panels);
    return panels.data();
  }

 private:
  std::vector<std::pair<Key, Tensor>> forms_;
};

}  // namespace eq
