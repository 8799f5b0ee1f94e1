// Captures and graphs: model.h.
#include "simt/cudart/model.h"

using namespace eq::cudart;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Entry entry("cudaStreamBeginCapture", kDevice);
  entry.check_stream(stream);
  if (entry.refused()) return entry.result();
  if (stream->capture) violation(entry.call(), "the stream is recording already");
  stream->capture = std::make_unique<Capture>(Capture{mode, std::this_thread::get_id(), {}});
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Entry entry("cudaStreamEndCapture", kDevice);
  entry.check_stream(stream);
  if (!stream->capture) violation(entry.call(), "the stream is not recording");
  const std::unique_ptr<Capture> capture = std::move(stream->capture);
  *graph = nullptr;
  if (entry.refused()) return entry.result();
  if (capture->thread != std::this_thread::get_id() && capture->mode != cudaStreamCaptureModeRelaxed)
    violation(entry.call(), "another thread began the capture");
  *graph = new CUgraph_st{std::move(capture->operations)};
  model().graphs.insert(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const Entry entry("cudaGraphInstantiate", kDevice);
  entry.check_handle(model().graphs, graph);
  if (entry.refused()) return entry.result();
  *executable = new CUgraphExec_st{graph->operations};
  model().executables.insert(*executable);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Entry entry("cudaGraphLaunch", kDevice | kNoError);
  if (entry.refused()) return entry.result();
  entry.check_handle(model().executables, executable);
  entry.check_stream(stream);
  if (stream->capture) violation(entry.call(), "the stream is recording");
  for (const auto& operation : executable->operations) stream->pending.push_back(operation);
  executable->stream = stream;
  executable->position = stream->queued();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Entry entry("cudaGraphDestroy", kDevice);
  entry.check_handle(model().graphs, graph);
  model().graphs.erase(graph);
  delete graph;
  return entry.result();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Entry entry("cudaGraphExecDestroy", kDevice);
  entry.check_handle(model().executables, executable);
  const cudaStream_t stream = executable->stream;
  if (!entry.refused() && stream && model().streams.contains(stream) && stream->done < executable->position)
    violation(entry.call(), "the graph is running");
  model().executables.erase(executable);
  delete executable;
  return entry.result();
}

}  // extern "C"
