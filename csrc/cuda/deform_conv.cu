// Modulated deformable convolution on the GPU, forward and backward.
//
// The input is read channels-last, so that neighbouring threads read neighbouring channels of the
// same corner, 16 bytes each where the sizes allow; where it is channels-last already it is read in
// place, and the output is channels-last too. Columns exist for a chunk of output pixels at a time,
// of as many images as fit; torch's own matrix product (cuBLAS, TF32 or not as torch is told)
// multiplies them, straight into the output. Positions, weights and sums are float32 for half
// precision. Nothing waits for the GPU, and all memory is torch's: a CUDA graph can record it.
//
// The backward pass makes the columns again. It adds to the gradient of the input with atomicAdd,
// in no fixed order: that gradient differs in its last bits from run to run. The others do not.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <array>
#include <limits>
#include <tuple>

#include "cuda/deform_conv_kernels.h"
#include "cuda/launch.h"
#include "deform_conv.h"

namespace glipkit {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kThreads = 256;
// Of the columns: about a GPU's second-level cache (40 MB on A100, 50 MB on H100), yet enough rows
// for the matrix product to fill the GPU.
constexpr int64_t kColumnBytes = 64 << 20;
constexpr int64_t kVectorBytes = 16;

template <typename T>
constexpr ScalarType compute_type() {
  return std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
}

template <typename T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// out = a b, all matrices, laid out anyhow. The form with `out` is not autocast: a and b are
// multiplied in the type they have.
void multiply(const Tensor& a, const Tensor& b, const Tensor& out) {
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(a), from(b), from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);  // `out` again: taken off the stack, not needed
}

// (A, B, C, D) seen as (A, C, D, B), and back. torch 2.10's stable headers have no permute.
Tensor channels_last(const Tensor& tensor) {
  Tensor view = torch::stable::transpose(tensor, 1, 2);
  return torch::stable::transpose(view, 2, 3);
}

Tensor channels_first(const Tensor& tensor) {
  Tensor view = torch::stable::transpose(tensor, 2, 3);
  return torch::stable::transpose(view, 1, 2);
}

// Output pixels, of all images, whose columns are in memory at once.
int64_t chunk_size(const Geometry& g, int64_t element_bytes) {
  const int64_t fits = kColumnBytes / (g.taps() * g.C * element_bytes);
  return std::max<int64_t>(1, std::min(fits, g.B * g.outputs()));
}

// Kernels number the pixels of a map, and the columns of a chunk, in 32 bits; addresses have 64.
void check_index_width(const Geometry& g) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  GLIPKIT_CHECK(g.outputs() <= kMost && g.taps() * g.C <= kMost,
                "at most 2^31 - 1 output pixels and as many taps times channels, got ", g.outputs(),
                " and ", g.taps() * g.C);
}

// A map, (B, C, H, W), whose channels lie together.
Tensor as_rows(const Tensor& map) {
  if (has_rows(map)) return map;
  return torch::stable::contiguous(map, torch::headeronly::MemoryFormat::ChannelsLast);
}

// Rows of channels, (B, H, W, C), as the map that the caller is used to: laid out like `like`.
Tensor as_map(const Tensor& rows, const Tensor& like) {
  const Tensor map = channels_first(rows);
  return has_rows(like) ? map : torch::stable::contiguous(map);
}

// The tensors of a call as the kernels read them.
template <typename T>
struct Operands {
  Geometry g;
  Tensor pixels;   // (B, C, H, W), channels together in memory
  Tensor offset;   // (B, offset groups * taps * 2, OH, OW) in Compute<T>
  Tensor mask;     // (B, offset groups * taps, OH, OW) in Compute<T>
  Tensor weights;  // (groups, O / groups, taps * C / groups)
  int64_t chunk;

  Operands(const Tensor& input, const Tensor& offsets, const Tensor& masks, const Tensor& weight,
           const Geometry& geometry)
      : g(geometry),
        pixels(as_rows(input)),
        offset(torch::stable::contiguous(torch::stable::to(offsets, compute_type<T>()))),
        mask(torch::stable::contiguous(torch::stable::to(masks, compute_type<T>()))),
        weights(torch::stable::view(torch::stable::contiguous(channels_last(weight)),
                                    {g.groups, g.group_outputs(), depth()})),
        chunk(chunk_size(g, sizeof(T))) {}

  int64_t outputs() const { return g.B * g.outputs(); }
  int64_t depth() const { return g.taps() * g.group_channels(); }

  Maps<T> maps() const {
    const int64_t pixel_stride = g.W > 1 ? pixels.stride(3) : g.H > 1 ? pixels.stride(2) : g.C;
    const int64_t image_stride = g.B > 1 ? pixels.stride(0) : g.pixels() * pixel_stride;
    return {data<T>(pixels), pixel_stride, image_stride, data<Compute<T>>(offset),
            data<Compute<T>>(mask)};
  }

  Tensor group_weight(int64_t group) const { return torch::stable::select(weights, 0, group); }

  Tensor new_columns() const { return torch::stable::new_empty(pixels, {chunk * g.taps() * g.C}); }

  // One group of a chunk's columns, (count, depth).
  Tensor group_columns(const Tensor& columns, int64_t group, int64_t count) const {
    const int64_t size = count * depth();
    Tensor flat = columns;  // narrow takes a reference it may change
    return torch::stable::view(torch::stable::narrow(flat, 0, group * size, size),
                               {count, depth()});
  }

  // One group of a chunk of rows of outputs, (B * outputs, O): (count, O / groups).
  Tensor group_rows(const Tensor& rows, int64_t group, int64_t first, int64_t count) const {
    Tensor all = rows;
    Tensor some = torch::stable::narrow(all, 0, first, count);
    return torch::stable::narrow(some, 1, group * g.group_outputs(), g.group_outputs());
  }
};

bool aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0;
}

template <typename T>
void launch_gather(const Operands<T>& in, int64_t first, int64_t count, const Tensor& columns) {
  constexpr int N = kVectorBytes / sizeof(T);
  const Geometry& g = in.g;
  const Maps<T> maps = in.maps();
  T* to = mutable_data<T>(columns);
  const cudaStream_t stream = current_stream(columns);
  const bool wide = g.group_channels() % N == 0 && g.C / g.offset_groups % N == 0 &&
                    maps.pixel_stride % N == 0 && maps.image_stride % N == 0 &&
                    aligned(maps.pixels) && aligned(to);
  const int64_t threads = count * g.taps() * g.C / (wide ? N : 1);
  const auto kernel = wide ? gather<T, N> : gather<T, 1>;
  kernel<<<grid_size(threads, kThreads), kThreads, 0, stream>>>(maps, g, first, count, to);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T>
Tensor forward(const Tensor& input, const Tensor& offset, const Tensor& mask, const Tensor& weight,
               const std::optional<Tensor>& bias, const Geometry& g) {
  const Operands<T> in(input, offset, mask, weight, g);
  const Tensor output = torch::stable::new_empty(input, {g.B, g.OH, g.OW, g.O});
  const Tensor rows = torch::stable::view(output, {in.outputs(), g.O});
  const Tensor columns = in.new_columns();
  for (int64_t first = 0; first < in.outputs(); first += in.chunk) {
    const int64_t count = std::min(in.chunk, in.outputs() - first);
    launch_gather<T>(in, first, count, columns);
    for (int64_t group = 0; group < g.groups; ++group) {
      Tensor kernel = in.group_weight(group);
      multiply(in.group_columns(columns, group, count), torch::stable::transpose(kernel, 0, 1),
               in.group_rows(rows, group, first, count));
    }
  }
  const int64_t total = output.numel();
  if (bias && total > 0) {
    const Tensor biases = torch::stable::contiguous(*bias);
    add_bias<T><<<grid_size(total, kThreads), kThreads, 0, current_stream(output)>>>(
        mutable_data<T>(output), data<T>(biases), g.O, total);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return as_map(output, input);
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& input,
                                                    const Tensor& offset, const Tensor& mask,
                                                    const Tensor& weight, const Geometry& g) {
  using C = Compute<T>;
  using torch::stable::new_empty;
  using torch::stable::new_zeros;
  const Operands<T> in(input, offset, mask, weight, g);
  const Tensor grads = torch::stable::view(torch::stable::contiguous(channels_last(grad_output)),
                                           {in.outputs(), g.O});
  const Tensor columns = in.new_columns(), grad_columns = in.new_columns();
  const Tensor grad_pixels = new_zeros(input, {g.B, g.H, g.W, g.C}, compute_type<T>());
  const Tensor grad_offset = new_empty(in.offset, in.offset.sizes());
  const Tensor grad_mask = new_empty(in.mask, in.mask.sizes());
  const Tensor grad_weights =
      new_zeros(input, {g.groups, g.group_outputs(), in.depth()}, compute_type<T>());
  const Tensor part = new_empty(input, {g.group_outputs(), in.depth()});
  const cudaStream_t stream = current_stream(input);

  for (int64_t first = 0; first < in.outputs(); first += in.chunk) {
    const int64_t count = std::min(in.chunk, in.outputs() - first);
    for (int64_t group = 0; group < g.groups; ++group) {
      multiply(in.group_rows(grads, group, first, count), in.group_weight(group),
               in.group_columns(grad_columns, group, count));
    }
    const int64_t threads = count * g.taps() * g.offset_groups * kWarp;
    gather_backward<T><<<grid_size(threads, kThreads), kThreads, 0, stream>>>(
        in.maps(), data<T>(grad_columns), g, first, count, mutable_data<T>(columns),
        mutable_data<C>(grad_pixels), mutable_data<C>(grad_offset), mutable_data<C>(grad_mask));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    for (int64_t group = 0; group < g.groups; ++group) {
      Tensor grad = in.group_rows(grads, group, first, count);
      multiply(torch::stable::transpose(grad, 0, 1), in.group_columns(columns, group, count), part);
      const int64_t size = part.numel();
      accumulate<T><<<grid_size(size, kThreads), kThreads, 0, stream>>>(
          mutable_data<C>(grad_weights) + group * size, data<T>(part), size);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    }
  }
  const Tensor grad_weight =
      channels_first(torch::stable::view(grad_weights, {g.O, g.KH, g.KW, g.group_channels()}));
  const auto finish = [](const Tensor& gradient, const Tensor& of) {
    return torch::stable::contiguous(torch::stable::to(gradient, of.scalar_type()));
  };
  return {as_map(torch::stable::to(grad_pixels, input.scalar_type()), input),
          finish(grad_offset, offset), finish(grad_mask, mask), finish(grad_weight, weight)};
}

// Calls run(T{}) with the type of the tensor's elements.
template <typename Run>
auto with_type(const Tensor& tensor, const Run& run) {
  const ScalarType type = tensor.scalar_type();
  if (type == ScalarType::Double) return run(double{});
  if (type == ScalarType::Half) return run(Half{});
  if (type == ScalarType::BFloat16) return run(BFloat16{});
  GLIPKIT_CHECK(type == ScalarType::Float, "input must be float32, float64, bfloat16 or float16");
  return run(float{});
}

Tensor modulated_deform_conv2d(const Tensor& input, const Tensor& offset, const Tensor& mask,
                               const Tensor& weight, const std::optional<Tensor>& bias,
                               const std::vector<int64_t>& stride,
                               const std::vector<int64_t>& padding,
                               const std::vector<int64_t>& dilation) {
  const Geometry g = check_deform_conv(input, offset, mask, weight, stride, padding, dilation);
  check_index_width(g);
  if (bias) check_bias(*bias, input, g);
  const DeviceGuard guard(input.get_device_index());
  return with_type(input, [&](auto zero) {
    return forward<decltype(zero)>(input, offset, mask, weight, bias, g);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> modulated_deform_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& offset, const Tensor& mask,
    const Tensor& weight, const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
    const std::vector<int64_t>& dilation) {
  const Geometry g = check_deform_conv(input, offset, mask, weight, stride, padding, dilation);
  check_index_width(g);
  check_grad_output(grad_output, input, g);
  const DeviceGuard guard(input.get_device_index());
  return with_type(input, [&](auto zero) {
    return backward<decltype(zero)>(grad_output, input, offset, mask, weight, g);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CUDA, m) {
  m.impl("modulated_deform_conv2d", TORCH_BOX(&modulated_deform_conv2d));
  m.impl("modulated_deform_conv2d_backward", TORCH_BOX(&modulated_deform_conv2d_backward));
}

}  // namespace glipkit
