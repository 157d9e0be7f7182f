"""The magnitudes that MaCo holds fixed: a closed form, or measured from photographs."""

from fvfast.spectrum.spectrum import FOLDER_SIZE, Spectrum, SpectrumSource

__all__ = ["FOLDER_SIZE", "Spectrum", "SpectrumSource"]
