"""Reads dictionaries of directions, as libraries of sparse autoencoders save them; unpickles none.

>>> from fvfast.files.dictionaries import read_dictionary
>>> dictionary = read_dictionary("sae/")  # doctest: +SKIP
"""

from fvfast.files.dictionaries.dictionary import Dictionary as Dictionary
from fvfast.files.dictionaries.read import read_dictionary as read_dictionary
