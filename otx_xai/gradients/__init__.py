"""Reverse-mode differentiation of an ``ov.Model``, appended to its graph; knows nothing of what it is used for.

``gradient`` has the three functions that others call, ``sweep`` walks from the outputs back to what is asked for,
``rule_table`` maps the names that ``graph/traits.py`` gives to rules, and one file a family holds these.
"""
