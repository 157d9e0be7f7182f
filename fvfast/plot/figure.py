"""A figure that a notebook shows once."""

import matplotlib
from matplotlib import pyplot
from matplotlib.figure import Figure


class GridFigure(Figure):
    """A pyplot figure that may be the value of a notebook's cell.

    The inline back end shows all figures of pyplot at the end of a cell and closes them. IPython
    shows the value of the cell's last line besides, so a function that returns its figure would
    have it shown twice.
    """

    def _ipython_display_(self) -> None:
        """Take the figure from the inline back end before IPython shows it, whoever asked."""
        if "inline" in matplotlib.get_backend():
            pyplot.close(self)
        # IPython asks this first, and then shows the figure like any other.
        raise NotImplementedError("a figure is shown as a picture")
