# dense kernels
