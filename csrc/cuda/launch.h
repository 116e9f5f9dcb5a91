// What every CUDA kernel needs to start: the current stream, a device guard, a grid's size.

#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

#ifndef STABLE_TORCH_ERROR_CODE_CHECK  // its name in torch 2.10
#define STABLE_TORCH_ERROR_CODE_CHECK(call) TORCH_ERROR_CODE_CHECK(call)
#endif

namespace glipkit {

using torch::stable::accelerator::DeviceGuard;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The stream that torch works on, of the device the tensor is on.
inline cudaStream_t current_stream(const torch::stable::Tensor& tensor) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Blocks for a grid-stride loop over `count` items: enough to fill any GPU, never too many.
inline unsigned int grid_size(int64_t count, int64_t threads) {
  constexpr int64_t kMaxBlocks = 1 << 16;
  return static_cast<unsigned int>(
      std::max<int64_t>(1, std::min(kMaxBlocks, ceil_div(count, threads))));
}

}  // namespace glipkit
