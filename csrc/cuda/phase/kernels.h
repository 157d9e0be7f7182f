// The kernels of the phase as functions: one or two launches each.
#pragma once

#include "cuda/phase/finish.h"
#include "ops.h"

namespace fvfast::cuda {

// columns.cu. With a spectrum (N, C, H, half) the bins go there, untransformed.
void phase_columns(const PhaseImageParams& params, void* spectrum, const Target& target);

// rows.cu.
void image_rows(const PhaseImageParams& params, const Target& target);
void gradient_rows(const PhaseImageGradientParams& params, const Target& target);

// gradient_columns.cu. With a transform (N, C, H, half), of rows and columns, from there.
void gradient_columns(const PhaseImageGradientParams& params, const void* transform,
                      const Target& target);

// phase_update.cu. Without a gradient, that of the params is finished.
void update_phase(const PhaseUpdateParams& params, const UnfinishedGradient* gradient,
                  const Target& target);
void finish_gradient(const PhaseImageGradientParams& params, const UnfinishedGradient& gradient,
                     const Target& target);

}  // namespace fvfast::cuda
