// Events: model.h.
#include <chrono>

#include "simt/cudart/model.h"

using namespace eq::cudart;

namespace {

cudaError_t create(const Entry& entry, cudaEvent_t* event, unsigned flags) {
  if (entry.refused()) return entry.result();
  *event = new CUevent_st{entry.device(), flags};
  model().events.insert(*event);
  return cudaSuccess;
}

void check_waitable(const Entry& entry, cudaEvent_t event) {
  entry.check_handle(model().events, event);
  if (event->captured) violation(entry.call(), "the event was recorded in a capture");
}

bool reached(cudaEvent_t event) {
  return !event->stream || !model().streams.contains(event->stream) || event->stream->done >= event->position;
}

}  // namespace

extern "C" {

cudaError_t cudaEventCreate(cudaEvent_t* event) { return create(Entry("cudaEventCreate", kDevice), event, 0); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return create(Entry("cudaEventCreateWithFlags", kDevice), event, flags);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Entry entry("cudaEventDestroy", kDevice);
  entry.check_handle(model().events, event);
  // Its time would be written after its end.
  if (!reached(event)) event->stream->run_until(event->position);
  model().events.erase(event);
  delete event;
  return entry.result();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Entry entry("cudaEventRecord", kDevice | kNoError);
  if (entry.refused()) return entry.result();
  entry.check_handle(model().events, event);
  entry.check_stream(stream);
  if (event->device != stream->device) violation(entry.call(), "event and stream are of different devices");
  // One operation of the model per record, so the last one counts.
  if (!reached(event)) event->stream->run_until(event->position);
  event->captured = stream->capture != nullptr;
  event->stream = stream;
  stream->queue(
      {entry.call(), [event] {
         event->time =
             std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
       }});
  if (!event->captured) event->position = stream->queued();
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Entry entry("cudaEventQuery", kDevice | kSafety);
  check_waitable(entry, event);
  if (entry.refused()) return entry.result();
  if (reached(event)) return cudaSuccess;
  event->stream->run_until(event->stream->done + 1);  // the device goes on meanwhile
  return entry.give(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Entry entry("cudaEventSynchronize", kDevice | kSafety);
  check_waitable(entry, event);
  if (entry.refused()) return entry.result();
  if (!reached(event)) event->stream->run_until(event->position);
  return entry.give(model().broken[event->device]);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Entry entry("cudaEventElapsedTime", kDevice);
  if (entry.refused()) return entry.result();
  for (const cudaEvent_t event : {start, end}) {
    check_waitable(entry, event);
    if (event->flags & cudaEventDisableTiming) violation(entry.call(), "the event was made without timing");
    if (!event->stream) violation(entry.call(), "the event was never recorded");
    if (!reached(event)) return entry.give(cudaErrorNotReady);
  }
  *milliseconds = static_cast<float>(end->time - start->time);
  return cudaSuccess;
}

}  // extern "C"
