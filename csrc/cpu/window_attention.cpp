// Window attention of Swin on the CPU, forward and backward, between maps.
//
// Reads and writes positions where they stand in the map: nothing is padded, moved or cut in
// memory. A window's queries, keys, values and scores stay in the first-level caches, and the
// backward pass computes the weights again.
//
// float32 and float64 compute as they are; bfloat16 computes in float32. No sum depends on how many
// threads there are.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <tuple>

#include "checks.h"
#include "cpu/tensors.h"

namespace glipkit {
namespace {

constexpr int64_t kPanel = 32;   // columns of a panel: two AVX-512 registers of floats
constexpr int64_t kChunks = 16;  // of all windows, in the backward pass: whatever the threads

// What elements of type E are summed in; uint16_t is bfloat16.
template <typename E>
using Sum = std::conditional_t<std::is_same_v<E, double>, double, float>;

// One head in one window.
template <typename E>
struct Head {
  const E* const* rows;            // of each position: queries, keys, values of `channels` each
  int64_t count, padded;           // positions, and those rounded up to whole panels
  int64_t channels, first, width;  // of all heads; the head's own are [first, first + width)
  Sum<E> scale;                    // of the queries
  const Sum<E>* bias;     // (count, padded), of every query and key; very low behind `count`
  const Sum<E>* regions;  // (padded,) the region that each position is of, or null: all of one
  Sum<E> far_apart;       // added to the score of two regions
};

template <typename E>
struct Kernels {
  void (*attend)(const Head<E>& head, E* const* outputs, Sum<E>* memory);
  void (*attend_backward)(const Head<E>& head, const E* const* grads, E* const* grad_rows,
                          Sum<E>* grad_padding, Sum<E>* grad_bias, Sum<E>* memory);
};

#define TARGET_KERNELS "cpu/window_attention_kernels.h"
#include "cpu/targets.h"
#undef TARGET_KERNELS

// What is added to the score of two positions that only the shift brought together (BEHAVIOUR 2).
constexpr double kFarApart = -100;
// The bias behind the last key: exp of it is zero.
constexpr double kNever = -1e30;

struct Geometry {
  int64_t B, H, W, C, heads, window, shift;
  int64_t down, across;  // windows

  int64_t pixels() const { return H * W; }
  int64_t windows() const { return B * down * across; }
  int64_t count() const { return window * window; }
  int64_t padded() const { return ceil_div(count(), kPanel) * kPanel; }
  int64_t width() const { return C / heads; }
  int64_t memory() const {
    const int64_t matrix = ceil_div(width(), kPanel) * kPanel * count();
    return 5 * matrix + width() * padded() + 2 * count() * padded() + count();
  }
};

// The windows of a map, one after another.
template <typename E>
class Places {
 public:
  explicit Places(const Geometry& g) : pixel(g.count()), regions_(g.padded(), -1), g_(g) {}

  std::vector<int64_t> pixel;  // of each position of the window: its row in (B * H * W); -1: none

  // Goes to a window, counted over all images.
  void visit(int64_t index) {
    const int64_t in_image = index % (g_.down * g_.across), image = index / (g_.down * g_.across);
    const int64_t top = in_image / g_.across * g_.window, left = in_image % g_.across * g_.window;
    const int64_t tall = g_.down * g_.window, wide = g_.across * g_.window;
    mixed_ = g_.shift > 0 && (top + g_.window == tall || left + g_.window == wide);
    for (int64_t i = 0; i < g_.count(); ++i) {
      const int64_t y = top + i / g_.window, x = left + i % g_.window;
      const int64_t from_y = (y + g_.shift) % tall, from_x = (x + g_.shift) % wide;
      const bool real = from_y < g_.H && from_x < g_.W;
      pixel[i] = real ? image * g_.pixels() + from_y * g_.W + from_x : -1;
      if (mixed_) regions_[i] = static_cast<Sum<E>>(3 * region(y, tall) + region(x, wide));
    }
  }

  // Null where all positions are of one region.
  const Sum<E>* regions() const { return mixed_ ? regions_.data() : nullptr; }

 private:
  std::vector<Sum<E>> regions_;
  const Geometry g_;
  bool mixed_ = false;

  int64_t region(int64_t place, int64_t side) const {
    return (place >= side - g_.window) + (place >= side - g_.shift);
  }
};

// (heads, count, count) to (heads, count, padded).
template <typename T>
Tensor padded_bias(const Tensor& bias, const Geometry& g) {
  const Tensor result = new_tensor<T>(bias, {g.heads, g.count(), g.padded()});
  const T* from = static_cast<const T*>(bias.const_data_ptr());
  T* to = static_cast<T*>(result.mutable_data_ptr());
  for (int64_t row = 0; row < g.heads * g.count(); ++row, to += g.padded()) {
    for (int64_t j = 0; j < g.padded(); ++j) {
      to[j] = j < g.count() ? from[row * g.count() + j] : static_cast<T>(kNever);
    }
  }
  return result;
}

// A head without its rows and its bias.
template <typename E>
Head<E> head_of(const Geometry& g, int64_t head) {
  return {nullptr,
          g.count(),
          g.padded(),
          g.C,
          head * g.width(),
          g.width(),
          static_cast<Sum<E>>(1 / std::sqrt(static_cast<double>(g.width()))),
          nullptr,
          nullptr,
          static_cast<Sum<E>>(kFarApart)};
}

template <typename E>
void forward(const Tensor& qkv, const Tensor& qkv_bias, const Tensor& relative_bias,
             const Geometry& g, const Tensor& output) {
  using T = Sum<E>;
  const Tensor biases = padded_bias<T>(relative_bias, g);
  const T* bias = static_cast<const T*>(biases.const_data_ptr());
  const E* rows = static_cast<const E*>(qkv.const_data_ptr());
  const E* padding = static_cast<const E*>(qkv_bias.const_data_ptr());
  E* out = static_cast<E*>(output.mutable_data_ptr());
  const Kernels<E>& run = kernels<E>();

  torch::stable::parallel_for(0, g.windows(), 1, [&](int64_t begin, int64_t end) {
    const Scratch<T> memory(g.memory());
    Places<E> places(g);
    std::vector<const E*> sources(g.count());
    std::vector<E*> targets(g.count());
    for (int64_t index = begin; index < end; ++index) {
      places.visit(index);
      for (int64_t i = 0; i < g.count(); ++i) {
        const int64_t pixel = places.pixel[i];
        sources[i] = pixel < 0 ? padding : rows + pixel * 3 * g.C;
        targets[i] = pixel < 0 ? nullptr : out + pixel * g.C;
      }
      for (int64_t h = 0; h < g.heads; ++h) {
        Head<E> head = head_of<E>(g, h);
        head.rows = sources.data();
        head.bias = bias + h * g.count() * g.padded();
        head.regions = places.regions();
        run.attend(head, targets.data(), memory.get());
      }
    }
  });
}

template <typename E>
void backward(const Tensor& grad_output, const Tensor& qkv, const Tensor& qkv_bias,
              const Tensor& relative_bias, const Geometry& g, const Tensor& grad_qkv,
              const Tensor& grad_qkv_bias, const Tensor& grad_relative_bias) {
  using T = Sum<E>;
  const Tensor biases = padded_bias<T>(relative_bias, g);
  const int64_t scores = g.count() * g.padded(), width = g.width();
  const Tensor of_biases = new_zeros<T>(relative_bias, {g.heads, kChunks, scores});
  const Tensor of_padding = new_zeros<T>(relative_bias, {g.heads, kChunks, 3, width});
  const T* bias = static_cast<const T*>(biases.const_data_ptr());
  const E* rows = static_cast<const E*>(qkv.const_data_ptr());
  const E* padding = static_cast<const E*>(qkv_bias.const_data_ptr());
  const E* grads = static_cast<const E*>(grad_output.const_data_ptr());
  E* grad_rows = static_cast<E*>(grad_qkv.mutable_data_ptr());
  T* bias_parts = static_cast<T*>(of_biases.mutable_data_ptr());
  T* padding_parts = static_cast<T*>(of_padding.mutable_data_ptr());
  const Kernels<E>& run = kernels<E>();

  torch::stable::parallel_for(0, g.heads * kChunks, 1, [&](int64_t begin, int64_t end) {
    const Scratch<T> memory(g.memory());
    const Scratch<E> nothing(g.C);
    Places<E> places(g);
    std::vector<const E*> sources(g.count()), of_outputs(g.count());
    std::vector<E*> targets(g.count());
    for (int64_t item = begin; item < end; ++item) {
      // Heads of a chunk one after another: its rows are still in the cache.
      const int64_t chunk = item / g.heads, h = item % g.heads, part = h * kChunks + chunk;
      Head<E> head = head_of<E>(g, h);
      head.rows = sources.data();
      head.bias = bias + h * scores;
      const int64_t last = (chunk + 1) * g.windows() / kChunks;
      for (int64_t index = chunk * g.windows() / kChunks; index < last; ++index) {
        places.visit(index);
        for (int64_t i = 0; i < g.count(); ++i) {
          const int64_t pixel = places.pixel[i];
          sources[i] = pixel < 0 ? padding : rows + pixel * 3 * g.C;
          of_outputs[i] = pixel < 0 ? nothing.get() : grads + pixel * g.C;
          targets[i] = pixel < 0 ? nullptr : grad_rows + pixel * 3 * g.C;
        }
        head.regions = places.regions();
        run.attend_backward(head, of_outputs.data(), targets.data(),
                            padding_parts + part * 3 * width, bias_parts + part * scores,
                            memory.get());
      }
    }
  });

  T* of_relative = static_cast<T*>(grad_relative_bias.mutable_data_ptr());
  T* of_bias = static_cast<T*>(grad_qkv_bias.mutable_data_ptr());
  for (int64_t h = 0; h < g.heads; ++h) {
    for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
      const T* from = bias_parts + (h * kChunks + chunk) * scores;
      T* to = of_relative + h * g.count() * g.count();
      for (int64_t i = 0; i < g.count(); ++i) {
        for (int64_t j = 0; j < g.count(); ++j) to[i * g.count() + j] += from[i * g.padded() + j];
      }
      const T* lost = padding_parts + (h * kChunks + chunk) * 3 * width;
      for (int64_t part = 0; part < 3; ++part) {
        for (int64_t c = 0; c < width; ++c) {
          of_bias[part * g.C + h * width + c] += lost[part * width + c];
        }
      }
    }
  }
}

Geometry check_window_attention(const Tensor& qkv, const Tensor& qkv_bias,
                                const Tensor& relative_bias, const std::vector<int64_t>& size,
                                int64_t window, int64_t shift) {
  const ScalarType type = qkv.scalar_type();
  GLIPKIT_CHECK(
      type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16,
      "qkv must be float32, float64 or bfloat16, got ", torch::headeronly::toString(type));
  GLIPKIT_CHECK(qkv_bias.scalar_type() == type, "qkv_bias must have the type of qkv");
  GLIPKIT_CHECK(relative_bias.scalar_type() ==
                    (type == ScalarType::Double ? ScalarType::Double : ScalarType::Float),
                "relative_bias must be float32, or float64 like qkv");
  GLIPKIT_CHECK(window > 0 && shift >= 0 && shift < window,
                "shift must be at least 0 and less than window, got ", shift, " and ", window);
  GLIPKIT_CHECK(relative_bias.dim() == 3 && relative_bias.size(0) > 0 &&
                    relative_bias.size(1) == window * window &&
                    relative_bias.size(2) == window * window,
                "relative_bias must have shape (heads, ", window * window, ", ", window * window,
                "), got ", shape(relative_bias));
  GLIPKIT_CHECK(size.size() == 2 && size[0] > 0 && size[1] > 0,
                "size must be two positive numbers");
  GLIPKIT_CHECK(qkv.dim() == 3 && qkv.size(1) == size[0] * size[1] && qkv.size(2) > 0 &&
                    qkv.size(2) % (3 * relative_bias.size(0)) == 0,
                "qkv must have shape (B, ", size[0] * size[1], ", 3 * a multiple of ",
                relative_bias.size(0), "), got ", shape(qkv));
  GLIPKIT_CHECK(qkv_bias.dim() == 1 && qkv_bias.size(0) == qkv.size(2),
                "qkv_bias must have shape (", qkv.size(2), ",), got ", shape(qkv_bias));
  return {qkv.size(0),
          size[0],
          size[1],
          qkv.size(2) / 3,
          relative_bias.size(0),
          window,
          shift,
          ceil_div(size[0], window),
          ceil_div(size[1], window)};
}

Tensor window_attention(const Tensor& qkv, const Tensor& qkv_bias, const Tensor& relative_bias,
                        const std::vector<int64_t>& size, int64_t window, int64_t shift) {
  const Geometry g = check_window_attention(qkv, qkv_bias, relative_bias, size, window, shift);
  const Tensor rows = torch::stable::contiguous(qkv);
  const Tensor padding = torch::stable::contiguous(qkv_bias);
  const Tensor biases = torch::stable::contiguous(relative_bias);
  const Tensor output = torch::stable::new_empty(qkv, {g.B, g.pixels(), g.C});
  if (qkv.scalar_type() == ScalarType::Double) {
    forward<double>(rows, padding, biases, g, output);
  } else if (qkv.scalar_type() == ScalarType::Float) {
    forward<float>(rows, padding, biases, g, output);
  } else {
    forward<uint16_t>(rows, padding, biases, g, output);
  }
  return output;
}

std::tuple<Tensor, Tensor, Tensor> window_attention_backward(
    const Tensor& grad_output, const Tensor& qkv, const Tensor& qkv_bias,
    const Tensor& relative_bias, const std::vector<int64_t>& size, int64_t window, int64_t shift) {
  const Geometry g = check_window_attention(qkv, qkv_bias, relative_bias, size, window, shift);
  GLIPKIT_CHECK(grad_output.dim() == 3 && grad_output.size(0) == g.B &&
                    grad_output.size(1) == g.pixels() && grad_output.size(2) == g.C,
                "grad_output must have shape (", g.B, ", ", g.pixels(), ", ", g.C, "), got ",
                shape(grad_output));
  GLIPKIT_CHECK(grad_output.scalar_type() == qkv.scalar_type(),
                "grad_output must have the type of qkv");
  const Tensor grads = torch::stable::contiguous(grad_output);
  const Tensor rows = torch::stable::contiguous(qkv);
  const Tensor padding = torch::stable::contiguous(qkv_bias);
  const Tensor biases = torch::stable::contiguous(relative_bias);
  const Tensor grad_qkv = torch::stable::new_empty(qkv, {g.B, g.pixels(), 3 * g.C});
  const Tensor grad_bias = torch::stable::new_zeros(qkv, {3 * g.C}, relative_bias.scalar_type());
  const Tensor grad_relative =
      torch::stable::new_zeros(relative_bias, {g.heads, g.count(), g.count()});
  if (qkv.scalar_type() == ScalarType::Double) {
    backward<double>(grads, rows, padding, biases, g, grad_qkv, grad_bias, grad_relative);
  } else if (qkv.scalar_type() == ScalarType::Float) {
    backward<float>(grads, rows, padding, biases, g, grad_qkv, grad_bias, grad_relative);
  } else {
    backward<uint16_t>(grads, rows, padding, biases, g, grad_qkv, grad_bias, grad_relative);
  }
  return {grad_qkv, torch::stable::to(grad_bias, qkv.scalar_type()), grad_relative};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CPU, m) {
  m.impl("window_attention", TORCH_BOX(&window_attention));
  m.impl("window_attention_backward", TORCH_BOX(&window_attention_backward));
}

}  // namespace glipkit
