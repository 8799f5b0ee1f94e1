// Reads the arguments of one native call and writes its result. Every message names the op, the argument,
// what was expected and what came. TypeScript validates for people; this validates for memory safety.
#pragma once

#include <napi.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "context.h"

namespace eq::addon {

class Call {
 public:
  Call(const Napi::CallbackInfo& info, const char* op) : info_(info), op_(op), context_(Context::of(info.Env())) {}

  Napi::Env env() const { return info_.Env(); }
  const char* op() const { return op_; }
  Context& context() { return context_; }
  /// Stays alive for the whole call, whatever argument getters do.
  Device& device() {
    if (!device_) device_ = context_.shared_device();
    return *device_;
  }
  Napi::Value raw(std::size_t i) const { return info_[i]; }

  /// A copy that keeps the memory for the whole call: reading a later argument may run a getter that releases it.
  const Tensor& tensor(std::size_t i, const char* name) {
    return held_.emplace_back(context_.unwrap(env(), info_[i], op_, name));
  }
  /// The tensor inside the handle itself.
  Tensor& handle(std::size_t i, const char* name) { return context_.unwrap(env(), info_[i], op_, name); }
  /// An empty tensor for null or undefined.
  Tensor optional_tensor(std::size_t i, const char* name);
  std::vector<Tensor> tensors(std::size_t i, const char* name);
  double number(std::size_t i, const char* name) const;
  /// A whole number in [low, high].
  std::int64_t integer(std::size_t i, const char* name, std::int64_t low, std::int64_t high) const;
  bool boolean(std::size_t i, const char* name) const;
  std::string text(std::size_t i, const char* name) const;
  /// One of f32, bf16, f16, i32, bool.
  DType dtype(std::size_t i, const char* name) const;
  /// A dtype that tensors are stored as (not f16).
  DType storage(std::size_t i, const char* name) const;
  std::vector<std::int64_t> integers(std::size_t i, const char* name) const;
  Shape shape(std::size_t i, const char* name) const;
  template <class Enum>
  Enum choice(std::size_t i, const char* name, Enum last) const {
    return static_cast<Enum>(integer(i, name, 0, static_cast<std::int64_t>(last)));
  }

  void give(Tensor t) { result_ = context_.wrap(env(), std::move(t)); }
  void give(const std::vector<Tensor>& ts);
  void give(Napi::Value v) { result_ = v; }
  napi_value result() const { return result_; }
  /// After the op: frozen weights that it packed give their plain values back (see DerivedForm).
  void settle();

 private:
  const Napi::CallbackInfo& info_;
  const char* op_;
  Context& context_;
  std::shared_ptr<Device> device_;
  std::deque<Tensor> held_;  // grows without moving what is in it
  napi_value result_ = nullptr;
};

using OpFunction = void (*)(Call&);
struct Op {
  const char* name;
  OpFunction function;
};
/// Adds one JavaScript function per op to `target`.
void register_ops(Napi::Env env, Napi::Object target, const Op* begin, const Op* end);
template <std::size_t N>
void register_ops(Napi::Env env, Napi::Object target, const Op (&ops)[N]) {
  register_ops(env, target, ops, ops + N);
}

}  // namespace eq::addon
