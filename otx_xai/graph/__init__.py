"""Analysis of an ``ov.Model`` and insertion of one XAI branch.

``view`` reads the graph, ``axes`` says what the axes of its tensors mean, ``features`` finds where the head begins,
``surgery`` edits a clone, ``heads`` evaluates the head on perturbed features, and there is one file for each
white-box method. ``insert`` is the door.
"""
