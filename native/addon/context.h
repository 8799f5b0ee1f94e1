// Per-environment state of an addon: its device and the way finished reads get back to JavaScript.
// The main thread and every worker thread that loads the addon has its own.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "runtime/device.h"

namespace eq::addon {

/// Defined once per addon (CPU, CUDA): creates the device of this environment, the `index`th of its kind.
std::shared_ptr<Device> create_device(int index);
/// What devices there are, without opening any: [{ device, model, usable, reason }].
Napi::Array list_devices(Napi::Env env);
/// Describes processor or GPU, instruction sets and limits for `equipoise doctor`.
Napi::Object describe_device(Napi::Env env, Device& device);

class Context {
 public:
  explicit Context(Napi::Env env);
  ~Context();
  static Context& of(Napi::Env env) { return *env.GetInstanceData<Context>(); }

  /// The device, opened at its first use. Throws where it cannot be used, and after shutdown.
  Device& device() { return *shared_device(); }
  /// Chooses among several devices of the kind; only before the first use of another.
  void select(int index);
  const std::shared_ptr<Device>& shared_device();
  /// Starts a read into a fresh typed array; the promise resolves with it, or rejects with the fault.
  Napi::Promise read(Napi::Env env, const Tensor& t);
  Napi::Value read_sync(Napi::Env env, const Tensor& t);
  void shutdown();

  /// Wraps a tensor in a type-tagged JavaScript object; the garbage collector releases it if nobody did.
  napi_value wrap(napi_env env, Tensor t);
  /// The tensor behind a handle; `op` and `argument` name it in the TypeError if it is none of ours.
  Tensor& unwrap(napi_env env, napi_value value, const char* op, const char* argument);

 private:
  struct PendingRead;
  void complete(Napi::Env env, PendingRead& read);

  std::shared_ptr<Device> device_;
  int index_ = 0;
  bool closed_ = false;
  napi_threadsafe_function completions_ = nullptr;
  int pending_ = 0;
};

}  // namespace eq::addon
