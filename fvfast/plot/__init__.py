"""Shows visualizations: in figures, and as PNG files with the settings they were made with."""

from fvfast.plot.plotting import Style, blend_transparency, plot_grid, plot_maco
from fvfast.plot.png import check_writable, contact_sheet, read_metadata, save_png
from fvfast.plot.video import save_video

__all__ = [
    "Style",
    "blend_transparency",
    "check_writable",
    "contact_sheet",
    "plot_grid",
    "plot_maco",
    "read_metadata",
    "save_png",
    "save_video",
]
