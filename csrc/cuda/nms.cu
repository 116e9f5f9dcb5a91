// Class-aware non-maximum suppression on the GPU. Sorting, comparing and reducing stay on the
// device. `nms_mask` never waits for it; `nms` lets one number reach the host, at the very end: how
// many boxes are kept, because it is the output's size.
//
// Boxes are sorted by group, best first within each. Only pairs of one group are compared, 64 x 64
// at a time, by all of the GPU; then every group is decided by a block of its own. The comparisons
// of N boxes take N^2 / 8 bytes of memory: 3 MB for the 5,000 candidates of a picture.
//
// setup.py compiles this file without fused multiply-adds: an IoU at the threshold has to fall as
// it does in plain float32 on the CPU.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <array>
#include <cmath>

#include "checks.h"
#include "cuda/launch.h"

namespace glipkit {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kTile = 64;        // boxes per word of the mask
constexpr int64_t kThreads = 256;    // of the block that decides a group
constexpr int64_t kSlice = 8;        // rows of the mask that a thread reads at once
constexpr int64_t kMaxWords = 2048;  // of a row of the mask: what a block remembers (16 kB)
constexpr int64_t kMaxBoxes = kMaxWords * kTile;

template <typename T>
struct Box {
  T x1, y1, x2, y2;
};

// Lists of `count` boxes, one after another. `order` sorts each list by (group, score), and
// `groups` are in that order; boxes and scores are not.
struct Lists {
  const int64_t* groups;
  const int64_t* order;
  int64_t num_lists, count, words;  // words of a row of the mask
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

// Bit b of mask[i][c]: would box i, the better one, suppress box 64 c + b of its list? A block does
// tiles of 64 boxes i times 64 boxes of column c. Tiles below the diagonal, and those whose boxes
// are of different groups, are neither written nor read.
template <typename T>
__global__ void compare(const Box<T>* boxes, Lists lists, T threshold, T extra, uint64_t* mask) {
  __shared__ Box<T> column_boxes[kTile];
  __shared__ int64_t column_groups[kTile];
  const int64_t tiles = lists.words * lists.words;
  for (int64_t tile = blockIdx.x; tile < lists.num_lists * tiles; tile += gridDim.x) {
    const int64_t row = tile % tiles / lists.words, column = tile % lists.words;
    if (column < row) continue;
    const int64_t start = tile / tiles * lists.count;  // of the list
    const int64_t row_end = min(row * kTile + kTile, lists.count);
    const int64_t first = column * kTile, in_column = min(kTile, lists.count - first);
    if (lists.groups[start + row_end - 1] < lists.groups[start + first]) continue;
    for (int64_t b = threadIdx.x; b < in_column; b += blockDim.x) {
      column_boxes[b] = boxes[start + lists.order[start + first + b]];
      column_groups[b] = lists.groups[start + first + b];
    }
    __syncthreads();
    for (int64_t i = row * kTile + threadIdx.x; i < row_end; i += blockDim.x) {
      const Box<T> box = boxes[start + lists.order[start + i]];
      const int64_t group = lists.groups[start + i];
      uint64_t word = 0;
      for (int64_t b = row == column ? i - first + 1 : 0; b < in_column; ++b) {
        const bool suppresses = column_groups[b] == group &&
                                intersection_over_union(box, column_boxes[b], extra) > threshold;
        word |= static_cast<uint64_t>(suppresses) << b;
      }
      mask[(start + i) * lists.words + column] = word;
    }
    __syncthreads();
  }
}

// Where the group that begins at `begin` ends, or where its boxes end that are no fillers: both
// come last, so that halving the range finds it.
template <typename T>
__device__ int64_t end_of_group(const Lists& lists, const T* scores, bool has_fillers,
                                int64_t start, int64_t begin) {
  const int64_t group = lists.groups[start + begin];
  int64_t low = begin, high = lists.count;  // the end is in [low, high]
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    const bool belongs = lists.groups[start + middle] == group &&
                         !(has_fillers && scores[start + lists.order[start + middle]] == -HUGE_VAL);
    if (belongs) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Walks the boxes of a group best first, 64 at a time: one thread decides within the 64, then all
// threads mark what those kept suppress further on. `kept` starts as zeros.
template <typename T>
__global__ void decide(Lists lists, const T* scores, bool has_fillers, const uint64_t* mask,
                       bool* kept) {
  __shared__ unsigned long long removed[kMaxWords];  // of the words that the group touches
  __shared__ uint64_t diagonal[kTile];
  __shared__ uint64_t kept_word;
  for (int64_t box = blockIdx.x; box < lists.num_lists * lists.count; box += gridDim.x) {
    const int64_t begin = box % lists.count, start = box - begin;  // of the group, of the list
    if (begin > 0 && lists.groups[box] == lists.groups[box - 1]) continue;
    const int64_t end = end_of_group(lists, scores, has_fillers, start, begin);
    if (begin == end) continue;
    const int64_t first_word = begin / kTile, num_words = (end - 1) / kTile - first_word + 1;
    for (int64_t word = threadIdx.x; word < num_words; word += blockDim.x) removed[word] = 0;
    for (int64_t row = first_word; row < first_word + num_words; ++row) {
      const int64_t low = max(begin - row * kTile, int64_t{0});  // bits of the row's word
      const int64_t high = min(end - row * kTile, kTile);
      const uint64_t* rows = mask + (start + row * kTile) * lists.words;
      for (int64_t b = low + threadIdx.x; b < high; b += blockDim.x) {
        diagonal[b] = rows[b * lists.words + row];
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        uint64_t gone = removed[row - first_word];
        kept_word = 0;
        for (int64_t b = low; b < high; ++b) {
          if (gone >> b & 1) continue;
          kept_word |= uint64_t{1} << b;
          gone |= diagonal[b];
        }
      }
      __syncthreads();
      for (int64_t b = low + threadIdx.x; b < high; b += blockDim.x) {
        kept[start + lists.order[start + row * kTile + b]] = kept_word >> b & 1;
      }
      const int64_t further = first_word + num_words - 1 - row;
      for (int64_t part = threadIdx.x; part < further * (kTile / kSlice); part += blockDim.x) {
        const int64_t word = row + 1 + part % further, slice = part / further * kSlice;
        uint64_t gone = 0;
#pragma unroll
        for (int64_t b = slice; b < slice + kSlice; ++b) {
          if (kept_word >> b & 1) gone |= rows[b * lists.words + word];
        }
        if (gone) atomicOr(&removed[word - first_word], static_cast<unsigned long long>(gone));
      }
      __syncthreads();
    }
  }
}

// A call to an operator of PyTorch; answers as many values as `count`, the first at [0].
template <size_t Count>
void call(const char* name, const char* overload, std::array<StableIValue, Count>& stack) {
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION));
}

struct Sorted {
  Tensor values, indices;
};

// Along the last dimension, stable.
Sorted sort(const Tensor& values, bool descending) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  std::array<StableIValue, 4> stack{from(values), from(std::optional<bool>(true)),
                                    from(int64_t{-1}), from(descending)};
  call("aten::sort", "stable", stack);
  return {to<Tensor>(stack[0]), to<Tensor>(stack[1])};
}

// values[..., indices], along the last dimension.
Tensor gather(const Tensor& values, const Tensor& indices) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(values), from(int64_t{-1}), from(indices), from(false)};
  call("aten::gather", "", stack);
  return torch::stable::detail::to<Tensor>(stack[0]);
}

Tensor masked_select(const Tensor& tensor, const Tensor& mask) {
  using torch::stable::detail::from;
  std::array<StableIValue, 2> stack{from(tensor), from(mask)};
  call("aten::masked_select", "", stack);
  return torch::stable::detail::to<Tensor>(stack[0]);
}

template <typename T>
void launch_compare(const Tensor& boxes, const Lists& lists, double threshold, bool plus_one,
                    uint64_t* mask) {
  const Tensor dense = torch::stable::contiguous(boxes);
  const unsigned int blocks = grid_size(lists.num_lists * lists.words * lists.words, 1);
  compare<T><<<blocks, kTile, 0, current_stream(boxes)>>>(
      reinterpret_cast<const Box<T>*>(dense.const_data_ptr<T>()), lists, static_cast<T>(threshold),
      static_cast<T>(plus_one), mask);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T>
void launch_decide(const Tensor& scores, const Lists& lists, bool has_fillers, const uint64_t* mask,
                   bool* kept) {
  const Tensor dense = torch::stable::contiguous(scores);
  const unsigned int blocks = grid_size(lists.num_lists * lists.count, 1);
  decide<T><<<blocks, kThreads, 0, current_stream(scores)>>>(lists, dense.const_data_ptr<T>(),
                                                             has_fillers, mask, kept);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// For each box, in the shape of `scores`, whether it stays; `by_score` sorts the boxes.
Tensor flag_kept(const Tensor& boxes, const Tensor& scores, const Tensor& groups,
                 const Tensor& by_score, double threshold, bool plus_one, bool has_fillers) {
  const int64_t count = scores.size(scores.dim() - 1), num_lists = scores.numel() / count;
  const int64_t words = ceil_div(count, kTile);
  GLIPKIT_CHECK(count <= kMaxBoxes, "at most ", kMaxBoxes,
                " boxes of a picture can be compared on a GPU, got ", count);
  const Sorted by_group = sort(gather(groups, by_score), false);
  const Tensor order = torch::stable::contiguous(gather(by_score, by_group.indices));
  const Tensor sorted_groups = torch::stable::contiguous(by_group.values);
  const Lists lists{sorted_groups.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>(),
                    num_lists, count, words};
  const Tensor mask = torch::stable::new_empty(boxes, {num_lists, count, words}, ScalarType::Long);
  auto* bits = reinterpret_cast<uint64_t*>(mask.mutable_data_ptr<int64_t>());
  Tensor kept = torch::stable::new_zeros(boxes, scores.sizes(), ScalarType::Bool);
  bool* flags = kept.mutable_data_ptr<bool>();
  if (boxes.scalar_type() == ScalarType::Double) {
    launch_compare<double>(boxes, lists, threshold, plus_one, bits);
  } else {
    launch_compare<float>(boxes, lists, threshold, plus_one, bits);
  }
  if (scores.scalar_type() == ScalarType::Double) {
    launch_decide<double>(scores, lists, has_fillers, bits, flags);
  } else {
    launch_decide<float>(scores, lists, has_fillers, bits, flags);
  }
  return kept;
}

Tensor nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double iou_threshold,
           bool plus_one) {
  check_nms_arguments(boxes, scores, groups);
  const DeviceGuard guard(boxes.get_device_index());
  if (boxes.size(0) == 0) return torch::stable::new_empty(boxes, {0}, ScalarType::Long);
  const Tensor by_score = sort(scores, true).indices;
  const Tensor kept = flag_kept(boxes, scores, groups, by_score, iou_threshold, plus_one, false);
  return masked_select(by_score, gather(kept, by_score));  // waits: its size is read here
}

Tensor nms_mask(const Tensor& boxes, const Tensor& scores, const Tensor& groups,
                double iou_threshold, bool plus_one) {
  check_nms_mask_arguments(boxes, scores, groups);
  const DeviceGuard guard(boxes.get_device_index());
  if (scores.numel() == 0) {
    return torch::stable::new_empty(boxes, scores.sizes(), ScalarType::Bool);
  }
  const Tensor by_score = sort(scores, true).indices;
  return flag_kept(boxes, scores, groups, by_score, iou_threshold, plus_one, true);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CUDA, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("nms_mask", TORCH_BOX(&nms_mask));
}

}  // namespace glipkit
