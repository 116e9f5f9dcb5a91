// In place of csrc/cuda/launch.h, to run a CUDA file on the host: one thread does everything, and a
// warp has one lane. See tests/ops/test_deform_conv_cuda_on_host.py.

#pragma once

#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

#define __global__ static
#define __device__
#define __shared__ static
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

template <typename T>
void atomicOr(T* bits, T value) {
  *bits |= value;
}

inline void __syncthreads() {}

#ifndef STABLE_TORCH_ERROR_CODE_CHECK  // its name in torch 2.10
#define STABLE_TORCH_ERROR_CODE_CHECK(call) TORCH_ERROR_CODE_CHECK(call)
#endif

namespace glipkit {

using std::min, std::max;  // which CUDA knows without a header

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct DeviceGuard {
  explicit DeviceGuard(int) {}
};
inline cudaStream_t current_stream(const torch::stable::Tensor&) { return nullptr; }
inline unsigned int grid_size(int64_t, int64_t) { return 1; }

}  // namespace glipkit
