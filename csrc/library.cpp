// The whole native surface of glipkit, one schema per operator. Kernels live in cpu/ and cuda/ and
// register themselves; gradients and fake kernels are in glipkit/ops, beside the Python function
// that users call.

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(glipkit, m) {
  m.def(
      "nms(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold, bool plus_one) -> "
      "Tensor");
  m.def(
      "modulated_deform_conv2d(Tensor input, Tensor offset, Tensor mask, Tensor weight, "
      "Tensor? bias, int[2] stride, int[2] padding, int[2] dilation) -> Tensor");
  m.def(
      "modulated_deform_conv2d_backward(Tensor grad_output, Tensor input, Tensor offset, "
      "Tensor mask, Tensor weight, int[2] stride, int[2] padding, int[2] dilation) -> "
      "(Tensor, Tensor, Tensor, Tensor)");
}
