"""Data sets as sequences of object clips, and from clips with truth to training examples.

``open_objects(path)`` opens any data set in ``diffvas.data.datasets.DATASETS``; ``ObjectClip`` is what it yields.
"""
