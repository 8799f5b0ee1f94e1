// Copies to, from and within the GPU's memory, through page-locked staging.
#include <algorithm>

#include "kernels/elementwise/transfer/op.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/fault.h"
#include "runtime/cuda/graph.h"

namespace eq {

namespace {

/// What uploads hold in page-locked memory at a time, and how it is cut up.
constexpr std::size_t kUploadsInFlight = std::size_t{64} << 20;
constexpr std::size_t kUploadPiece = std::size_t{16} << 20;

}  // namespace

/// Takes staging memory of finished uploads back, until at most `room` bytes are under way.
void CudaDevice::recycle_uploads(std::size_t room) {
  while (!uploads_.empty()) {
    Upload& first = uploads_.front();
    if (!first.event)
      note(cudaStreamSynchronize(stream_));
    else if (uploading_ > room)
      note(cudaEventSynchronize(first.event));
    else if (cudaEventQuery(first.event) != cudaSuccess) {
      cudaGetLastError();  // not ready is no error
      return;
    }
    uploading_ -= first.staging.bytes;
    pinned_.give_back(first.staging);
    if (first.event) events_.give_back(first.event);
    uploads_.pop_front();
  }
}

void CudaDevice::queue_upload(void* to, const void* source, DType source_dtype, DType dtype, std::int64_t n) {
  const std::size_t size = dtype_size(dtype);
  const auto piece = static_cast<std::int64_t>(kUploadPiece / size);
  for (std::int64_t at = 0; at < n; at += piece) {
    const std::int64_t count = std::min(piece, n - at);
    const std::size_t bytes = static_cast<std::size_t>(count) * size;
    if (!recording_) recycle_uploads(kUploadsInFlight);
    Pinned staging = pinned_.take(bytes);
    transfer(staging.data, dtype,
             static_cast<const std::byte*>(source) + static_cast<std::size_t>(at) * dtype_size(source_dtype),
             source_dtype, count);
    const cudaError_t status = cudaMemcpyAsync(static_cast<std::byte*>(to) + static_cast<std::size_t>(at) * size,
                                               staging.data, bytes, cudaMemcpyHostToDevice, stream_);
    if (status != cudaSuccess) pinned_.give_back(staging);
    check_cuda(status, "upload");
    ++submitted_;
    if (recording_) {
      graph_->staging.push_back(staging);  // read again by every replay
    } else {
      // The bytes count from now on; without an event, until the stream has been waited for.
      uploads_.push_back({nullptr, staging});
      uploading_ += staging.bytes;
      uploads_.back().event = events_.record(stream_);
    }
  }
}

void CudaDevice::upload(const Tensor& t, const void* source, DType source_dtype) {
  check_type(source_dtype == t.dtype || (is_float(source_dtype) && is_float(t.dtype)), "cannot copy ",
             dtype_name(source_dtype), " values to a ", dtype_name(t.dtype), " tensor");
  queue_upload(t.data(), source, source_dtype, t.dtype, t.numel());
}

Tensor CudaDevice::stage(const void* table, std::size_t bytes) {
  Tensor t = empty(DType::Bool, {static_cast<std::int64_t>(bytes)});
  queue_upload(t.data(), table, DType::Bool, DType::Bool, t.numel());
  return t;
}

void CudaDevice::fill(void* p, int value, std::size_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemsetAsync(p, value, bytes, stream_), "fill");
  ++submitted_;
}

void CudaDevice::copy(const Tensor& to, const Tensor& from) {
  if (from.bytes() == 0 || to.data() == from.data()) return;
  check_cuda(cudaMemcpyAsync(to.data(), from.data(), from.bytes(), cudaMemcpyDeviceToDevice, stream_), "copy");
  ++submitted_;
}

void CudaDevice::read(const Tensor& t, void* destination, std::function<void(std::string)> done) {
  Pinned values, fault;
  cudaEvent_t event = nullptr;
  try {
    check_type(!recording_, "read: values exist only when the graph that is being recorded runs");
    if (t.bytes() > 0) {
      values = pinned_.take(t.bytes());
      check_cuda(cudaMemcpyAsync(values.data, t.data(), t.bytes(), cudaMemcpyDeviceToHost, stream_), "read");
    }
    if (faults_possible_) {
      // In stream order: what is launched after this read reports to the next one.
      fault = pinned_.take(sizeof(FaultRecord));
      check_cuda(cudaMemcpyAsync(fault.data, record_, sizeof(FaultRecord), cudaMemcpyDeviceToHost, stream_), "read");
      check_cuda(cudaMemsetAsync(record_, 0, sizeof(FaultRecord), stream_), "read");
      faults_possible_ = false;
    }
    event = events_.record(stream_);
  } catch (const std::exception& e) {
    // The copies that were queued write to memory that must not be used for anything else before they end.
    if (!recording_) note(cudaStreamSynchronize(stream_));
    pinned_.give_back(values);
    pinned_.give_back(fault);
    done(e.what());
    return;
  }
  completions_->push(++submitted_, event,
                     [this, values, fault, destination, stored = t.dtype, n = t.numel(),
                      done = std::move(done)](cudaError_t status) mutable {
                       std::string message = fault_of(status, reinterpret_cast<const FaultRecord*>(fault.data));
                       if (status == cudaSuccess)
                         transfer(destination, stored == DType::BF16 ? DType::F32 : stored, values.data, stored, n);
                       pinned_.give_back(values);
                       pinned_.give_back(fault);
                       done(std::move(message));
                     });
}

}  // namespace eq
