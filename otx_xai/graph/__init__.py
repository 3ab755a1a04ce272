"""Tools on an ``ov.Model``, which know nothing of what they are used for.

``view`` reads the graph, ``traits`` says what its operations do, and ``axes`` what the axes of its tensors mean;
``input_layout`` asks that of the image input, ``features`` finds where the head of a classifier begins,
``detector_heads`` and ``shared_features`` read a detector, ``elements`` follows single numbers, ``grid`` tells where
places lie in the image, and ``surgery`` edits a clone.
"""
