# Fused forms of a decode step. The CPU forms only call the plain kernels.
set(IMHOTEP_DECODE_KERNELS
  few_experts.cpp few_experts_cpu.cpp
  norm_gate.cpp norm_gate_cpu.cpp
  norm_gemm.cpp norm_gemm_cpu.cpp)
