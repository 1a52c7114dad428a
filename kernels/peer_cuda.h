#pragma once
// Entries of peer_cuda.cu for the table. Contracts: cuda_comm.h.

#include "kernels/cuda_comm.h"

namespace imhotep::kernels::cuda {

void peer_counts(const Queue& queue, const PeerCounts& task);
void peer_rows(const Queue& queue, const PeerRows& task);
void peer_vector(const Queue& queue, const PeerVector& task);

void add_comm(CudaComm& comm);  // comm_cuda.cpp

}  // namespace imhotep::kernels::cuda
