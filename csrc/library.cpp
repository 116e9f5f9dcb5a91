// The whole native surface of glipkit, one schema per operator. Kernels live in cpu/ and cuda/ and
// register themselves; gradients and fake kernels are in glipkit/ops, beside the Python function
// that users call.

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(glipkit, m) {
  m.def(
      "nms(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold, bool plus_one) -> "
      "Tensor");
  m.def(
      "nms_mask(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold, bool plus_one) -> "
      "Tensor");
  m.def(
      "modulated_deform_conv2d(Tensor input, Tensor offset, Tensor mask, Tensor weight, "
      "Tensor? bias, int[2] stride, int[2] padding, int[2] dilation) -> Tensor");
  m.def(
      "modulated_deform_conv2d_backward(Tensor grad_output, Tensor input, Tensor offset, "
      "Tensor mask, Tensor weight, int[2] stride, int[2] padding, int[2] dilation) -> "
      "(Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "window_attention(Tensor qkv, Tensor qkv_bias, Tensor relative_bias, int[2] size, int "
      "window, "
      "int shift) -> Tensor");
  m.def(
      "window_attention_backward(Tensor grad_output, Tensor qkv, Tensor qkv_bias, "
      "Tensor relative_bias, int[2] size, int window, int shift) -> (Tensor, Tensor, Tensor)");
  m.def(
      "bidirectional_attention(Tensor image, Tensor keys, Tensor key_bias, Tensor values, "
      "Tensor text_mask, int num_heads, bool residual, float limit, float image_dropout, "
      "float text_dropout, Tensor seed) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "bidirectional_attention_backward(Tensor grad_reads, Tensor grad_context, Tensor grad_kept, "
      "Tensor image, Tensor keys, Tensor key_bias, Tensor values, Tensor text_mask, "
      "Tensor context, Tensor kept, Tensor reference, Tensor total, int num_heads, bool residual, "
      "float limit, float image_dropout, float text_dropout, Tensor seed) -> (Tensor, Tensor, "
      "Tensor, Tensor)");
  m.def(
      "bidirectional_attention_bfloat16(Tensor image, Tensor keys, Tensor key_bias, Tensor values, "
      "Tensor text_mask, int num_heads, bool residual, float limit) -> (Tensor, Tensor, Tensor)");
  m.def("has_bfloat16_products() -> bool");
  m.def("branch_moments(Tensor branch, int[2] size) -> Tensor");
  m.def("mix_branches(Tensor same, Tensor? finer, Tensor? coarser, Tensor coefficients) -> Tensor");
}
