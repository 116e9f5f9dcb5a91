// Class-aware non-maximum suppression on the GPU. Sorting, comparing and reducing stay on the
// device; only the number of boxes kept reaches the host, at the very end, because it is the
// output's size.
//
// setup.py compiles this file without fused multiply-adds: an IoU at the threshold has to fall as
// it does in plain float32 on the CPU.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <array>

#include "checks.h"
#include "cuda/launch.h"

namespace glipkit {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kTile = 64;             // boxes per word of the mask
constexpr int64_t kReduceThreads = 1024;  // of the one block that walks the mask

template <typename T>
struct Box {
  T x1, y1, x2, y2;
};

template <typename T>
__device__ T intersection_over_union(const Box<T>& a, const Box<T>& b, T extra) {
  const T width = (a.x2 < b.x2 ? a.x2 : b.x2) - (a.x1 > b.x1 ? a.x1 : b.x1) + extra;
  const T height = (a.y2 < b.y2 ? a.y2 : b.y2) - (a.y1 > b.y1 ? a.y1 : b.y1) + extra;
  const T inter = (width > 0 ? width : 0) * (height > 0 ? height : 0);
  const T area_a = (a.x2 - a.x1 + extra) * (a.y2 - a.y1 + extra);
  const T area_b = (b.x2 - b.x1 + extra) * (b.y2 - b.y1 + extra);
  return inter / (area_a + area_b - inter);
}

// Bit b of mask[i][c]: would box i, the better one, suppress box 64 c + b? A block does a tile of
// 64 boxes i times 64 boxes of column c; tiles below the diagonal are neither written nor read.
template <typename T>
__global__ void compare(const Box<T>* boxes, const int64_t* groups, int64_t count, int64_t columns,
                        T threshold, T extra, uint64_t* mask) {
  const int64_t row = blockIdx.x / columns;
  const int64_t column = blockIdx.x % columns;
  if (column < row) return;
  __shared__ Box<T> column_boxes[kTile];
  __shared__ int64_t column_groups[kTile];
  const int64_t first = column * kTile;
  const int64_t in_column = min(kTile, count - first);
  if (threadIdx.x < in_column) {
    column_boxes[threadIdx.x] = boxes[first + threadIdx.x];
    column_groups[threadIdx.x] = groups[first + threadIdx.x];
  }
  __syncthreads();
  const int64_t i = row * kTile + threadIdx.x;
  if (i >= count) return;
  const Box<T> box = boxes[i];
  const int64_t group = groups[i];
  uint64_t word = 0;
  for (int64_t b = row == column ? threadIdx.x + 1 : 0; b < in_column; ++b) {
    const bool suppresses = column_groups[b] == group &&
                            intersection_over_union(box, column_boxes[b], extra) > threshold;
    word |= static_cast<uint64_t>(suppresses) << b;
  }
  mask[i * columns + column] = word;
}

// Walks the boxes best first, 64 at a time: one thread decides within the 64, then all threads mark
// what those kept suppress further on. `removed` starts as zeros.
__global__ void reduce(const uint64_t* mask, int64_t count, int64_t columns, uint64_t* removed,
                       bool* kept) {
  __shared__ uint64_t diagonal[kTile];
  __shared__ uint64_t kept_word;
  for (int64_t row = 0; row < columns; ++row) {
    const int64_t first = row * kTile;
    const int64_t in_row = min(kTile, count - first);
    if (threadIdx.x < in_row) {
      diagonal[threadIdx.x] = mask[(first + threadIdx.x) * columns + row];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      uint64_t gone = removed[row];
      kept_word = 0;
      for (int64_t b = 0; b < in_row; ++b) {
        if (gone >> b & 1) continue;
        kept_word |= uint64_t{1} << b;
        gone |= diagonal[b];
      }
    }
    __syncthreads();
    if (threadIdx.x < in_row) kept[first + threadIdx.x] = kept_word >> threadIdx.x & 1;
    for (int64_t column = row + 1 + threadIdx.x; column < columns; column += blockDim.x) {
      uint64_t gone = removed[column];
      for (uint64_t bits = kept_word; bits; bits &= bits - 1) {
        gone |= mask[(first + __ffsll(bits) - 1) * columns + column];
      }
      removed[column] = gone;
    }
    __syncthreads();
  }
}

Tensor sort_descending(const Tensor& scores) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(scores), from(std::optional<bool>(true)), from(int64_t{0}),
                                    from(true)};  // stable, dim, descending
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(
      stack[0]);  // the sorted scores: taken off the stack, not needed
  return torch::stable::detail::to<Tensor>(stack[1]);
}

Tensor select_rows(const Tensor& tensor, const Tensor& indices) {
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(tensor), from(int64_t{0}), from(indices)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::index_select", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::contiguous(torch::stable::detail::to<Tensor>(stack[0]));
}

Tensor masked_select(const Tensor& tensor, const Tensor& mask) {
  using torch::stable::detail::from;
  std::array<StableIValue, 2> stack{from(tensor), from(mask)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::masked_select", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

template <typename T>
void launch_compare(const Tensor& boxes, const Tensor& groups, double threshold, bool plus_one,
                    int64_t columns, uint64_t* mask) {
  const auto* data = reinterpret_cast<const Box<T>*>(boxes.const_data_ptr<T>());
  compare<T><<<columns * columns, kTile, 0, current_stream(boxes)>>>(
      data, groups.const_data_ptr<int64_t>(), boxes.size(0), columns, static_cast<T>(threshold),
      static_cast<T>(plus_one), mask);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double iou_threshold,
           bool plus_one) {
  check_nms_arguments(boxes, scores, groups);
  const DeviceGuard guard(boxes.get_device_index());
  const int64_t count = boxes.size(0);
  if (count == 0) return torch::stable::new_empty(boxes, {0}, ScalarType::Long);

  const Tensor order = sort_descending(scores);
  const Tensor sorted_boxes = select_rows(boxes, order);
  const Tensor sorted_groups = select_rows(groups, order);
  const int64_t columns = ceil_div(count, kTile);
  const Tensor mask = torch::stable::new_empty(boxes, {count, columns}, ScalarType::Long);
  const Tensor removed = torch::stable::new_zeros(boxes, {columns}, ScalarType::Long);
  const Tensor kept = torch::stable::new_empty(boxes, {count}, ScalarType::Bool);
  auto* words = reinterpret_cast<uint64_t*>(mask.mutable_data_ptr<int64_t>());

  if (boxes.scalar_type() == ScalarType::Double) {
    launch_compare<double>(sorted_boxes, sorted_groups, iou_threshold, plus_one, columns, words);
  } else {
    launch_compare<float>(sorted_boxes, sorted_groups, iou_threshold, plus_one, columns, words);
  }
  reduce<<<1, kReduceThreads, 0, current_stream(boxes)>>>(
      words, count, columns, reinterpret_cast<uint64_t*>(removed.mutable_data_ptr<int64_t>()),
      kept.mutable_data_ptr<bool>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return masked_select(order, kept);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CUDA, m) { m.impl("nms", TORCH_BOX(&nms)); }

}  // namespace glipkit
