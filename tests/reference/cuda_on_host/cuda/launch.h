// In place of csrc/cuda/launch.h, to run a CUDA file on the host: one thread does everything, and a
// warp has one lane. See tests/ops/test_deform_conv_cuda_on_host.py.

#pragma once

#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

#define __global__ static
#define __device__
#undef STD_CUDA_KERNEL_LAUNCH_CHECK  // older torch defines it without CUDA too
#define STD_CUDA_KERNEL_LAUNCH_CHECK()

struct Three {
  unsigned int x;
};
static const Three gridDim{1}, blockDim{1}, blockIdx{0}, threadIdx{0};
using cudaStream_t = void*;

template <typename T>
T __shfl_down_sync(unsigned int, T value, int) {
  return value;
}

template <typename T>
void atomicAdd(T* sum, T value) {
  *sum += value;
}

namespace glipkit {

struct DeviceGuard {
  explicit DeviceGuard(int) {}
};
inline cudaStream_t current_stream(const torch::stable::Tensor&) { return nullptr; }
inline unsigned int grid_size(int64_t, int64_t) { return 1; }

}  // namespace glipkit
