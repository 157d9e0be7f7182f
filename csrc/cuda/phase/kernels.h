// Launchers of the phase's kernels: one or two launches each.
#pragma once

#include "cuda/phase/finish.h"
#include "ops.h"

namespace fvfast::cuda {

// columns.cu. If there is a `spectrum` (N, C, H, half), the bins go there, untransformed.
void phase_columns(const PhaseImageParams& params, void* spectrum, const Target& target);

// image_rows.cu and gradient_rows.cu.
void image_rows(const PhaseImageParams& params, const Target& target);
void gradient_rows(const PhaseImageGradientParams& params, const Target& target);

// gradient_columns.cu. If there is a `transform` (N, C, H, half), of rows and columns, it is read.
void gradient_columns(const PhaseImageGradientParams& params, const void* transform,
                      const Target& target);

// phase_update.cu. If `gradient` is null, that of the params is complete.
void update_phase(const PhaseUpdateParams& params, const UnfinishedGradient* gradient,
                  const Target& target);
void finish_gradient(const PhaseImageGradientParams& params, const UnfinishedGradient& gradient,
                     const Target& target);

}  // namespace fvfast::cuda
