# MoE kernels
