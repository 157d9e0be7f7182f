"""The average magnitude of natural images' spectra, which MaCo holds fixed.

It belongs to images whose values went through the logit and whose colors are decorrelated, because
MaCo applies the inverse of both (the sigmoid and the recorrelation).
"""

import os
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fvfast._shared.checks import check_size
from fvfast._shared.progress_bars import tqdm
from fvfast._shared.version import VERSION
from fvfast.spectrum.file import Kind, SpectrumFile, read_spectrum, write_spectrum
from fvfast.spectrum.natural import (
    has_unit_range,
    mean_magnitude,
    natural_magnitude,
    resample_magnitude,
    window_magnitude,
)
from fvfast.spectrum.photographs import CHANNELS, PhotographFolder

FOLDER_SIZE = (512, 512)
"""(H, W) at which a folder is measured by default."""


class Spectrum:
    """Average magnitude of images' spectra, at any size.

    Without arguments: natural images, as a closed form that is evaluated at the size asked for.
    `from_images` measures one, `from_file` reads one.

    Attributes
    ----------
    size : tuple of int or None
        (H, W) it was measured at; None for the closed form.
    image_count, skipped_count : int
        Number of images that were averaged, and of files that could not be read.
    version : str
        Version of fvfast that measured it.

    Notes
    -----
    The closed form was fitted to the average ImageNet magnitude that Xplique, faccent and DreamLens
    ship (512 x 512, windowed). Below 0.49 cycles per pixel it deviates from that array by less than
    0.10 (root mean square of the natural logarithm), about the array's own noise between
    neighboring bins.
    """

    def __init__(self) -> None:
        self._kind = Kind.NATURAL
        # (C, H, W // 2 + 1), without the Parzen window if measured. Not a tensor, because one made
        # in inference mode would be of no use in autograd.
        self._values: NDArray[np.float32] = np.empty((0, 0, 0), np.float32)
        self._windowed = True
        self.size: tuple[int, int] | None = None
        self.image_count = 0
        self.skipped_count = 0
        self.version = VERSION

    @classmethod
    def natural(cls) -> "Spectrum":
        """Average magnitude of natural images, in closed form."""
        return cls()

    @classmethod
    def of(
        cls, source: "SpectrumSource", size: tuple[int, int], channels: int, progress: bool = True
    ) -> "Spectrum":
        """Spectrum of whatever a user gives as data set.

        Parameters
        ----------
        source
            None for `natural`; a spectrum, returned as it is; or what `from_images` takes.
        size, channels
            (H, W) and number of channels at which a folder is measured.
        progress
            Show a progress bar while images are measured.

        Raises
        ------
        ValueError
            If the source is a folder and its files cannot be read with this number of channels, or
            as `from_images`.
        """
        if source is None:
            return cls.natural()
        if isinstance(source, Spectrum):
            return source
        if isinstance(source, str | os.PathLike):
            if channels not in CHANNELS:
                raise ValueError(
                    f"the data set (maco_dataset) is the folder {os.fspath(source)}, whose files "
                    f"are read with 1 or 3 channels, but the images have {channels}. Give a tensor "
                    f"of images (N, {channels}, H, W), a Spectrum of {channels} channels, or None "
                    "for the closed form."
                )
            return cls.from_images(source, size, progress, channels=channels)
        return cls.from_images(source, progress=progress)

    @classmethod
    def from_images(
        cls,
        source: str | os.PathLike[str] | torch.Tensor | Iterable[Any],
        size: tuple[int, int] | None = None,
        progress: bool = True,
        *,
        channels: int = 3,
        parzen_window: bool = True,
    ) -> "Spectrum":
        """Measure the average magnitude of images.

        Their values go through the logit, their colors (if there are 3 channels) are decorrelated,
        and the magnitudes of their spectra are averaged. Where a value of the data set is outside
        [0, 1], as with images normalized for a network, all values are taken as they are: MaCo
        standardizes its images, so the scale of a spectrum does not matter.

        Parameters
        ----------
        source
            A folder, searched with its subfolders; images (N, C, H, W) of finite floating point
            values; or an iterable of images (C, H, W) or batches (N, C, H, W), each alone or first
            in a tuple or list, as a `torch.utils.data.DataLoader` gives (images, labels).
        size
            (H, W) at which to measure. Images of another size are cropped around their center to
            this aspect and resized with antialiasing. Default: (512, 512) for a folder, the size of
            the first image for tensors.
        progress
            Show a progress bar.
        channels
            3 to read a folder's files as RGB, 1 for gray. Tensors bring their own.
        parzen_window
            Let `magnitude` apply the window of the natural spectrum, which removes the highest
            frequencies: the square root of a Parzen window for each axis, 0 at half a cycle per
            pixel.

        Returns
        -------
        spectrum
            The measured `Spectrum`.

        Raises
        ------
        NotADirectoryError
            If a path is given and is not a folder.
        OSError
            If the folder cannot be listed.
        TypeError
            If the iterable gives something other than tensors.
        ValueError
            If there are no images, their values are not finite floating point numbers, or their
            number of channels changes.

        Warns
        -----
        UserWarning
            Once, with the names of the files that could not be read and were skipped: see
            `fvfast.spectrum.photographs.PhotographFolder`.
        """
        spectrum = cls()
        if isinstance(source, str | os.PathLike):
            size = size or FOLDER_SIZE
            folder = PhotographFolder(source, size, channels, progress)
            mean = mean_magnitude(folder, size, of_logits=True)
            spectrum.skipped_count = len(folder.skipped)
        else:
            of_logits = None
            if isinstance(source, torch.Tensor) and source.numel() > 0:
                of_logits = has_unit_range(source)
            mean = mean_magnitude(_batches(source, progress), size, of_logits=of_logits)
        spectrum._kind = Kind.MEASURED
        spectrum._values, spectrum.size = mean.values.float().numpy(), mean.size
        spectrum.image_count = mean.image_count
        spectrum._windowed = parzen_window
        return spectrum

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "Spectrum":
        """Read a spectrum that `save` wrote, or an array as Xplique ships it.

        Parameters
        ----------
        path
            A ``.npz`` of `save`, or a ``.npy`` of shape (C, H, W // 2 + 1), such as Xplique's
            (3, 512, 257). The latter is resized as Xplique does: bilinearly, with half-pixel
            centers and without antialiasing, which distorts the lowest frequencies.

        Returns
        -------
        spectrum
            The `Spectrum`.

        Raises
        ------
        OSError
            If there is no such file, or it cannot be opened.
        ValueError
            If the file is neither of the two or damaged, takes more than 0.4 GiB unpacked, or its
            values are not magnitudes: complex, negative, not finite, or of another shape.
        """
        content = read_spectrum(Path(path))
        spectrum = cls()
        spectrum._kind = content.kind
        spectrum._values = content.values
        spectrum._windowed = content.parzen_window
        spectrum.size = content.size
        spectrum.image_count = content.image_count
        spectrum.skipped_count = content.skipped_count
        spectrum.version = content.version
        return spectrum

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spectrum as one compressed ``.npz`` file.

        The file appears under its name only when it is complete, also where others write it at the
        same time. Missing folders are created.

        Parameters
        ----------
        path
            Path of the file, used as it is; an existing file is replaced.

        Raises
        ------
        ValueError
            For the closed form, which needs no file, or for more than 0.4 GiB, which `from_file`
            would refuse.
        """
        if self._kind is Kind.NATURAL or self.size is None:
            raise ValueError(
                "Spectrum.save: the spectrum is the closed form; expected a measured one. "
                "Spectrum.natural() gives the closed form anywhere."
            )
        write_spectrum(
            Path(path),
            SpectrumFile(
                kind=self._kind,
                values=self._values,
                size=self.size,
                parzen_window=self._windowed,
                image_count=self.image_count,
                skipped_count=self.skipped_count,
                version=self.version,
            ),
        )

    def __repr__(self) -> str:
        if self.size is None:
            return f"Spectrum({self._kind.value} of natural images)"
        height, width = self.size
        what = f"{self._kind.value}, {_channels(self._values.shape[0])}, {height} x {width}"
        if self._kind is Kind.MEASURED:
            what += f", {self.image_count} image{'s' if self.image_count != 1 else ''}"
        return f"Spectrum({what})"

    @property
    def channels(self) -> int | None:
        """Number of channels; None for the closed form, which serves any number."""
        return None if self._kind is Kind.NATURAL else self._values.shape[0]

    def magnitude(self, height: int, width: int, channels: int = 3) -> torch.Tensor:
        """Magnitude for images of one size.

        Parameters
        ----------
        height, width
            Size of the image in pixels, each at least 2, even or odd.
        channels
            Number of channels. The closed form gives 3 channels their own formulas (lightness and
            two colors) and any other number of channels that of the lightness.

        Returns
        -------
        magnitude
            (channels, height, width // 2 + 1), float32, not negative; a new tensor on the CPU.

        Raises
        ------
        ValueError
            If the size is below 2 x 2 or the spectrum has another number of channels.
        """
        check_size(height, width, "Spectrum.magnitude")
        if channels < 1:
            raise ValueError(f"Spectrum.magnitude: channels is {channels}; expected at least 1.")
        if self.channels not in (None, channels):
            raise ValueError(
                f"the spectrum has {_channels(self.channels)}, the images have {channels}. Measure "
                f"a spectrum of images with {_channels(channels)} (Spectrum.from_images), or use "
                "the closed form (Spectrum.natural()), which serves any number."
            )
        # Ordinary tensors, also for a caller in inference mode.
        with torch.inference_mode(False):
            if self.size is None:
                return natural_magnitude(height, width, channels).float()
            values = torch.from_numpy(self._values)
            if self._kind is Kind.BILINEAR:
                size = (height, width // 2 + 1)
                return functional.interpolate(values[None], size, mode="bilinear")[0].clone()
            magnitude = resample_magnitude(values.double(), self.size, (height, width))
            if self._windowed:
                magnitude = magnitude * window_magnitude(height, width)
            return magnitude.float()


SpectrumSource = Spectrum | str | os.PathLike[str] | torch.Tensor | Iterable[Any] | None
"""What `fvfast.maco` takes as data set: see `Spectrum.of`."""


def _channels(count: int | None) -> str:
    return f"{count} channel" if count == 1 else f"{count} channels"


def _batches(source: torch.Tensor | Iterable[Any], progress: bool) -> Iterator[torch.Tensor]:
    """Batches (N, C, H, W) of a tensor, or of an iterable of images, batches or (images, ...)."""
    if isinstance(source, torch.Tensor):
        # In parts, because the spectrum needs several times the memory of the images.
        if source.ndim != 4:
            raise ValueError(
                f"Spectrum.from_images: images have shape {tuple(source.shape)}; expected "
                "(N, C, H, W)."
            )
        source = [source[i : i + 16] for i in range(0, len(source), 16)]
    total = len(source) if isinstance(source, Sized) else None
    for item in tqdm(source, total=total, desc="images", disable=not progress):
        images = item[0] if isinstance(item, tuple | list) and item else item
        if not isinstance(images, torch.Tensor):
            raise TypeError(
                f"Spectrum.from_images: an item is of type {type(images).__name__}; expected a "
                "tensor (C, H, W) or (N, C, H, W), alone or first in a tuple."
            )
        yield images[None] if images.ndim == 3 else images
