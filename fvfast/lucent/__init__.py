"""Lucent's interface, run by fvfast: a script of Lucent changes its imports, and nothing else.

>>> from fvfast.lucent.optvis import render  # was: from lucent.optvis import render
>>> render.render_vis(model, "layer4:10")  # doctest: +SKIP

Modules, names, the order of arguments and the defaults are those of Lucent 0.1.8,
https://github.com/greentfrapp/lucent. The page ``docs/lucent.md`` lists what is different.
"""
