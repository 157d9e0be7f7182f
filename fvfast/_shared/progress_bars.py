"""tqdm's bar: in a notebook a widget where ipywidgets is installed, text elsewhere."""

import warnings

from tqdm import TqdmWarning

with warnings.catch_warnings():
    # In a notebook without ipywidgets, tqdm takes the bar of text, and warns at its import.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm as tqdm
