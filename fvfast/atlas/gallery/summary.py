"""What a gallery shows, and what it could not."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class GallerySummary:
    """What `write_gallery` has written.

    Attributes
    ----------
    site
        The folder or URL of the pages.
    layers
        Number of layers.
    planned
        Units of the plan.
    shown
        Units that have a page.
    set_aside
        Units that the atlas has given up, after several attempts.
    with_examples
        Units that are shown beside images which excite them.
    pictures_written
        Pictures that were converted; all others were there from an earlier call.
    problems
        One line for each file that is missing where another one names it, or cannot be used: which
        file, and why. What depends on it is left out.
    """

    site: str
    layers: int
    planned: int
    shown: int
    set_aside: int
    with_examples: int
    pictures_written: int
    problems: tuple[str, ...]

    @property
    def waiting(self) -> int:
        """Units that are not shown and not set aside: they are not drawn yet, or cannot be read."""
        return self.planned - self.shown - self.set_aside
