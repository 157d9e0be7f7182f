// In place of the toolkit's, which is assembly code: see cuda_emulator/pipeline.h.
#pragma once
