"""A figure that a notebook shows only once."""

import matplotlib
from matplotlib import pyplot
from matplotlib.figure import Figure


class GridFigure(Figure):
    """A pyplot figure that may be the value of a notebook's cell.

    At the end of a cell, the inline back end shows all figures of pyplot and closes them. IPython
    also shows the value of the cell's last line, so the figure that a function returns would be
    shown twice.
    """

    def _ipython_display_(self) -> None:
        """Remove the figure from the inline back end before IPython shows it."""
        if "inline" in matplotlib.get_backend():
            pyplot.close(self)
        # IPython calls this method first, and after this error shows the figure like any other.
        raise NotImplementedError("a figure is shown as a picture")
