#include "dispatch.h"
#include "frozen.h"
#include "geometry.h"
#include "runtime/cpu/device.h"

#include <type_traits>
#include <vector>

EQ_DECLARE_MATRIX(void unpack_panels(const PanelShape& s, const void* panels, void* values, DType dtype,
                                     ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T, class V>
static void unpack_as(const PanelShape& s, const T* panels, V* values, ThreadPool& pool) {
  constexpr int kPair = Panel<T>::kPair;
  const DepthBlocks<T> depth(s.k);
  const ColumnPanels columns{s.n};
  const std::int64_t units = depth.count * columns.count(), size = depth.padded_depth() * columns.padded();
  const std::int64_t k_step = s.transposed ? 1 : s.n, n_step = s.transposed ? s.k : 1;
  pool.parallel_for(s.matrices * units, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u) {
      const std::int64_t matrix = u / units, block = u % units / columns.count(), panel = u % columns.count();
      const std::int64_t width = columns.width(panel);
      const T* from = panels + matrix * size + packed_offset<T>(depth, columns, block, panel);
      V* to = values + matrix * s.k * s.n + depth.begin(block) * k_step + panel * kCols * n_step;
      for (std::int64_t k = 0; k < depth.length(block); ++k) {
        for (std::int64_t j = 0; j < columns.used(panel); ++j) {
          const T x = from[(k / kPair * width + j) * kPair + k % kPair];
          V& y = to[k * k_step + j * n_step];
          if constexpr (std::is_same_v<T, V>)
            y = x;
          else
            y = V(static_cast<float>(x));
        }
      }
    }
  });
}

template <class T>
static void unpack_from(const PanelShape& s, const T* panels, void* values, DType dtype, ThreadPool& pool) {
  if (dtype == DType::BF16)
    unpack_as(s, panels, static_cast<bf16*>(values), pool);
  else
    unpack_as(s, panels, static_cast<float*>(values), pool);
}

void unpack_panels(const PanelShape& s, const void* panels, void* values, DType dtype, ThreadPool& pool) {
  if (s.half)
    unpack_from(s, static_cast<const bf16*>(panels), values, dtype, pool);
  else
    unpack_from(s, static_cast<const float*>(panels), values, dtype, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

namespace {

class FrozenPanels final : public DerivedForm {
 public:
  explicit FrozenPanels(DType dtype) : dtype_(dtype) {}

  void* find(const FrozenForm::Key& key) const {
    for (const Packed& p : forms_)
      if (p.form.key == key) return p.panels.data();
    return nullptr;
  }
  void add(const FrozenForm& form, Tensor panels) { forms_.push_back({form, std::move(panels)}); }

  void restore(Buffer& buffer) override {
    const Packed& source = *exact();
    buffer.block = buffer.device->memory().allocate(values_bytes_);
    ++restored_;
    const PanelShape& s = source.form.shape;
    cpu(*buffer.device)
        .launch({"Unpack", {{s.matrices, s.k, s.n}}, 0, static_cast<double>(values_bytes_ + source.form.bytes)},
                [s, from = source.panels.data(), to = buffer.block.data, dtype = dtype_](ThreadPool& pool) {
                  EQ_DISPATCH_MATRIX(unpack_panels)(s, from, to, dtype, pool);
                });
  }

  void settle(Buffer& buffer) override {
    if (!buffer.block.data || restored_ >= kOften || !exact()) return;
    values_bytes_ = buffer.block.bytes;
    buffer.device->memory().free(buffer.block);
    buffer.block = {};
  }

 private:
  /// From so many restorations on the values stay: saving a model asks for them once, a training step every time.
  static constexpr int kOften = 8;

  struct Packed {
    FrozenForm form;
    Tensor panels;
  };

  /// A form that holds the values to the last bit, or null.
  const Packed* exact() const {
    for (const Packed& p : forms_)
      if (p.form.plain && (!p.form.shape.half || dtype_ == DType::BF16)) return &p;
    return nullptr;
  }

  const DType dtype_;
  std::vector<Packed> forms_;
  std::size_t values_bytes_ = 0;
  int restored_ = 0;
};

}  // namespace

void* frozen_panels(Device& device, const Tensor& weight, const FrozenForm& form, const PackPanels& pack) {
  auto& slot = weight.buffer->derived;
  if (!slot) slot = std::make_unique<FrozenPanels>(weight.dtype);
  auto& forms = static_cast<FrozenPanels&>(*slot);
  if (void* known = forms.find(form.key)) return known;
  Tensor panels = device.empty(DType::Bool, {static_cast<std::int64_t>(form.bytes)});
  pack(weight.data(), panels.data());
  forms.add(form, panels);
  return panels.data();
}

}  // namespace eq
#endif
